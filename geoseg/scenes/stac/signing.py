"""Signed addresses: files that a server shows only with a signature, which ends after some time and is then asked for anew.

An address is kept without its signature, and signed when it is opened, in each process for itself. So no signature is in a
plan, a record or a message, and one that has ended is no other scene.
"""

from __future__ import annotations

import shlex
import subprocess
import threading
import time
import urllib.error
from dataclasses import dataclass
from datetime import datetime

from geoseg.addresses import is_remote, shown, unsigned
from geoseg.errors import ConfigError, ReadError, SceneError
from geoseg.redaction import sanitized
from geoseg.scenes.remote import RemoteFacts, probe
from geoseg.scenes.stac.fetch import fetch
from geoseg.scenes.stac.signer import Signer

__all__ = ["probe_signed", "renewed", "signed"]

COMMAND_S = 60.0
"""Longest time that a command may take to sign an address."""
MOST_KEPT = 10_000
"""Signatures that are kept in a process."""
DENIED = (401, 403)


@dataclass(frozen=True, slots=True)
class _Signature:
    """A signature, and when it ends."""

    text: str
    """A query; of a command the whole address."""
    ends: float | None = None
    """In seconds since 1970; None where it is not told."""


_lock = threading.Lock()
_kept: dict[tuple[str, str], _Signature] = {}


def signed(path: str, signer: Signer | None) -> str:
    """An address with a signature that is good now; paths, and addresses that none is for, as they are.

    Raises:
        ReadError: None is to be had.
    """
    if signer is None or not is_remote(path):
        return path
    bare = unsigned(path)
    if signer.service is None:
        return _current(signer, bare).text
    scope = signer.scope(bare)
    if scope is None:
        return path
    return f"{bare}{'&' if '?' in bare else '?'}{_current(signer, scope).text}"


def renewed(path: str, signer: Signer | None, used: str) -> bool:
    """Sign an address anew where a server denies the signature that was used; whether another one is there now.

    Args:
        path: The address.
        signer: How it is signed.
        used: The address with the signature that was used.

    Raises:
        ReadError: None is to be had.
    """
    if signer is None or not is_remote(path):
        return False
    if signed(path, signer) != used:
        # Another thread was faster, or its time was over.
        return True
    if not _denied(used):
        return False
    bare = unsigned(path)
    scope = bare if signer.service is None else signer.scope(bare)
    if scope is None:
        return False
    with _lock:
        _kept.pop((signer.how, scope), None)
    return signed(path, signer) != used


def probe_signed(path: str, signer: Signer | None) -> RemoteFacts | None:
    """What a server tells of a file; see ``geoseg.scenes.remote.probe``. A signature that it denies is renewed once."""
    used = signed(path, signer)
    try:
        return probe(used)
    except ReadError:
        if not renewed(path, signer, used):
            raise
    return probe(signed(path, signer))


def _denied(address: str) -> bool:
    try:
        probe(address)
    except ReadError as error:
        return isinstance(error.__cause__, urllib.error.HTTPError) and error.__cause__.code in DENIED
    except SceneError:
        return False
    return False


def _current(signer: Signer, scope: str) -> _Signature:
    # One at a time: threads that need the same one wait for it.
    with _lock:
        found = _kept.get((signer.how, scope))
        if found is None or (found.ends is not None and found.ends <= time.time()):
            found = _commanded(signer.how, scope) if signer.service is None else _asked(signer.service, scope)
            if len(_kept) >= MOST_KEPT:
                _kept.clear()
            _kept[signer.how, scope] = found
        return found


def _asked(service: str, scope: str) -> _Signature:
    document = fetch(f"{service}/{scope}").document
    token = document.get("token") if isinstance(document, dict) else None
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or {*" #"} & {*token}:
        raise ReadError(f"{shown(service)}: gives no token for {scope}; is it a service that signs addresses?")
    return _Signature(token.lstrip("?"), _moment(document.get("msft:expiry")))


def _moment(text: object) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp() if isinstance(text, str) else None
    except ValueError:
        return None


def _commanded(command: str, address: str) -> _Signature:
    """What a command prints for an address. Its own words may hold what it knows, so that they are not told."""
    try:
        call = [*shlex.split(command), address]
        # The user's own command, without a shell.
        done = subprocess.run(call, capture_output=True, text=True, timeout=COMMAND_S, check=True)  # noqa: S603 - the user's own
    except ValueError as error:
        raise ConfigError(f"scene.sign: no command: {error}") from error
    except subprocess.CalledProcessError as error:
        raise ReadError(f"{shown(address)}: the command that signs ended with exit code {error.returncode}") from None
    except subprocess.TimeoutExpired:
        raise ReadError(f"{shown(address)}: the command that signs took more than {COMMAND_S:g} s") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ReadError(f"{shown(address)}: the command that signs can't be run: {sanitized(str(error))}") from None
    lines = done.stdout.strip().splitlines()
    if len(lines) != 1 or not is_remote(lines[0].strip()):
        raise ReadError(f"{shown(address)}: the command that signs printed {len(lines)} lines; it is to print one address")
    return _Signature(lines[0].strip())
