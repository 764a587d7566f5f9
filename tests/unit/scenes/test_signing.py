"""Signed addresses: kept without their signature, signed when opened, and anew when a server denies it."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio
from catalogue import asset, catalogue, item
from rasterio.transform import Affine
from support import TRANSFORM, WriteRaster, call_cli

from geoseg.clouds.hidden import HiddenRaster
from geoseg.errors import ConfigError, ReadError
from geoseg.models.model_folder import Model
from geoseg.scenes.opening import open_scene
from geoseg.scenes.reader import SceneReader
from geoseg.scenes.scene import OpenOptions
from geoseg.scenes.stac.items import scenes_of_items
from geoseg.scenes.stac.search import StacSearch
from geoseg.scenes.stac.signer import PLANETARY_COMPUTER, Signer
from geoseg.scenes.stac.signing import renewed, signed
from geoseg.scenes.stac.told import Told
from geoseg.windows import Window
from pipeline.config.sections import Config


@pytest.mark.parametrize(
    ("address", "collection", "scope"),
    [
        ("https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/20/L/a.tif", None, "sentinel2l2a01/sentinel2-l2"),
        ("https://a.blob.core.windows.net/c/x.tif", "naip", "a/c"),
        # A signature is for nobody else.
        ("https://evil.example/blob.core.windows.net/c/a.tif", "naip", None),
        ("https://a.blob.core.windows.net.evil.example/c/a.tif", "naip", None),
        ("http://a.blob.core.windows.net/c/a.tif", "naip", None),
        ("https://planetarycomputer.microsoft.com/a.tif", "na/ip", "na%2Fip"),
        ("https://planetarycomputer.microsoft.com/a.tif", None, None),
        ("https://planetarycomputer.microsoft.com:444/a.tif", "naip", None),
    ],
)
def test_addresses_are_signed_for_their_own_store(address: str, collection: str | None, scope: str | None) -> None:
    signer = Signer(PLANETARY_COMPUTER, collection)
    assert signer.scope(address) == scope
    if scope is None:
        assert signed(address, signer) == address
    assert signed("/data/a.tif", signer) == "/data/a.tif"
    assert signed(address, None) == address


LIFETIME_S = 3.0


def pixels(side: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 6, (side, side), np.uint8)


def test_a_signature_that_ends_is_renewed_while_a_scene_is_read(write_raster: WriteRaster, tmp_path: Path) -> None:
    image = pixels(2048)
    write_raster(image, "a.tif", blockxsize=256, blockysize=256)
    with catalogue(tmp_path, lifetime=LIFETIME_S) as api:
        started = time.monotonic()
        signer = f"{api.base}/token"
        # One that has ended long ago, as an item has it that was kept.
        address = f"{api.base}/in/a.tif?sig=0LD&version=7"
        with pytest.raises(ReadError, match="403"):
            open_scene([address])
        scene = open_scene([address], options=OpenOptions(sign=signer), told=Told(collection="c"))
        with SceneReader(scene, (0,)) as reader:
            halves = [Window.at((0, 0), (1024, 2048)), Window.at((1024, 0), (1024, 2048))]
            first = reader.read(halves[0]).data
            time.sleep(LIFETIME_S + 0.1)
            denied = api.denied
            second = reader.read(halves[1]).data
        assert (np.concatenate([first[0], second[0]]) == image).all()
        assert api.denied > denied
        time.sleep(LIFETIME_S + 0.1)
        scene.verify_unchanged()
        # Once an expiry, however many threads were denied.
        assert 3 <= len(api.tokens) <= 2 + (time.monotonic() - started) / LIFETIME_S
        assert {path for _, path, _ in api.asked} == {"/token/c"}
        assert "T0KEN" not in repr(scene)
        assert "0LD" not in signed(address, Signer(signer, "c"))
        assert "version=7" in signed(address, Signer(signer, "c"))


def test_a_denial_that_no_signature_mends_is_told_without_it(write_raster: WriteRaster, tmp_path: Path) -> None:
    write_raster(pixels(128), "a.tif")
    with catalogue(tmp_path, lifetime=-1.0) as api:
        signer = Signer(f"{api.base}/token", "c")
        with pytest.raises(ReadError, match="403") as caught:
            open_scene([f"{api.base}/in/a.tif"], options=OpenOptions(sign=signer.how), told=Told(collection="c"))
        assert "T0KEN" not in str(caught.value)
        assert len(api.tokens) <= 3
        used = signed(f"{api.base}/in/b.tif", signer)
        api.lifetime = 60.0
        # What is not there is not denied.
        assert not renewed(f"{api.base}/in/b.tif", signer, used)
        with pytest.raises(ReadError, match="gives no token for c"):
            signed(f"{api.base}/in/a.tif", Signer(f"{api.base}/api", "c"))


def test_a_mask_is_signed_as_its_scene(write_raster: WriteRaster, identity_model: Model, tmp_path: Path) -> None:
    """The map from signed addresses is that from files, clouds left out; a signature that ends meanwhile is renewed."""
    image = pixels(256)
    scene, mask = write_raster(image, "a.tif"), write_raster((image > 3).astype(np.uint8), "mask_a.tif")
    outs = [tmp_path / "local", tmp_path / "signed"]
    common = ["-m", identity_model.path, "--formats", "none", "--clouds"]
    with catalogue(tmp_path, lifetime=60.0) as api:
        document = tmp_path / "items.json"
        document.write_text(json.dumps(item("a", {"visual": asset(f"{api.base}/in/a.tif")})))
        remote = ["segment", document, *common, f"{api.base}/in/mask_{{name}}.tif", "-o", outs[1]]
        assert call_cli(remote).returncode == 1
        assert call_cli(["segment", scene, *common, mask, "-o", outs[0]]).returncode == 0
        done = call_cli([*remote, "--sign", f"{api.base}/token"])
        assert done.returncode == 0, done.stderr
        found = []
        for out in outs:
            with rasterio.open(out / "a" / "classes.tif") as dataset:
                found.append(dataset.read())
        np.testing.assert_array_equal(*found)
        assert len(np.unique(found[0])) > 2
        assert "T0KEN" not in (outs[1] / "a" / "run.json").read_text()
    with catalogue(tmp_path, lifetime=LIFETIME_S) as api:
        place = open_scene([str(scene)]).georeference
        hidden = HiddenRaster(f"{api.base}/in/mask_a.tif", place, image.shape, signer=Signer(f"{api.base}/token", "c"))
        for _ in range(2):
            assert (hidden.read(Window.of(image.shape)) == (image > 3)).all()
            time.sleep(LIFETIME_S + 0.1)


@pytest.mark.parametrize(("key", "kind", "classes"), [("SCL", "scl", "0,1,3,8,9,10"), ("Fmask", "fmask", None)])
def test_the_classification_of_an_item_hides_the_ground_and_is_signed(
    write_raster: WriteRaster, identity_model: Model, tmp_path: Path, key: str, kind: str, classes: str | None
) -> None:
    """The same map as of files with the same classification; on half the pixels, as those of the red edge have it."""
    image = pixels(256)
    scene = write_raster(image, "a.tif")
    values = np.random.default_rng(3).integers(0, 12, (image.shape[0] // 2, image.shape[1] // 2), np.uint8)
    coarse = TRANSFORM @ Affine.scale(2)
    layer = write_raster(values, "layer.tif", transform=coarse)
    mask = layer if classes else write_raster((values & 0b1110 > 0).astype(np.uint8), "mask.tif", transform=coarse)
    outs = [tmp_path / "local", tmp_path / "signed"]
    common = ["-m", identity_model.path, "--formats", "none", "--clouds"]
    with catalogue(tmp_path, lifetime=60.0) as api:
        assets = {
            "visual": asset(f"{api.base}/in/a.tif"),
            key: asset(f"{api.base}/in/layer.tif?sig=0LD", roles=["data", "cloud"]),
        }
        document = tmp_path / "items.json"
        document.write_text(json.dumps(item("a", assets)))
        remote = ["segment", document, "--assets", "visual", "-o", outs[1], "--sign", f"{api.base}/token", *common]
        done = call_cli([*remote, "auto"])
        assert done.returncode == 0, done.stderr
        other = call_cli([*remote, "udm2"])
        assert other.returncode == 1
        assert f"no quality layer 'udm2', but {kind}" in other.stderr
    more = ["--cloud-classes", classes] if classes else []
    assert call_cli(["segment", scene, *common, mask, *more, "-o", outs[0]]).returncode == 0
    found = []
    for out in outs:
        with rasterio.open(out / "a" / "classes.tif") as dataset:
            found.append(dataset.read())
    np.testing.assert_array_equal(*found)
    record = (outs[1] / "a" / "run.json").read_text()
    assert "T0KEN" not in record
    assert "0LD" not in record
    run = json.loads(record)
    assert run["given"]["told"]["quality"] == [{"kind": kind, "path": f"{api.base}/in/layer.tif"}]
    assert 0 < run["clouds"]["pixels"] < image.size


def test_an_item_of_a_server_names_no_classification_on_this_machine(write_raster: WriteRaster, tmp_path: Path) -> None:
    layer = write_raster(np.ones((8, 8), np.uint8), "layer.tif")
    for href in (f"file://{layer}", str(layer), "/vsicurl/http://h/x.tif"):
        one = item("a", {"visual": asset("https://h/a.tif"), "scl": asset(href)})
        (found,), refused = scenes_of_items([one], "https://h/api", StacSearch(assets=("visual",)), local=False)
        assert not refused
        assert found.ref.told is not None
        assert found.ref.told.quality == ()


def test_a_command_signs(write_raster: WriteRaster, tmp_path: Path) -> None:
    image = pixels(256)
    write_raster(image, "a.tif")
    script = tmp_path / "sign.py"
    with catalogue(tmp_path, lifetime=60.0) as api:
        script.write_text(
            "import json, sys, urllib.request\n"
            f"token = json.load(urllib.request.urlopen('{api.base}/token/x'))['token']\n"
            "print(sys.argv[-1] + '?' + token)\n"
        )
        scene = open_scene([f"{api.base}/in/a.tif"], options=OpenOptions(sign=f"{sys.executable} '{script}' --key K3Y"))
        with SceneReader(scene, (0,)) as reader:
            assert (reader.read(Window.of(image.shape)).data[0] == image).all()
        assert len(api.tokens) == 1
    for command, words in (
        ("false", "exit code 1"),
        ("printf one", "printed 1 lines"),
        ("true", "printed 0 lines"),
        ("no-such-program-of-mine", "can't be run"),
    ):
        with pytest.raises(ReadError, match=words):
            signed("https://h/secret.tif?sig=K3Y", Signer(command))
    with pytest.raises(ConfigError, match="no command"):
        signed("https://h/a.tif", Signer("echo 'x"))


def test_runs_tell_no_signature_and_a_new_one_is_no_other_run(
    write_raster: WriteRaster, identity_model: Model, tmp_path: Path
) -> None:
    write_raster(pixels(128), "a.tif")
    with catalogue(tmp_path, lifetime=60.0) as api:
        api.items.append(item("s", {"visual": asset(f"{api.base}/in/a.tif")}))
        given = ["segment", f"stac+{api.base}/api", "-m", identity_model.path, "-o", tmp_path / "out", "--formats", "none"]
        assert "403" in call_cli(given).stderr
        done = call_cli([*given, "--sign", f"{api.base}/token", "--json"])
        assert done.returncode == 0, done.stderr
        again = call_cli([*given, "--sign", f"{api.base}/token"])
        assert "1 skipped" in again.stderr
    kept = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert b"T0KEN" not in kept + (done.stdout + done.stderr + again.stderr).encode()
    assert json.loads((tmp_path / "out" / "s" / "run.json").read_text())["config"]["scene"]["sign"] == f"{api.base}/token"


def test_commands_that_sign_are_not_recorded_and_change_no_result() -> None:
    plain, command = Config(), Config.parse({"scene": {"sign": "tool --key K3Y"}})
    assert command.public()["scene"]["sign"] is None
    assert Config.parse({"scene": {"sign": PLANETARY_COMPUTER}}).public()["scene"]["sign"] == PLANETARY_COMPUTER
    assert (plain.result_hash(), plain.chunk_hash()) == (command.result_hash(), command.chunk_hash())
