"""Limits of a deployment, on what its flows may touch: lists in the environment of the process that runs them, checked first.

- ``GEOSEG_ALLOWED_SOURCES``: folders and addresses that are read: scenes, masks, areas, zones, footprints, recipes, labels.
- ``GEOSEG_ALLOWED_OUT``: folders, and addresses of scratch space, that are written.
- ``GEOSEG_ALLOWED_MODELS``: model folders, names, ``owner/name`` or ``owner/`` on the hub.
- ``GEOSEG_ALLOWED_SCHEDULERS``: addresses and files of Dask schedulers, files of TLS or their folder.
- ``GEOSEG_ALLOWED_WEBHOOKS``: ``env:GEOSEG_WEBHOOK``, ``secret:geoseg-ops``, or addresses that these may hold.
- ``GEOSEG_ALLOWED_VRT``: ``yes`` lets ``scene.allow_vrt`` be set; VRTs can name any other file or address.

Each is separated by commas, or a JSON list. A flow that a server started touches what is on them and nothing else; one
that a program calls itself is bound where one of them is set.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from prefect.context import FlowRunContext

from flows.access.references import HOW, check_plain, is_reference, resolve
from flows.access.roots import is_within
from geoseg.errors import ConfigError, OutputError, SceneError
from geoseg.scenes.names import check_inside
from geoseg.scenes.remote import is_remote, shown
from geoseg.scenes.sources import LISTS, STAC, Refused, SceneRef, list_entries
from geoseg.scenes.stac.signer import PLANETARY_COMPUTER, Signer
from geoseg.vectors.given_area import file_of_area
from pipeline.config.sections import Config

__all__ = ["Allowed", "Texts", "allowed", "check", "check_scene", "check_webhook", "lists_of", "sort_out"]

PREFIX = "GEOSEG_ALLOWED_"
LIST_DEPTH = 5
Texts = Mapping[str, Iterable[str | None]]
"""What parameters hold, by their names."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """The lists of a deployment; an empty one allows nothing."""

    sources: tuple[str, ...] = ()
    out: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    schedulers: tuple[str, ...] = ()
    webhooks: tuple[str, ...] = ()
    vrt: tuple[str, ...] = ()

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Allowed | None:
        """The lists of an environment; None where it has none of them.

        Raises:
            ConfigError: One is neither a JSON list nor separated by commas.
        """
        names = [field.name for field in fields(cls) if PREFIX + field.name.upper() in environment]
        if not names:
            return None
        return cls(**{name: _parse(PREFIX + name.upper(), environment[PREFIX + name.upper()]) for name in names})

    def environment(self) -> dict[str, str]:
        """The variables that say the same."""
        return {PREFIX + field.name.upper(): json.dumps(getattr(self, field.name)) for field in fields(self)}

    def holds(self, kind: str, place: str) -> bool:
        """Whether a path or an address is on a list."""
        return is_within(place, self._roots(kind))

    @property
    def has_stac(self) -> bool:
        """Whether a STAC API is among the sources."""
        return any(root.startswith(STAC) for root in self._roots("sources"))

    def _roots(self, kind: str) -> list[str]:
        return [resolve(PREFIX + kind.upper(), root) for root in getattr(self, kind)]

    def refusal(self, kind: str, key: str, text: str) -> ConfigError:
        """Build the error of a text that is not on a list."""
        roots = ", ".join(shown(root) for root in getattr(self, kind)) or "nothing"
        where = f"{PREFIX}{kind.upper()} in the environment of the process that runs the flow"
        return ConfigError(f"{key}: {shown(text)} is outside of what this deployment may use ({roots}); {where} lists it")


def _parse(name: str, text: str) -> tuple[str, ...]:
    if not text.lstrip().startswith("["):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{name}: neither a JSON list nor separated by commas: {error}") from error
    if not all(isinstance(part, str) for part in found):
        raise ConfigError(f"{name}: the JSON list holds something that is no text")
    return tuple(found)


def lists_of(sources: Sequence[str], out: str, model: str, config: Config) -> Allowed:
    """The least lists with which a scan of these works."""
    run, dates = config.run, config.dates
    return Allowed(
        sources=(
            *sources,
            *(mask for mask in dates.masks or () if mask.lower() != "none"),
            *_area_files(config),
            *_texts(config.scene.cloud_file),
        ),
        out=(out, *((run.scratch,) if run.scratch else ())),
        models=(model, *_texts(config.scene.cloud_model)),
        schedulers=tuple(text for text in (run.scheduler, run.tls_ca, run.tls_cert, run.tls_key) if text),
        webhooks=(config.watch.webhook,) if config.watch.webhook else (),
        vrt=("yes",) if config.scene.allow_vrt else (),
    )


def _area_files(config: Config) -> list[str]:
    """The file of an area of interest; none for a box or WKT."""
    path = None if config.area.aoi is None else file_of_area(config.area.aoi)
    return [] if path is None else [str(path)]


def _texts(text: str | None) -> tuple[str, ...]:
    return () if text is None else (text,)


def allowed(deployment: object = None) -> Allowed | None:
    """Limits of the flow that is running; None where a program called it, and no list is set.

    Args:
        deployment: The deployment that it belongs to; by default, the one of the running flow.
    """
    context = FlowRunContext.get()
    if deployment is None and context is not None and context.flow_run is not None:
        deployment = context.flow_run.deployment_id
    return Allowed.read(os.environ) or (Allowed() if deployment is not None else None)


def check(
    *, read: Texts | None = None, written: Texts | None = None, models: Texts | None = None, config: Config | None = None
) -> None:
    """Refuse parameters of a flow that lead outside of what its deployment may touch, or carry secrets.

    Args:
        read: What is read, by the names of the parameters.
        written: What is written.
        models: Models.
        config: Settings, of which all that name files, addresses and servers are checked.

    Raises:
        ConfigError: One of them does.
    """
    lists = allowed()
    read, written = {**(read or {})}, {**(written or {})}
    schedulers: Texts = {}
    if config is not None:
        run, masks = config.run, [mask for mask in config.dates.masks or () if mask.lower() != "none"]
        read |= {"dates.masks": masks, "area.aoi": _area_files(config)}
        written["run.scratch"] = [run.scratch]
        read["scene.clouds"], models = [config.scene.cloud_file], {**(models or {}), "scene.clouds": [config.scene.cloud_model]}
        schedulers = {f"run.{name}": [getattr(run, name)] for name in ("scheduler", "tls_ca", "tls_cert", "tls_key")}
        if config.watch.webhook is not None:
            check_webhook(config.watch.webhook, lists)
        _check_signer(config.scene.sign, lists)
        if config.scene.allow_vrt and lists is not None and "yes" not in lists.vrt:
            raise ConfigError(f"scene.allow_vrt: VRTs can name any file; {PREFIX}VRT=yes of the worker lets them be opened")
    for kind, texts in (("sources", read), ("out", written), ("schedulers", schedulers)):
        for key, text in _given(texts):
            check_plain(key, text)
            if lists is not None:
                _check_place(lists, kind, key, text)
    if lists is not None:
        for key, text in _given(models or {}):
            _check_model(lists, key, text)


def _check_signer(how: str | None, lists: Allowed | None) -> None:
    """Refuse a command, which a parameter is not to run, and services that are not listed."""
    key = "scene.sign"
    if how is None or how == PLANETARY_COMPUTER or lists is None:
        return
    if Signer(how).service is None:
        raise ConfigError(f"{key}: a command is not run for a deployment; give {PLANETARY_COMPUTER} or the address of a service")
    check_plain(key, how)
    if not lists.holds("sources", how):
        raise lists.refusal("sources", key, how)


def _given(texts: Texts) -> Iterable[tuple[str, str]]:
    return ((key, text) for key, values in texts.items() for text in values if text is not None)


def _check_place(lists: Allowed, kind: str, key: str, text: str, depth: int = 0) -> None:
    place = resolve(key, text) if kind == "sources" else text
    if not lists.holds(kind, place):
        raise lists.refusal(kind, key, text)
    if kind == "sources" and Path(place).suffix.lower() in LISTS and os.path.isfile(place) and depth < LIST_DEPTH:
        for entry in list_entries(Path(place)):
            _check_place(lists, kind, f"{key}: {shown(text)}", entry, depth + 1)


def _check_model(lists: Allowed, key: str, text: str) -> None:
    if text in lists.models or lists.holds("models", text):
        return
    repository = text.partition("@")[0]
    owner = repository.partition("/")[0] + "/"
    # A folder of the same name would be taken first.
    if ".." in text or os.path.exists(text) or not {repository, owner} & {*lists.models}:
        raise lists.refusal("models", key, text)


def check_webhook(text: str, lists: Allowed | None) -> str:
    """The address of a webhook that a setting names.

    Raises:
        ConfigError: It is written out, not there, or not allowed.
    """
    key = "watch.webhook"
    if not is_reference(text):
        raise ConfigError(f"{key}: the address of a webhook is a secret, and {HOW}")
    address = resolve(key, text)
    if not address.startswith(("http://", "https://")):
        raise ConfigError(f"{key}: {text} holds no http or https address")
    if lists is not None and not lists.holds("webhooks", address):
        raise lists.refusal("webhooks", key, text)
    return address


def check_scene(ref: SceneRef, out: str) -> None:
    """Refuse a scene that a source names: its files lead outside, or its folder would lie outside of the output.

    Raises:
        SceneError: This scene is refused; the others go on.
    """
    try:
        check_inside(Path(out), ref.name)
    except OutputError as error:
        raise SceneError(str(error)) from error
    lists = allowed()
    layers = [layer.path for one in (ref, *ref.later) if one.told is not None for layer in one.told.quality]
    for path in (*(path for one in (ref, *ref.later) for path in one.paths), *layers):
        # What an item of a STAC API names is as good as the API; the server that it is on need not be listed.
        if lists is not None and not (lists.holds("sources", path) or (is_remote(path) and lists.has_stac)):
            raise SceneError(str(lists.refusal("sources", "scene", path)))


def sort_out(scenes: Sequence[SceneRef], out: str) -> tuple[list[SceneRef], list[Refused]]:
    """The scenes that a deployment may read, and the others with their reasons."""
    inside, outside = [], []
    for ref in scenes:
        try:
            check_scene(ref, out)
        except SceneError as error:
            outside.append(Refused(ref.name, ref.paths, "failed", str(error)))
        else:
            inside.append(ref)
    return inside, outside
