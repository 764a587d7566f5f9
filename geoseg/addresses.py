"""Addresses: which are remote, how one may be shown, what identifies it, and which texts of strangers open other doors.

Nothing is opened here, and nothing raises: what stands in an address comes from outside.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

__all__ = [
    "LAYER",
    "SCHEMES",
    "gdal_path",
    "host_of",
    "is_remote",
    "opens_elsewhere",
    "path_of",
    "secrets_of",
    "shown",
    "split_layer",
    "unsigned",
]

SCHEMES = ("http", "https", "s3", "gs", "az")
"""Schemes of remote files. Object stores are asked with the credentials of the environment."""
LEAST_SECRET = 4
"""Shorter parts of addresses are not looked for elsewhere: they are part of other words."""
HIDDEN = "…"
"""Stands for what is not shown."""

_REMOTE = re.compile(rf"(?:{'|'.join(SCHEMES)})://", re.IGNORECASE)
_ADDRESS = re.compile(
    # Python's paths take the second slash away.
    r"(?P<prefix>(?:/vsi\w+/)*)(?P<scheme>[a-z][a-z0-9+.-]*(?=://)|https?|s3|gs|az|ftp|tcp|tls):/{1,2}"
    r"(?P<authority>[^/?#\\]*)(?P<path>[^?#]*)(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_VSI_QUERY = re.compile(r"(?P<vsi>/vsi\w+)\?.*", re.IGNORECASE | re.DOTALL)
_HOST = re.compile(r"(?:\[[0-9a-f:.%]*\]|[^\s:@\[\]]*)(?::\d*)?", re.IGNORECASE)
_SCHEME = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_DRIVER = re.compile(r"(?P<driver>[a-z][a-z0-9_+.-]+):", re.IGNORECASE)
_SECRET_PARAMETERS = re.compile(
    # S3 and Google, version 4 and before; CloudFront; shared access signatures of Azure.
    r"x-(?:amz|goog)-.*|signature|awsaccesskeyid|googleaccessid|expires|key-pair-id|policy"
    r"|sig|s[evptrdi]|sr[t]?|sip|spr|sdd|scid|saoid|suoid|ske|sks|skv|skt|skoid|sktid|rscc|rscd|rsce|rscl|rsct|ses"
    r"|.*(?:token|secret|passw|api_?key|access_?key|credential).*|key|auth|jwt|hmac|pwd|user(?:name)?",
    re.IGNORECASE,
)
_KEYED = re.compile(
    r"(?P<key>(?<![\w-])(?:sig|pwd|jwt|hmac|[\w-]{0,40}"
    r"(?:signature|token|passw(?:or)?d|secret|credential|api[_-]?key|(?:access|account)[_-]?key)"
    r"[\w-]{0,40})(?:=|%3d))[^\s&;,/\"')\]}]*[^\s&;,/\"')\]}:.]",
    re.IGNORECASE,
)


def is_remote(path: str) -> bool:
    """Whether a path is an address on a server or in an object store."""
    return _REMOTE.match(path) is not None


def shown(path: str) -> str:
    """A path as it may stand in a message, a log or a report: an address without credentials, query and fragment."""
    if (match := _VSI_QUERY.fullmatch(path)) is not None:
        return f"{match['vsi']}?{HIDDEN}"
    match = _ADDRESS.fullmatch(path)
    if match is None:
        return path
    host = _host(match["authority"])
    return f"{match['prefix']}{match['scheme']}://{host}{'' if host == HIDDEN else hide_keyed(match['path'])}"


def host_of(address: str) -> str:
    """Scheme and host of an address whose path is a secret, too, as that of a webhook."""
    match = _ADDRESS.fullmatch(address)
    return HIDDEN if match is None else f"{match['scheme']}://{_host(match['authority'])}/{HIDDEN}"


def unsigned(address: str) -> str:
    """The identity of an address: without credentials, signature and fragment; stable when it is signed anew."""
    match = _ADDRESS.fullmatch(address)
    if match is None:
        return shown(address)
    query = match["rest"].partition("#")[0].removeprefix("?")
    kept = [part for part in query.split("&") if part and not _SECRET_PARAMETERS.fullmatch(part.partition("=")[0])]
    return shown(address) + ("?" + "&".join(kept) if kept else "")


def secrets_of(address: str) -> tuple[str, ...]:
    """Secret parts of an address, as libraries may quote them alone: its credentials, query and fragment."""
    match = _ADDRESS.fullmatch(address)
    if match is None:
        return ()
    query, _, fragment = match["rest"].removeprefix("?").partition("#")
    user = match["authority"].rpartition("@")[0]
    found = (query, fragment, user, user.partition(":")[2])
    return tuple(text for text in found if len(text) >= LEAST_SECRET)


def path_of(address: str) -> str:
    """The path of an address, from its first slash on, as it is written."""
    match = _ADDRESS.fullmatch(address)
    return address if match is None else match["path"]


def opens_elsewhere(text: str) -> str | None:
    """Say why a text that a stranger wrote is neither a local path nor the address of a remote file; None where it is one.

    GDAL takes prefixes as orders: ``/vsicurl/`` and its kin, ``NETCDF:``, ``GTIFF_DIR:``; others open files of this machine.
    """
    if text.lower().startswith("/vsi"):
        return "names a file system of GDAL"
    if is_remote(text):
        return None
    if (match := _SCHEME.match(text)) is not None:
        return f"{match['scheme']}:// is not opened, only {', '.join(SCHEMES)}"
    if (match := _DRIVER.match(text)) is not None:
        return f"names {match['driver']}: rather than a file"
    return None


def gdal_path(path: str) -> str:
    """A path in a form that GDAL takes as nothing but a path: a file may be called ``GTIFF_DIR:1:other.tif``."""
    return path if is_remote(path) else os.path.abspath(path)


def hide_keyed(text: str) -> str:
    """A text without the values of what is named as a signature, token, password or key."""
    return _KEYED.sub(lambda match: match["key"] + HIDDEN, text) if "=" in text or "%3" in text else text


def _host(authority: str) -> str:
    """Host and port; a password can hold what ends an authority, so that what is no host is not shown."""
    host = authority.rpartition("@")[2]
    return host if _HOST.fullmatch(host) else HIDDEN


LAYER = "|layername="
"""Stands between the path of a file and the name of one of its layers, as QGIS writes it."""


def split_layer(path: str | Path) -> tuple[Path, str | None]:
    """The file of ``FILE|layername=NAME`` and the name; a file that is called so itself is meant as it is."""
    text = os.fspath(path)
    name, mark, layer = text.partition(LAYER)
    return (Path(name), layer) if mark and layer and not os.path.lexists(text) else (Path(text), None)
