"""What lies in folders and list files of strangers is mapped, skipped with a reason, or refused alone."""

from __future__ import annotations

import os
import socket
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from support import WriteRaster

from geoseg.errors import ConfigError, NotARasterError
from geoseg.scenes.bands.bandfiles import group_band_files
from geoseg.scenes.preflight import check_file
from geoseg.scenes.sources import Refused, list_scenes, scenes_of_addresses


def _listed(folder: Path) -> tuple[dict[str, str], dict[str, Refused]]:
    """Files of scenes by name, and what is refused by the name of its file."""
    scenes, refused = list_scenes([str(folder)], may_be_empty=True)
    return {ref.name: ref.paths[0] for ref in scenes}, {os.path.basename(item.paths[0]): item for item in refused}


def test_what_is_no_file_is_refused_alone(tmp_path: Path) -> None:
    (tmp_path / "good.tif").touch()
    os.mkfifo(tmp_path / "pipe.tif")
    (tmp_path / "device.tif").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.getcwd()
        os.chdir(tmp_path)
        try:
            listener.bind("socket.tif")
        finally:
            os.chdir(here)
        scenes, refused = _listed(tmp_path)
        for name, kind in (("pipe.tif", "a named pipe"), ("device.tif", "a device"), ("socket.tif", "a socket")):
            assert refused[name].status == "failed"
            assert kind in refused[name].reason
            with pytest.raises(NotARasterError, match=kind):
                check_file(tmp_path / name)
    assert list(scenes) == ["good"]


@pytest.mark.parametrize("side", ["a.tif.aux.xml", "a.tif.msk", "a.tif.ovr", "a.tfw", "A.TFW", "a_RPC.TXT", "a.IMD"])
def test_a_pipe_as_side_file_is_not_waited_for(write_raster: WriteRaster, side: str) -> None:
    path = write_raster(np.ones((70, 80), np.uint8), "a.tif")
    check_file(path)
    os.mkfifo(path.parent / side)
    with pytest.raises(NotARasterError, match="a named pipe"):
        check_file(path)


