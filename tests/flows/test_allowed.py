"""What a deployment's flows may touch: whatever else their parameters name is refused before it is read or written."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

pytest.importorskip("prefect")

from flows.access.allowed import Allowed, check, check_scene, check_webhook, lists_of
from flows.access.roots import has_secret, is_within
from geoseg.errors import ConfigError, SceneError
from geoseg.scenes.sources import SceneRef
from geoseg.scenes.stac.told import Told, ToldQuality
from pipeline.config.sections import Config

SOURCES = ("https://maps.example/in", "s3://bucket/inbox/", "stac+https://api.example/v1")


@pytest.mark.parametrize(
    "address",
    [
        "https://maps.example/in",
        "https://maps.example/in/",
        "https://maps.example/in/a.tif",
        "HTTPS://Maps.Example:443/in/a%20b.tif",
        "s3://bucket/inbox/2024/a.tif",
        "stac+https://api.example/v1",
        "stac+https://api.example:443/v1/search",
    ],
)
def test_addresses_below_a_root_are_within(address: str) -> None:
    assert is_within(address, SOURCES)


@pytest.mark.parametrize(
    "address",
    [
        "https://maps.example/inbox2/a.tif",
        "https://maps.example/in.evil/a.tif",
        "https://maps.example",
        "https://maps.example/in/../private/a.tif",
        "https://maps.example/in/%2e%2e/private/a.tif",
        "https://maps.example/in/%252e%252e/private/a.tif",
        "https://maps.example/in/..%2fprivate/a.tif",
        "https://maps.example/in/..\\private",
        "https://maps.example.evil.example/in/a.tif",
        "https://maps.example@evil.example/in/a.tif",
        "https://maps.example:secret@evil.example/in/a.tif",
        "https://evil.example\\@maps.example/in/a.tif",
        "https://evil.example#@maps.example/in/a.tif",
        "https://maps.example:8443/in/a.tif",
        "https://maps.example./in/a.tif",
        "http://maps.example/in/a.tif",
        "ftp://maps.example/in/a.tif",
        "https://maps.example/in\n/../x",
        "https:///in/a.tif",
        "https://169.254.169.254/latest/meta-data",
        "s3://bucket/inbox2/a.tif",
        "s3://bucket2/inbox/a.tif",
        "gs://bucket/inbox/a.tif",
        "stac+https://api.example/v2",
        "https://api.example/v1",
        "file:///in/a.tif",
        "/vsicurl/https://maps.example/in/a.tif",
        "https:/maps.example/in/a.tif",
    ],
)
def test_all_other_addresses_are_outside(address: str) -> None:
    assert not is_within(address, SOURCES)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """An inbox, what lies beside it, and links from one to the other."""
    for name in ("inbox/deep", "inbox2", "private", "out"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "private" / "secret.tif").write_text("secret")
    (tmp_path / "inbox" / "a.tif").write_text("scene")
    (tmp_path / "inbox" / "link.tif").symlink_to(tmp_path / "private" / "secret.tif")
    (tmp_path / "inbox" / "folder").symlink_to(tmp_path / "private")
    (tmp_path / "inbox" / "loop").symlink_to(tmp_path / "inbox" / "loop")
    (tmp_path / "alias").symlink_to(tmp_path / "inbox")
    return tmp_path


@pytest.mark.parametrize("path", ["inbox", "inbox/a.tif", "inbox/*.tif", "inbox/**/x?.tif", "inbox/deep/../a.tif", "alias/a.tif"])
def test_paths_below_a_root_are_within(place: Path, path: str) -> None:
    assert is_within(f"{place}/{path}", [f"{place}/inbox"])
    assert is_within(f"{place}/{path}", [f"{place}/alias/"])


@pytest.mark.parametrize(
    "path",
    [
        "{}",
        "{}/inbox2/a.tif",
        "{}/inbox/../private/secret.tif",
        "{}/inbox/*/../../private/*.tif",
        "{}/inbox*/a.tif",
        "{}/inbox/link.tif",
        "{}/inbox/folder/secret.tif",
        "{}/inbox/folder/../private/secret.tif",
        "{}/inbox/a.tif\x00/../../x",
        "inbox/a.tif",
        "../inbox/a.tif",
        "~/a.tif",
        "",
        "GTIFF_DIR:1:{}/inbox/a.tif",
        "/vsizip/{}/inbox/a.zip/a.tif",
        "/proc/self/environ",
        "/dev/stdin",
    ],
)
def test_all_other_paths_are_outside(place: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    assert not is_within(path.format(place), [f"{place}/inbox"])


@pytest.mark.parametrize(
    ("address", "secret"),
    [
        ("https://maps.example/a.tif", False),
        ("s3://bucket/a.tif", False),
        ("/data/what?.tif", False),
        ("https://user:pass@maps.example/a.tif", True),
        ("https://token@maps.example/a.tif", True),
        ("https://maps.example/a.tif?X-Amz-Signature=abc", True),
        ("https://maps.example/a.tif#token", True),
        ("stac+https://user:pass@api.example", True),
    ],
)
def test_what_may_be_a_credential_is_seen(address: str, secret: bool) -> None:
    assert has_secret(address) == secret


# The check of a flow's parameters.


@pytest.fixture
def lists(place: Path, monkeypatch: pytest.MonkeyPatch) -> Allowed:
    """The lists of a deployment, in the environment."""
    found = Allowed(
        sources=(f"{place}/inbox", *SOURCES),
        out=(f"{place}/out",),
        models=("amazon-forest", f"{place}/models", "maker/"),
        schedulers=("tcp://scheduler:8786", f"{place}/tls"),
        webhooks=("env:GEOSEG_WEBHOOK",),
    )
    for name, value in found.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GEOSEG_WEBHOOK", "https://hooks.example/services/T0KEN")
    monkeypatch.setenv("GEOSEG_OTHER", "https://other.example/T0KEN")
    monkeypatch.setenv("POSTGRES_PASSWORD", "hunter2-T0KEN")
    return found


def refused(**given: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        check(**given)
    message = str(caught.value)
    assert "\n" not in message
    assert "T0KEN" not in message
    return message


def test_lists_travel_through_the_environment(lists: Allowed) -> None:
    assert Allowed.read(os.environ) == lists
    assert Allowed.read({}) is None
    assert Allowed.read({"GEOSEG_ALLOWED_SOURCES": "/a, /b"}) == Allowed(sources=("/a", "/b"))


def test_what_a_deployment_is_for_is_let_through(place: Path, lists: Allowed) -> None:
    del lists
    config = Config.parse(
        {
            "run": {"scheduler": "tcp://scheduler:8786", "scratch": f"{place}/out/scratch"},
            "watch": {"webhook": "env:GEOSEG_WEBHOOK"},
            "dates": {"masks": ["none", f"{place}/inbox/clouds.tif"]},
            "area": {"aoi": f"{place}/inbox/areas.gpkg|layername=a"},
            "scene": {"clouds": f"{place}/inbox/{{name}}_mask.tif"},
        }
    )
    for clouds in ("auto", "scl", "model:amazon-forest"):
        check(config=Config.parse({"scene": {"clouds": clouds}}))
    check(
        read={"sources": [f"{place}/inbox", "s3://bucket/inbox/"], "zones": [None]},
        written={"out": [f"{place}/out/a"]},
        models={"model": ["amazon-forest", "maker/forest@v1", f"{place}/models/mine"]},
        config=config,
    )


@pytest.mark.parametrize("key", ["sources", "zones", "footprints", "recipe", "data.labels"])
@pytest.mark.parametrize("text", ["{}/private", "{}/inbox/../private/x.gpkg", "https://evil.example/x.tif", "{}/inbox/link.tif"])
def test_sources_elsewhere_are_refused(place: Path, lists: Allowed, key: str, text: str) -> None:
    del lists
    assert "is outside of what this deployment may use" in refused(read={key: [text.format(place)]})


@pytest.mark.parametrize(
    "text", ["{}", "{}/out/../../escaped", "{}/outside", "relative", "/tmp", "s3://bucket/inbox/", "{}/inbox"]
)
def test_nothing_is_written_elsewhere(place: Path, lists: Allowed, text: str) -> None:
    del lists
    assert refused(written={"out": [text.format(place)]}).startswith("out: ")
    assert refused(config=Config.parse({"run": {"scratch": text.format(place)}})).startswith("run.scratch: ")


@pytest.mark.parametrize("text", ["buildings", "{}/private", "../models/x", "{}/models/../private", "other/forest", "maker/../x"])
def test_other_models_are_refused(place: Path, lists: Allowed, text: str) -> None:
    del lists
    assert refused(models={"model": [text.format(place)]}).startswith("model: ")


def test_a_folder_that_is_named_like_a_model_of_the_hub_is_refused(
    place: Path, lists: Allowed, monkeypatch: pytest.MonkeyPatch
) -> None:
    del lists
    (place / "maker" / "forest").mkdir(parents=True)
    monkeypatch.chdir(place)
    assert refused(models={"model": ["maker/forest"]}).startswith("model: ")


def test_other_schedulers_masks_and_vrts_are_refused(place: Path, lists: Allowed) -> None:
    del lists
    tls = {"tls_ca": f"{place}/tls/ca", "tls_cert": f"{place}/tls/cert", "tls_key": f"{place}/private/key"}
    for document, key in (
        ({"run": {"scheduler": "tcp://evil.example:8786"}}, "run.scheduler"),
        ({"run": {"scheduler": f"{place}/private/scheduler.json"}}, "run.scheduler"),
        ({"run": {"scheduler": "tcp://scheduler:8786", **tls}}, "run.tls_key"),
        ({"dates": {"masks": ["none", f"{place}/private/secret.tif"]}}, "dates.masks"),
        ({"area": {"aoi": f"{place}/private/areas.gpkg|layername=a"}}, "area.aoi"),
        ({"area": {"aoi": "POLYGON (1)/../../private/areas.gpkg"}}, "area.aoi"),
        ({"scene": {"clouds": f"{place}/private/{{name}}.tif"}}, "scene.clouds"),
        ({"scene": {"clouds": "model:other/clouds"}}, "scene.clouds"),
        ({"scene": {"allow_vrt": True}}, "scene.allow_vrt"),
        ({"scene": {"sign": "sh -c x"}}, "scene.sign"),
        ({"scene": {"sign": "https://evil.example/token"}}, "scene.sign"),
    ):
        assert refused(config=Config.parse(document)).startswith(f"{key}: ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("https://hooks.example/services/T0KEN", "the address of a webhook is a secret"),
        ("env:GEOSEG_OTHER", "is outside of what this deployment may use"),
        ("env:GEOSEG_MISSING", "is not set"),
        ("env:POSTGRES_PASSWORD", "no other secrets are read"),
        ("env:PATH", "no other secrets are read"),
        ("secret:database", "no other secrets are read"),
    ],
)
def test_webhooks_are_named_and_listed(lists: Allowed, text: str, said: str) -> None:
    del lists
    assert said in refused(config=Config.parse({"watch": {"webhook": text}}))


def test_the_address_behind_the_name_can_be_listed_instead(lists: Allowed) -> None:
    del lists
    assert check_webhook("env:GEOSEG_OTHER", Allowed(webhooks=("https://other.example/",))) == "https://other.example/T0KEN"
    with pytest.raises(ConfigError, match="holds no http"):
        check_webhook("env:GEOSEG_ALLOWED_SOURCES", Allowed())


def test_secrets_are_no_parameters_whoever_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GEOSEG_ALLOWED")]:
        monkeypatch.delenv(name)
    assert "webhook" in refused(config=Config.parse({"watch": {"webhook": "https://hooks.example/T0KEN"}}))
    assert "sources" in refused(read={"sources": ["https://maps.example/a.tif?sig=T0KEN"]})
    assert "run.scratch" in refused(config=Config.parse({"run": {"scratch": "s3://key:T0KEN@bucket/x"}}))
    # Without secrets, a program that calls a flow may do what it could do itself.
    check(read={"sources": ["/anywhere", "https://maps.example/a.tif"]}, written={"out": ["relative"]})


def test_a_signed_source_is_named_and_still_bound(place: Path, lists: Allowed, monkeypatch: pytest.MonkeyPatch) -> None:
    del lists
    monkeypatch.setenv("GEOSEG_SIGNED", "https://maps.example/in/a.tif?sig=T0KEN")
    check(read={"sources": ["env:GEOSEG_SIGNED"]})
    monkeypatch.setenv("GEOSEG_SIGNED", f"{place}/private/T0KEN")
    assert "env:GEOSEG_SIGNED" in refused(read={"sources": ["env:GEOSEG_SIGNED"]})


def test_what_a_list_file_names_is_checked_too(place: Path, lists: Allowed) -> None:
    del lists
    (place / "inbox" / "good.txt").write_text(f"a.tif\n# a comment\n{place}/inbox/deep/b.tif\n")
    check(read={"sources": [f"{place}/inbox/good.txt"]})
    for line in ("../private/secret.tif", "http://169.254.169.254/x.tif", "link.tif", "../private/more.txt"):
        (place / "inbox" / "bad.txt").write_text(f"a.tif\n{line}\n")
        assert "bad.txt: " in refused(read={"sources": [f"{place}/inbox/bad.txt"]})
    (place / "inbox" / "outer.txt").write_text("bad.txt\n")
    assert "bad.txt: " in refused(read={"sources": [f"{place}/inbox/outer.txt"]})


@pytest.mark.parametrize("name", ["..", ".", "", "a/../../b", "/etc/x", "a//b", "a/./b", "a\nb", "a\x00b", "link", "link/b"])
def test_a_scene_can_not_be_mapped_outside_of_the_output(place: Path, name: str) -> None:
    (place / "out" / "link").symlink_to(place / "private")
    with pytest.raises((ConfigError, SceneError), match=r"can't name a folder of the output|leads by a link"):
        check_scene(SceneRef(name, (f"{place}/inbox/a.tif",)), f"{place}/out")


def test_scenes_that_lead_outside_are_refused_alone(place: Path, lists: Allowed, monkeypatch: pytest.MonkeyPatch) -> None:
    del lists
    out = f"{place}/out"
    check_scene(SceneRef("a", (f"{place}/inbox/a.tif",)), out)
    # What the listed STAC API names may be anywhere, but on no disk.
    check_scene(SceneRef("a", ("https://assets.example/a.tif?sig=x",)), out)
    outside = (
        f"{place}/inbox/link.tif",
        f"{place}/inbox/folder/secret.tif",
        "/vsicurl/https://evil.example/a.tif",
        "file:///a.tif",
    )
    for path in outside:
        with pytest.raises(SceneError, match="is outside"):
            check_scene(SceneRef("a", (f"{place}/inbox/a.tif", path)), out)
        with pytest.raises(SceneError, match="is outside"):
            check_scene(SceneRef("a", (f"{place}/inbox/a.tif",), later=(SceneRef("b", (path,)),)), out)
        told = Told(quality=(ToldQuality("scl", path),))
        with pytest.raises(SceneError, match="is outside"):
            check_scene(SceneRef("a", (f"{place}/inbox/a.tif",), told=told), out)
    monkeypatch.setenv("GEOSEG_ALLOWED_SOURCES", f"{place}/inbox")
    with pytest.raises(SceneError, match="is outside"):
        check_scene(SceneRef("a", ("https://assets.example/a.tif",)), out)


def test_serve_allows_what_it_serves_and_no_more(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEOSEG_WEBHOOK", "https://hooks.example/T0KEN")
    config = Config.parse({"watch": {"webhook": "env:GEOSEG_WEBHOOK"}, "run": {"scratch": f"{place}/scratch"}})
    found = lists_of([f"{place}/inbox/*.tif"], f"{place}/out", "amazon-forest", config)
    assert "T0KEN" not in json.dumps(found.environment())
    for name, value in found.environment().items():
        monkeypatch.setenv(name, value)
    given: dict[str, Any] = {"written": {"out": [f"{place}/out"]}, "models": {"model": ["amazon-forest"]}, "config": config}
    check(read={"sources": [f"{place}/inbox/*.tif"]}, **given)
    refused(read={"sources": [f"{place}/private"]}, **given)


BOUND = {
    "run.scheduler",
    "run.scratch",
    "run.tls_ca",
    "run.tls_cert",
    "run.tls_key",
    "area.aoi",
    "dates.masks",
    "scene.clouds",
    "watch.webhook",
    "scene.allow_vrt",
    "scene.sign",
}
HARMLESS = {
    # Numbers, dates, names of bands and classes, units; reference systems are checked where they are read.
    "scene.bands",
    "scene.nodata",
    "area.aoi_column",
    "mosaic.within",
    "scene.rescale",
    "scene.cloud_classes",
    "scene.cloud_band",
    "scene.clouds_buffer",
    "dates.mask_band",
    "scene.target_crs",
    "scene.assume_crs",
    "infer.device",
    "infer.provider",
    "infer.memory",
    "infer.tile_timeout",
    "vector.classes",
    "vector.min_area",
    "run.date",
    "dates.acquired",
    "dates.of",
    "dates.least_area",
    "stac.collections",
    "stac.datetime",
    "stac.assets",
    "watch.settle",
    "watch.done_marker",
    "watch.scan_timeout",
    "watch.retry_delay",
    "watch.retry_most",
}


def _texts(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _texts(kind, f"{prefix}{name}.")
        elif str in _parts(kind):
            yield prefix + name


def _parts(kind: Any) -> set[Any]:
    return {kind}.union(*(_parts(part) for part in get_args(kind) if not isinstance(part, str)))


def test_each_text_of_the_settings_is_bound_or_known_to_be_harmless() -> None:
    """Who adds one decides which."""
    assert set(_texts(Config)) - HARMLESS == BOUND - {"scene.allow_vrt"}
