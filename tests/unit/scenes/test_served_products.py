"""Products on servers: the scene of their folder, by the address of their metadata, and nothing from elsewhere."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio.errors
from archive_products import LANDSAT_NAME, sentinel2_pixels, write_landsat, write_safe
from catalogue import catalogue
from faulty_server import faulty_server
from support import call_cli

from geoseg.clouds.opening import open_source
from geoseg.errors import NotARasterError, ReadError, SceneError
from geoseg.scenes.clouds import CloudLayer
from geoseg.scenes.opening import open_scene
from geoseg.scenes.pixels.file_pixels import FilePixels
from geoseg.scenes.pixels.layout import Layout
from geoseg.scenes.products.served import ServedContainer
from geoseg.scenes.reader import SceneReader
from geoseg.scenes.scene import OpenOptions, Scene
from geoseg.scenes.sources import list_scenes
from geoseg.windows import Window

SHAPE = (96, 128)


def product(folder: Path, form: str, level: str = "L2SP") -> Path:
    """A product, at level 1 with a band of 15 m, and its metadata in one form."""
    noise = np.random.default_rng(0).integers(1, 60000, (5, *SHAPE), np.uint16)
    pixels = {band: noise[i] for i, band in enumerate((2, 3, 4, 10))}
    if level.startswith("L1"):
        pixels[8] = noise[4].repeat(2, axis=0).repeat(2, axis=1)
    found = write_landsat(folder, pixels, level=level, form="txt" if form == "txt" else "json")
    if form == "xml":
        (path,) = found.glob("*_MTL.json")
        ((top, groups),) = json.loads(path.read_text()).items()
        root = ET.Element(top)
        for name, facts in groups.items():
            group = ET.SubElement(root, name)
            for key, value in facts.items():
                ET.SubElement(group, key).text = value
        ET.ElementTree(root).write(path.with_suffix(".xml"), xml_declaration=True, encoding="UTF-8")
        path.unlink()
    return found


def metadata_of(folder: Path) -> Path:
    (path,) = folder.glob("*_MTL.*")
    return path


def facts(scene: Scene) -> Scene:
    """What does not depend on where its files lie."""
    return replace(
        scene,
        files=tuple(replace(file, path=Path(file.path).name, signer=None) for file in scene.files),
        quality=tuple(replace(layer, path=Path(layer.path).name) for layer in scene.quality),
        sources=(),
        fingerprint="",
        modified=None,
    )


@pytest.mark.parametrize(("form", "level"), [("txt", "L2SP"), ("json", "L1TP"), ("xml", "L2SP")])
def test_a_product_on_a_server_is_that_of_its_folder(tmp_path: Path, form: str, level: str) -> None:
    folder = product(tmp_path, form, level)
    with faulty_server(folder) as address:
        (ref,), refused = list_scenes([f"{address}/{metadata_of(folder).name}"])
        assert not refused
        assert ref.name == LANDSAT_NAME.replace("L2SP", level)
        scene, local = open_scene(ref.paths, ref.name), open_scene(str(folder))
        assert facts(scene) == facts(local)
        assert [layer.kind for layer in scene.quality] == ["qa"]
        window = Window.at((10, 20), (50, 60))
        with SceneReader(scene, range(len(scene.bands))) as reader, SceneReader(local, range(len(local.bands))) as disk:
            found, expected = reader.read(window), disk.read(window)
        np.testing.assert_array_equal(found.data, expected.data)
        np.testing.assert_array_equal(found.valid, expected.valid)
        assert open_scene(ref.paths).fingerprint == scene.fingerprint == scene.fingerprint_now()
        # Metadata of another size are another scene: they say what the pixels mean. (The server gives no other version.)
        path = metadata_of(folder)
        path.write_text(path.read_text().replace("-40.5", "-41.25"))
        assert scene.fingerprint_now() != scene.fingerprint


def test_a_product_is_signed(tmp_path: Path) -> None:
    folder = product(tmp_path, "json")
    with catalogue(folder, lifetime=60.0) as api:
        address = f"{api.base}/{metadata_of(folder).name}"
        with pytest.raises(ReadError, match=r"403 \(access is denied\)"):
            open_scene(address)
        # A command signs whatever it is asked to.
        script = tmp_path / "sign.py"
        script.write_text(f"import sys\nprint(sys.argv[1] + '?' + {api.token()['token']!r})")
        scene = open_scene(address, options=OpenOptions(sign=f"{sys.executable} {script}"))
        with SceneReader(scene, (0,)) as reader:
            assert reader.read(Window.of(SHAPE)).valid.all()
        assert scene.fingerprint_now() == scene.fingerprint
        assert "sig=" not in json.dumps([*scene.own_paths, scene.path])


@pytest.mark.parametrize("name", ["../secret.TIF", "https://evil.example/a.TIF", "/etc/a.TIF", "sub/../../a.TIF", "a\\b.TIF"])
def test_metadata_name_nothing_elsewhere(tmp_path: Path, name: str) -> None:
    folder = product(tmp_path, "json")
    path = metadata_of(folder)
    document: dict[str, Any] = json.loads(path.read_text())
    document["LANDSAT_METADATA_FILE"]["PRODUCT_CONTENTS"]["FILE_NAME_BAND_2"] = name
    path.write_text(json.dumps(document))
    with faulty_server(folder) as address, pytest.raises(SceneError, match="was not opened"):
        open_scene(f"{address}/{path.name}")


def test_what_is_not_there_is_left_out_and_what_a_server_fails_at_is_not(tmp_path: Path) -> None:
    folder = product(tmp_path, "txt")
    name = metadata_of(folder).name
    next(folder.glob("*_SR_B3.TIF")).unlink()
    with faulty_server(folder) as address:
        scene = open_scene(f"{address}/{name}")
        assert scene.product is not None
        assert [band.name for band in scene.product.absent] == ["b3"]
        assert "404" in scene.product.absent[0].reason
        with pytest.raises(ReadError, match="404"):
            open_scene(f"{address}/{name.replace('002068', '999999')}")
    with faulty_server(folder, "503every=2") as address:
        assert [band.name for band in open_scene(f"{address}/{name}").bands] == [band.name for band in scene.bands]
    with faulty_server(folder, "norange") as address, pytest.raises(ReadError, match="parts of a file"):
        open_scene(f"{address}/{name}")


def test_a_document_that_is_denied_is_not_one_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "MTD_TL.xml").write_text("<a/>")
    for mode, words in (("auth", "403"), ("ok", None)):
        with faulty_server(tmp_path, mode) as address:
            container = ServedContainer(address, "server", "", {}, address=f"{address}/X_MTL.txt", signer=None, documents={})
            if words is None:
                assert container.find("MTD_TL.xml") == "MTD_TL.xml"
                assert container.read("MTD_TL.xml") == b"<a/>"
                assert container.find("other.xml") is None
            else:
                with pytest.raises(ReadError, match=words):
                    container.find("MTD_TL.xml")


def test_what_is_not_read_from_servers_is_told_in_a_sentence() -> None:
    with pytest.raises(ReadError, match="no valid address"):
        open_scene(f"http://[::1/{LANDSAT_NAME}_MTL.txt")
    with pytest.raises(NotARasterError, match="its https address"):
        open_scene(f"s3://bucket/{LANDSAT_NAME}_MTL.txt")


@pytest.fixture
def safe(tmp_path: Path) -> Path:
    scl = np.random.default_rng(1).integers(2, 12, (60, 60), np.uint8)
    return write_safe(tmp_path, sentinel2_pixels(120), scl=scl)


def test_a_safe_on_a_server_is_that_of_its_folder(safe: Path) -> None:
    with catalogue(safe.parent) as api:
        (ref,), refused = list_scenes([f"{api.base}/{safe.name}/MTD_MSIL2A.xml?key=0PEN"])
        assert not refused
        assert ref.name == safe.name.removesuffix(".SAFE")
        scene, local = open_scene(ref.paths, ref.name), open_scene(str(safe))
        without_blocks = [replace(facts(one), files=()) for one in (scene, local)]
        assert replace(without_blocks[0], quality=()) == replace(without_blocks[1], quality=())
        assert [layer.kind for layer in scene.quality] == ["scl"]
        for window in (Window.of((120, 120)), Window.at((30, 41), (20, 30))):
            with SceneReader(scene, range(len(scene.bands))) as reader, SceneReader(local, range(len(local.bands))) as disk:
                found, expected = reader.read(window), disk.read(window)
            np.testing.assert_array_equal(found.data, expected.data)
            np.testing.assert_array_equal(found.valid, expected.valid)
        hidden = [
            open_source(CloudLayer(layer=one.quality[0]), one.georeference, (120, 120)).read(Window.of((120, 120)))
            for one in (scene, local)
        ]
        np.testing.assert_array_equal(*hidden)
        assert 0 < hidden[0].mean() < 1
        assert "0PEN" not in scene.path


def test_a_safe_without_metadata_of_its_tile_and_one_cut_short(safe: Path) -> None:
    (tile,) = safe.glob("GRANULE/*/MTD_TL.xml")
    tile.unlink()
    (image,) = safe.glob("GRANULE/*/IMG_DATA/R10m/*_B02_10m.jp2")
    with catalogue(safe.parent) as api:
        address = f"{api.base}/{safe.name}/MTD_MSIL2A.xml"
        scene = open_scene(address)
        assert scene.product is not None
        assert scene.product.sun_azimuth is None
        image.write_bytes(image.read_bytes()[:-400])
        band = next(i for i, one in enumerate(scene.bands) if one.name == "b02")
        pixels = FilePixels(scene)
        layout = Layout.of(scene, scene.bands[band].file, (scene.bands[band],))
        with pytest.raises((ReadError, rasterio.errors.RasterioError)):
            pixels.read(layout, Window.of((120, 120)))
        pixels.close()


def test_the_command_line_inspects_it(tmp_path: Path) -> None:
    folder = product(tmp_path, "json")
    with faulty_server(folder) as address:
        done = call_cli(["inspect", f"{address}/{metadata_of(folder).name}"])
    assert done.returncode == 0, done.stderr
    assert LANDSAT_NAME in done.stdout