@pytest.mark.parametrize(
    "name", ["._a.tif", ".a.tif", ".a.1234.tmp.tif", "~$a.tif", "a.tif.part", "a.tif.crdownload", "a.TIFF.tmp", "a.tif.filepart"]
)
def test_what_others_leave_beside_images_is_skipped(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.tif").touch()
    (tmp_path / name).touch()
    for quiet in (".DS_Store", "Thumbs.db", "desktop.ini", "._.DS_Store", "~lock", ".~lock.a#"):
        (tmp_path / quiet).touch()
    scenes, refused = _listed(tmp_path)
    assert list(scenes) == ["a"]
    assert {key: item.status for key, item in refused.items()} == {name: "skipped"}


def test_names_that_are_not_utf8_are_refused_alone(tmp_path: Path) -> None:
    (tmp_path / "good.tif").touch()
    for name in (b"caf\xe9.tif", b"dir\xff/inner.tif"):
        path = os.fsencode(tmp_path) + b"/" + name
        os.makedirs(os.path.dirname(path), exist_ok=True)
        open(path, "wb").close()
    scenes, refused = _listed(tmp_path)
    assert list(scenes) == ["good"]
    assert len(refused) == 2
    for item in refused.values():
        assert "UTF-8" in item.reason
        assert item.reason.isprintable()
    assert any("caf\\xe9.tif" in item.name for item in refused.values())


def test_odd_names_are_mapped_under_names_of_their_own(tmp_path: Path) -> None:
    for name in (
        "new\nline.tif",
        "back\\slash.tif",
        "trailing .tif",
        "con.tif",
        "classes.tif.tif",
        "#?%20&'\".tif",
        "GTIFF_DIR:1:x.tif",
    ):
        (tmp_path / name).touch()
    scenes, refused = _listed(tmp_path)
    assert not refused
    assert sorted(name.rpartition("-")[0] or name for name in scenes) == sorted(
        ["new_line", "back_slash", "trailing_", "_con", "classes.tif", "#?%20&'\"", "GTIFF_DIR:1:x"]
    )


def test_composed_and_decomposed_names_are_one(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        (tmp_path / (unicodedata.normalize(form, "é") + ".tif")).touch()
    scenes, refused = _listed(tmp_path)
    assert (scenes, len(refused)) == ({}, 2)


def test_links_are_followed_once(tmp_path: Path) -> None:
    root, other = tmp_path / "in", tmp_path / "other"
    for path in (root / "sub" / "a.tif", other / "b.tif", other / "deep" / "c.tif"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (root / "linked").symlink_to(other)
    (root / "again").symlink_to(other)
    (root / "loop").symlink_to(root)
    (root / "sub" / "up").symlink_to("..")
    (other / "round").symlink_to(root)
    (root / "same.tif").symlink_to(root / "sub" / "a.tif")
    (root / "far.tif").symlink_to(other / "deep" / "c.tif")
    (root / "self.tif").symlink_to("self.tif")
    (root / "gone.tif").symlink_to("nowhere.tif")
    scenes, refused = _listed(root)
    # In the order of their names: "again" comes before "linked", and "far.tif" is the first to lead to c.
    assert {"sub/a", "again/b"} <= set(scenes)
    assert len({os.path.realpath(path) for path in scenes.values()}) == len(scenes)
    assert {name for name in scenes if os.path.exists(scenes[name])} == {"sub/a", "again/b", "again/deep/c"}
    assert {"linked", "loop", "up", "round", "same.tif", "far.tif"} <= set(refused)
    assert "leads back" in refused["loop"].reason
    assert "taken" in refused["linked"].reason


LISTS = {
    "utf-8": "a.tif\nü.tif\n".encode(),
    "bom": b"\xef\xbb\xbf" + "a.tif\r\nü.tif\r\n".encode(),
    "utf-16": "a.tif\r\nü.tif\r\n".encode("utf-16"),
    "utf-16-be": b"\xfe\xff" + "a.tif\nü.tif".encode("utf-16-be"),
    "utf-32": "a.tif\nü.tif\n".encode("utf-32"),
    "latin-1": "# région\na.tif\nü.tif\n".encode("latin-1"),
    "mac": b"a.tif\r\xc3\xbc.tif\r",
}


@pytest.mark.parametrize("encoding", LISTS)
def test_list_files_of_any_encoding_are_read(tmp_path: Path, encoding: str) -> None:
    for name in ("a.tif", "ü.tif"):
        (tmp_path / name).touch()
    (tmp_path / "list.txt").write_bytes(LISTS[encoding])
    scenes, refused = list_scenes([str(tmp_path / "list.txt")])
    assert [ref.name for ref in scenes] == ["a", "ü"]
    assert not refused


@pytest.mark.parametrize("layer", ["classes.tif", "values.tif", "buildings.gpkg"])
def test_maps_of_this_program_among_the_scenes_are_none(tmp_path: Path, layer: str) -> None:
    (tmp_path / "a.tif").touch()
    version = tmp_path / "maps" / "a" / "reviews" / "1"
    version.mkdir(parents=True)
    for folder in (version, version.parents[1]):
        for name in (layer, "confidence.tif", "density.tif"):
            (folder / name).touch()
        (folder / "run.json").write_text('{\n  "geoseg": "1.0",\n  "scene": "a"\n}')
    # Those of others are scenes, whatever they are called, and so are images that this program has made of scenes.
    other, composite = tmp_path / "other", tmp_path / "years"
    for folder, name, record in ((other, "classes.tif", '{"run": 7}'), (composite, "2020.tif", '{"geoseg": "1.0"}')):
        folder.mkdir()
        (folder / name).touch()
        (folder / "run.json").write_text(record)
    scenes, refused = _listed(tmp_path)
    assert (list(scenes), refused) == (["a", "other/classes", "years/2020"], {})
    with pytest.raises(ConfigError, match="holds a map of geoseg, and no scene; to map a file of it, name the file"):
        list_scenes([str(version.parents[1])])
    assert len(list_scenes([str(version / "confidence.tif")])[0]) == 1


def test_what_runs_have_written_to_the_output_is_no_scene(tmp_path: Path) -> None:
    """Composites and other images of this program, too, where the output lies among the scenes; what else is there is one."""
    root, maps = tmp_path / "in", tmp_path / "in" / "maps"
    for name in (
        "a",
        "maps/composites/2020",
        "maps/composites/observations/2020_observations",
        "maps/mine/b",
        "years/2020",
        "one",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / f"{name}.tif").touch()
    for folder in ("maps/composites", "years"):
        (root / folder / "run.json").write_text('{"geoseg": "1.0"}')

    def listed(text: Path | str, out: Path) -> list[str]:
        return sorted(os.path.relpath(ref.paths[0], root) for ref in list_scenes([str(text)], out=out)[0])

    link = tmp_path / "link"
    link.symlink_to(root)
    for text, out in ((root, maps), (f"{root}/**/*.tif", maps), (root, link / "maps"), (root / ".." / "in", maps)):
        assert listed(text, out) == ["a.tif", "maps/mine/b.tif", "one.tif", "years/2020.tif"], (text, out)
    for text in (root, f"{root}/**/*.tif"):
        assert "one.tif" not in listed(text, root / "one.tif")
        assert "years/2020.tif" not in listed(text, root / "years")
    # Whoever names them, or their folder, means them.
    composite = "maps/composites/2020.tif"
    for text in (maps / "composites", f"{maps}/composites/*.tif", root / composite):
        assert composite in listed(text, maps)


def test_lists_that_name_each_other_alone_hold_no_scene(tmp_path: Path) -> None:
    one, two = tmp_path / "one.txt", tmp_path / "two.txt"
    one.write_text("two.txt\n")
    two.write_text("one.txt\n")
    with pytest.raises(ConfigError, match="no scene; a list that names other lists alone has none"):
        list_scenes([str(one)])
    assert list_scenes([str(one)], may_be_empty=True) == ([], [])
    (tmp_path / "a.tif").touch()
    two.write_text("one.txt\na.tif\n")
    assert [ref.name for ref in list_scenes([str(one)])[0]] == ["a"]


@pytest.mark.parametrize(
    "data", [b"a.tif\0\nb.tif\n", "a.tif\n".encode("utf-16-le"), b"\x81\x8d\x8f\n", b"\xff\xfea", b"\0" * 100]
)
def test_list_files_that_are_no_text_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "list.txt").write_bytes(data)
    with pytest.raises(ConfigError, match="encoding"):
        list_scenes([str(tmp_path / "list.txt")])


ENTRIES = (
    "/vsicurl/http://127.0.0.1:9/a.tif",
    "/vsizip/a.zip/a.tif",
    "/vsis3/bucket/a.tif",
    "/VSICURL/http://127.0.0.1:9/a.tif",
    'NETCDF:"a.nc":band',
    "GTIFF_DIR:1:a.tif",
    "HDF5:a.h5://x",
    "file:///etc/hostname",
    "ftp://127.0.0.1/a.tif",
    "data:image/tiff;base64,AA",
    "gopher://127.0.0.1/",
    "missing.tif",
    "x" * 9000,
    "x" * 300 + ".tif",
    "<VRTDataset/>",
    "WMS:http://127.0.0.1:9/",
    "list.txt",
)


def _of_list(folder: Path, entries: Sequence[str]) -> tuple[list[str], list[Refused]]:
    (folder / "list.txt").write_text("\n".join([*entries, "a.tif"]), encoding="utf-8")
    scenes, refused = list_scenes([str(folder / "list.txt")])
    return [ref.name for ref in scenes], refused


@pytest.mark.parametrize("entry", ENTRIES)
def test_entries_of_lists_open_nothing_else(tmp_path: Path, entry: str) -> None:
    (tmp_path / "a.tif").touch()
    names, refused = _of_list(tmp_path, [entry])
    assert names == ["a"]
    assert len(refused) == (entry != "list.txt")
    assert all(item.status == "failed" and "list.txt" in item.reason for item in refused)


def test_a_list_that_names_itself_a_thousand_times_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "a.tif").touch()
    (tmp_path / "b.txt").write_text("list.txt\n" * 1000)
    assert _of_list(tmp_path, ["list.txt"] * 1000 + ["b.txt"] * 1000) == (["a"], [])


def test_objects_of_a_store_stay_below_the_output() -> None:
    base = "s3://bucket/prefix"
    keys = ["a/b.tif", "../../up.tif", "a//c.tif", "./d.tif", "e\nf.tif", "T21_B04.tif", "T21_B03.tif"]
    names = [ref.name for ref in scenes_of_addresses([f"{base}/{key}" for key in keys], f"{base}/")]
    assert {"a/b", "T21"} <= set(names)
    assert all(part not in ("", ".", "..") and part.isprintable() for name in names for part in name.split("/"))


def test_band_files_by_signed_addresses_are_one_scene() -> None:
    addresses = [f"https://u:p@host/x/T21_{band}.tif?sig={band}" for band in ("B03", "B04")]
    assert group_band_files(addresses) == ([("https://host/x/T21", addresses, ["green", "red"])], [])


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("https://h/a%2Fb.tif", "a_b"),
        ("https://h/%2e%2e", "_"),
        ("https://h/..%2f..%2fx.tif", "__"),
        ("https://h/", "scene"),
        ("http://[::1/bad.tif", "bad"),
        ("https://h/a.tif?sig=x", "a"),
        ("https://u:p/w@h/a.tif", "a"),
    ],
)
def test_names_of_addresses(address: str, name: str) -> None:
    ((ref,), _) = list_scenes([address])
    assert ref.name.startswith(name)
    assert "/" not in ref.name
