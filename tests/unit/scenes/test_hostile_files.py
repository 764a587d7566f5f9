"""Files of strangers: nothing that they name is opened, whatever they are called and whatever lies beside them."""

from __future__ import annotations

import json
import sqlite3
import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio.raw
import pytest
import rasterio
import shapely
from canary import Canary, canary
from support import TRANSFORM, UTM

from geoseg.clouds.hidden import HiddenRaster
from geoseg.errors import GeosegError, NotARasterError, ReadError, SceneError, SceneTooLargeError
from geoseg.georeference import Georeference
from geoseg.labels.images import read_image
from geoseg.labels.rasters import RasterLabels
from geoseg.labels.vectors import read_features
from geoseg.scenes.gdal import IMAGES, gdal_env, open_dataset, open_raster
from geoseg.scenes.opening import open_scene
from geoseg.scenes.reader import SceneReader
from geoseg.scenes.scene import MemoryLimit, OpenOptions
from geoseg.vectors.opening import open_vector
from geoseg.vectors.polygon_file import PolygonFile
from geoseg.windows import Window
from pipeline.files.class_rasters import open_class_raster
from pipeline.files.maps import MapFiles
from pipeline.files.overviews import shrunken
from pipeline.sample.file import read_sample

SIDE, SECRET = 64, 99
PLACE = Georeference(tuple(TRANSFORM)[:6], UTM)
WHOLE = Window.of((SIDE, SIDE))


@pytest.fixture(scope="module")
def bird(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Canary]:
    with canary(tmp_path_factory.mktemp("canary")) as found:
        yield found


def write(path: Path, value: int = 7, side: int = SIDE, **profile: Any) -> Path:
    given = {"driver": "GTiff", "count": 1, "height": side, "width": side, "dtype": "uint8", "crs": UTM, "transform": TRANSFORM}
    with rasterio.open(path, "w", **given | profile) as dataset:
        dataset.write(np.full((dataset.count, side, side), value, dataset.dtypes[0]))
    return path


def vrt(source: str, side: int = SIDE) -> str:
    return (
        f'<VRTDataset rasterXSize="{side}" '
        f'rasterYSize="{side}"><SRS>{UTM}</SRS><GeoTransform>430000,10,0,8930000,0,-10</GeoTransform>'
        '<Metadata><MDI key="INTERNAL_MASK_FLAGS_1">2</MDI></Metadata><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f"<SourceFilename>{source}</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
    )


def tags(path: Path, domain: str, **values: str) -> None:
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(ns=domain, **values)


def beside_mask(path: Path, target: str) -> None:
    path.with_name(f"{path.name}.msk").write_text(vrt(target))


def beside_overview(path: Path, target: str) -> None:
    path.with_name(f"{path.name}.ovr").write_text(vrt(target, SIDE // 2))


def beside_mask_overview(path: Path, target: str) -> None:
    write(path.with_name(f"{path.name}.msk"), 255)
    path.with_name(f"{path.name}.msk.ovr").write_text(vrt(target, SIDE // 2))


def beside_erdas(path: Path, target: str) -> None:
    path.with_suffix(".aux").write_text("EHFA_HEADER_TAG" + vrt(target))


def beside_notes(path: Path, target: str) -> None:
    text = f'<PAMDataset><Metadata domain="overviews"><MDI key="overview&#95;file">{target}</MDI></Metadata></PAMDataset>'
    path.with_name(f"{path.name}.aux.xml").write_text(text)


def named_overview(path: Path, target: str) -> None:
    tags(path, "OVERVIEWS", OVERVIEW_FILE=target)


def named_coordinates(path: Path, target: str) -> None:
    tags(
        path,
        "GEOLOCATION",
        X_DATASET=target,
        Y_DATASET=target,
        X_BAND="1",
        Y_BAND="1",
        PIXEL_OFFSET="0",
        LINE_OFFSET="0",
        PIXEL_STEP="1",
        LINE_STEP="1",
    )


def is_vrt(path: Path, target: str) -> None:
    path.write_text(vrt(target))


def is_vrt_in_xml(path: Path, target: str) -> None:
    path.write_text(f'<?xml version="1.0"?>\n<!-- a GeoTIFF -->\n{vrt(target)}')


def is_hdf5_behind_a_tiff(path: Path, target: str) -> None:
    path.write_bytes(b"II*\0" + b"\0" * 508 + b"\x89HDF\r\n\x1a\n" + target.encode())


RASTER_ATTACKS = [
    beside_mask,
    beside_overview,
    beside_mask_overview,
    beside_erdas,
    beside_notes,
    named_overview,
    named_coordinates,
    is_vrt,
    is_vrt_in_xml,
    is_hdf5_behind_a_tiff,
]


def as_scene(path: Path) -> Any:
    scene = open_scene([str(path)], "a", OpenOptions())
    with SceneReader(scene, (0,)) as reader:
        return reader.read(WHOLE).data


RASTER_READERS: dict[str, Callable[[Path], Any]] = {
    "scene": as_scene,
    "warped scene": lambda path: open_scene([str(path)], "a", OpenOptions(target_crs="EPSG:4326")),
    "labels": lambda path: RasterLabels(str(path), PLACE, SIDE, SIDE, {"7": 1, "99": 2}).read(WHOLE),
    "labels of another grid": lambda path: RasterLabels(str(path), PLACE, 2 * SIDE, SIDE, {"7": 1, "99": 2}).read(WHOLE),
    "clouds": lambda path: HiddenRaster(str(path), PLACE, (SIDE, SIDE)).read(WHOLE),
    "map": lambda path: open_class_raster(str(path), OpenOptions())[0].classes(WHOLE),
    "confidence of a map": lambda path: MapFiles("a", str(path), str(path)).percents(WHOLE, (SIDE, SIDE)),
    "picture": lambda path: shrunken(str(path), 32),
    "image to train from": lambda path: read_image(str(path)),
}


@pytest.mark.parametrize("reader", RASTER_READERS)
@pytest.mark.parametrize("attack", RASTER_ATTACKS, ids=lambda attack: attack.__name__)
def test_no_raster_opens_another(attack: Callable[[Path, str], None], reader: str, tmp_path: Path, bird: Canary) -> None:
    secret, before = write(tmp_path / "secret.tif", SECRET), len(bird.asked)
    for number, target in enumerate((str(secret), f"/vsicurl/{bird.address}/{attack.__name__}-{reader[:3]}.tif")):
        (folder := tmp_path / str(number)).mkdir()
        path = write(folder / "a.tif")
        attack(path, target)
        with pytest.raises(SceneError, match=r"a\.tif") as caught:
            RASTER_READERS[reader](path)
        assert len(str(caught.value).splitlines()) == 1
    assert bird.asked[before:] == []


def test_a_file_is_opened_by_the_one_driver_for_its_content(tmp_path: Path) -> None:
    picture = write(tmp_path / "a.tif", driver="PNG", crs=None, transform=None)
    with pytest.raises(NotARasterError, match=r"a\.tif: a PNG image"):
        open_raster(picture)
    with gdal_env(), open_raster(picture, IMAGES) as dataset:
        assert (dataset.driver, dataset.read().max()) == ("PNG", 7)
    is_vrt(tmp_path / "b.tif", str(write(tmp_path / "c.tif")))
    with pytest.raises(ReadError, match=r"b\.tif: can't be opened"):
        open_dataset(str(tmp_path / "b.tif"), "GTiff")


def test_the_canary_sings(tmp_path: Path, bird: Canary) -> None:
    """Plain GDAL asks it, so that the tests above can fail."""
    path = tmp_path / "a.tif"
    is_vrt(path, f"/vsicurl/{bird.address}/sings.tif")
    with pytest.raises(rasterio.errors.RasterioError), rasterio.open(path) as dataset:
        dataset.read()
    assert any("sings.tif" in line for line in bird.asked)


@pytest.mark.parametrize("name", ["GTIFF_DIR:1:a.tif", "VRTDataset:a.tif", "a#b?c.tif", "zip:a.tif", "vrt:a.tif"])
def test_names_mean_nothing_to_gdal(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.tif", SECRET)
    write(tmp_path / name, 5)
    assert (as_scene(Path(name)) == 5).all()


@pytest.mark.parametrize(
    "path", ["/vsicurl/{0}/a.tif", "/vsizip/a.zip/a.tif", "GTIFF_DIR:1:{1}", "vrt://{1}", "/vsisubfile/0_9,{1}", "ZARR:{1}"]
)
def test_names_that_gdal_would_interpret_are_no_files(path: str, tmp_path: Path, bird: Canary) -> None:
    secret, before = write(tmp_path / "secret.tif", SECRET), len(bird.asked)
    for read in RASTER_READERS.values():
        with pytest.raises(GeosegError):
            read(Path(path.format(bird.address, secret)))
    assert bird.asked[before:] == []


def test_allowed_vrts_masks_overviews_and_notes_are_used(tmp_path: Path) -> None:
    source = write(tmp_path / "source.tif", SECRET)
    is_vrt(tmp_path / "a.vrt", str(source))
    scene = open_scene([str(tmp_path / "a.vrt")], "a", OpenOptions(allow_vrt=True))
    with SceneReader(scene, (0,)) as reader:
        assert (reader.read(WHOLE).data == SECRET).all()
    path = write(tmp_path / "b.tif", crs=None)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(np.arange(SIDE * SIDE).reshape(SIDE, SIDE) % 3 > 0)
    assert (tmp_path / "b.tif.msk").is_file()
    path.with_name("b.tif.aux.xml").write_text(
        f"<PAMDataset><SRS>{rasterio.crs.CRS.from_string(UTM).to_wkt()}</SRS></PAMDataset>"
    )
    scene = open_scene([str(path)], "b", OpenOptions())
    with SceneReader(scene, (0,)) as reader:
        np.testing.assert_array_equal(reader.read(WHOLE).valid, np.arange(SIDE * SIDE).reshape(SIDE, SIDE) % 3 > 0)
    with rasterio.Env(TIFF_USE_OVR=True), rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2])
    with gdal_env(), open_raster(path) as dataset:
        assert dataset.overviews(1) == [2]
    with gdal_env(), open_raster(path, overview_level=0) as dataset:
        assert dataset.shape == (SIDE // 2, SIDE // 2)


# ---- blocks


def test_a_block_beyond_the_memory_is_refused_with_the_least_that_works(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.tif",
        side=2048,
        count=3,
        tiled=True,
        blockxsize=2048,
        blockysize=2048,
        interleave="pixel",
        compress="deflate",
    )
    base = 10**8
    with pytest.raises(SceneTooLargeError, match=r"13 MB when it is decoded, too much for 260 MB; use memory=280MB"):
        open_scene([str(path)], "a", OpenOptions(memory=MemoryLimit(budget=base + 3 * 10**7, base=base, processes=2)))
    assert open_scene([str(path)], "a", OpenOptions(memory=MemoryLimit(budget=14 * 10**7, base=base, processes=2)))


@pytest.mark.parametrize(
    ("bits", "samples", "expected"), [(1, 1, 1), (8, 3, 3), (12, 1, 2), (16, 4, 8), (32, 1, 4), (64, 2, 16), (128, 1, 16)]
)
def test_bytes_of_a_block(bits: int, samples: int, expected: int) -> None:
    from geoseg.tiff import Entry, Ifd

    def entry(tag: int, *values: int) -> Entry:
        return Entry(tag, 3, len(values), struct.pack(f"<{len(values)}H", *values))

    fields = {256: (10,), 257: (20,), 278: (20,), 277: (samples,), 258: (bits,) * samples}
    together = Ifd({tag: entry(tag, *values) for tag, values in fields.items()}, "<")
    apart = Ifd({**together.entries, 284: entry(284, 2)}, "<")
    assert together.block_bytes == 200 * expected
    assert apart.block_bytes == 200 * expected // samples


def test_large_masks_count(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", tiled=True, blockxsize=16, blockysize=16)
    write(tmp_path / "a.tif.msk", 255, 512, blockysize=512)
    scene = open_scene([str(path)], "a", OpenOptions())
    assert scene.files[0].block_bytes == 512 * 512
    with pytest.raises(SceneTooLargeError, match=r"a\.tif\.msk: one block is 512 x 512"):
        open_scene([str(path)], "a", OpenOptions(max_block_bytes=10_000))


def test_no_image_hides_behind_many(tmp_path: Path) -> None:
    """GDAL reads all images of a file; the last of these has a block of 16 GB."""

    def directory(side: int, following: int) -> bytes:
        fields = {254: 4, 256: side, 257: side, 258: 1, 259: 8, 262: 4, 273: 8, 277: 1, 278: side, 279: 1}
        table = b"".join(struct.pack("<HHII", tag, 4, 1, number) for tag, number in fields.items())
        return struct.pack("<H", len(fields)) + table + struct.pack("<I", following)

    size = len(directory(1, 0))
    for count in (100, 2000):
        data = b"II*\0" + struct.pack("<I", 8)
        for number in range(count):
            last = number == count - 1
            data += directory(131072 if last else 16, 0 if last else 8 + (number + 1) * size)
        (path := tmp_path / f"{count}.tif").write_bytes(data)
        with pytest.raises(SceneError, match=r"MiB decoded|more than 1,024 images"):
            open_scene([str(path)], "a", OpenOptions())


def test_bands_are_asked_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of GDAL's lists has an entry a band; asking for it band by band takes the square of their number."""
    from geoseg.scenes.files.file_facts import bands_of, roles_in

    asked: list[str] = []

    class Watched:
        def __init__(self, dataset: Any) -> None:
            self._dataset = dataset

        def __getattr__(self, name: str) -> Any:
            asked.append(name)
            return getattr(self._dataset, name)

    path = write(tmp_path / "a.tif", count=300)
    with rasterio.open(path) as dataset:
        file = open_scene([str(path)], "a", OpenOptions()).files[0]
        roles = roles_in(dataset, str(path))
        assert len(bands_of(Watched(dataset), file, roles)) == 300
    assert len(asked) == len(set(asked))


# ---- vectors


POLYGON = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}
FEATURE = {"type": "Feature", "properties": {"class": "s3cr3t"}, "geometry": POLYGON}
COLLECTION = {"type": "FeatureCollection", "features": [FEATURE]}


def virtual_layer(target: str) -> str:
    return (
        "<OGRVRTDataSource><OGRVRTLayer "
        f'name="x"><SrcDataSource>{target}</SrcDataSource><SrcLayer>secret</SrcLayer></OGRVRTLayer>'
        "</OGRVRTDataSource>"
    )


def pipeline(target: str) -> str:
    command = f"gdal vector pipeline ! read {target} ! write --format stream streamed"
    return json.dumps({"type": "gdal_streamed_alg", "command_line": command})


def with_crs(text: str) -> str:
    return f"{json.dumps(COLLECTION)[:-1]}, {text}}}"


LINK = {"type": "link", "properties": {"href": "@URL"}}
VECTOR_TEXTS = {
    "virtual layer": virtual_layer("@LOCAL"),
    "virtual layer of a server": virtual_layer("@URL"),
    "virtual layer behind XML": f'<?xml version="1.0"?>\n{virtual_layer("@LOCAL")}',
    "virtual layer in JSON": '{"type": "FeatureCollection", "features": [], "x": "\n' + virtual_layer("@LOCAL") + '"}',
    "pipeline": pipeline("@LOCAL"),
    "pipeline from a server": pipeline("@URL"),
    "web feature service": "<OGRWFSDataSource><URL>@URL</URL></OGRWFSDataSource>",
    "GML with a schema": (
        '<?xml version="1.0"?><a:F xmlns:a="http://a" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        'xsi:schemaLocation="http://a @URL"/>'
    ),
    "KML with a network link": (
        '<kml xmlns="http://www.opengis.net/kml/2.2"><NetworkLink><Link><href>@URL</href></Link></NetworkLink></kml>'
    ),
    "CRS by link": with_crs(f'"crs": {json.dumps(LINK)}'),
    "CRS by escaped link": with_crs('"\\u0063r\\u0053": {"type": "l\\u0069nk", "properties": {"href": "@URL"}}'),
    "CRS by link in capitals": with_crs('"CRS" : {"TYPE": "LINK", "properties": {"href": "@URL"}}'),
    "CRS by address": with_crs('"crs": {"type": "url", "properties": {"url": "@URL"}}'),
    "CRS twice": with_crs('"crs": {"type": "name", "type": "link", "properties": {"href": "@URL"}}, "crs": null'),
    "CRS of a geometry": json.dumps({**COLLECTION, "features": [{**FEATURE, "geometry": {**POLYGON, "crs": LINK}}]}),
    "text": "class,wkt\n1,POINT (0 0)\n",
}


def polygons_of(path: Path) -> Any:
    file = PolygonFile.open(path)
    return [columns for _, columns in file.batches(file.fields)], file.bounds()


def features_of(path: Path) -> Any:
    return read_features(str(path), None, PLACE, (SIDE, SIDE))


VECTOR_READERS: dict[str, Callable[[Path], Any]] = {"polygons": polygons_of, "features": features_of, "sample": read_sample}


@pytest.mark.parametrize("ending", [".geojson", ".json", ".gpkg", ".fgb", ".shp", ".parquet", ".geojsonl"])
@pytest.mark.parametrize("attack", VECTOR_TEXTS)
def test_no_vector_file_opens_another(attack: str, ending: str, tmp_path: Path, bird: Canary) -> None:
    secret, before = tmp_path / "secret.geojson", len(bird.asked)
    secret.write_text(json.dumps(COLLECTION))
    path = tmp_path / f"a{ending}"
    url = f"{bird.address}/{attack.replace(' ', '-')}{ending}"
    path.write_text(VECTOR_TEXTS[attack].replace("@LOCAL", str(secret)).replace("@URL", url))
    for read in VECTOR_READERS.values():
        # Refused by us, or found to be no GeoJSON by GDAL, or empty; what is in the other file is never in the outcome.
        try:
            outcome = str(read(path))
        except (GeosegError, pyogrio.errors.DataSourceError) as error:
            outcome = str(error)
        assert "s3cr3t" not in outcome
    assert bird.asked[before:] == []


def geopackage(path: Path) -> Path:
    box = shapely.to_wkb(np.array([shapely.box(0, 0, 1, 1)]))
    pyogrio.raw.write(
        path, box, [np.array(["a"], object)], ["class"], geometry_type="Polygon", crs="EPSG:4326", driver="GPKG", layer="t"
    )
    return path


SQL: dict[str, tuple[str, ...]] = {
    "endless view": (
        "CREATE VIEW v AS WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x AS fid, geom FROM c, t",
    ),
    "view that asks a server": ("CREATE VIEW v AS SELECT fid, geom, ogr_geocode('x') AS g FROM t",),
    "view named as a table of the format": (
        "ALTER TABLE gpkg_extensions RENAME TO e",
        "CREATE VIEW gpkg_extensions AS SELECT * FROM e",
    ),
    "table of other files": (
        "PRAGMA writable_schema=ON",
        "INSERT INTO sqlite_master VALUES ('table', 'v', 'v', 0, 'CREATE VIRTUAL TABLE v USING VirtualOGR(''/etc/hostname'')')",
    ),
    "column that takes all memory": (
        "CREATE TABLE v (fid INTEGER PRIMARY KEY, geom BLOB, g BLOB GENERATED ALWAYS AS (zeroblob(1000000000)) VIRTUAL)",
    ),
    "no GeoPackage": ("PRAGMA foreign_keys=OFF", "DROP TABLE gpkg_geometry_columns", "DROP TABLE gpkg_contents"),
}


@pytest.mark.parametrize("attack", SQL)
def test_nothing_is_computed_in_a_geopackage(attack: str, tmp_path: Path) -> None:
    path = geopackage(tmp_path / "a.gpkg")
    assert PolygonFile.open(path).fields == ("class",)
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in SQL[attack]:
            connection.execute(statement)
    for read in VECTOR_READERS.values():
        with pytest.raises(GeosegError, match=r"a\.gpkg: "):
            read(path)


def test_names_and_headers_of_other_drivers_in_true_files(tmp_path: Path) -> None:
    """What another driver looks for may stand in a file, as a name or a text."""
    mark = "<OGRVRTDataSource>gdal_streamed_alg"
    box = shapely.to_wkb(np.array([shapely.box(0, 0, 1, 1)]))
    for ending, driver in ((".fgb", "FlatGeobuf"), (".gpkg", "GPKG"), (".geojson", "GeoJSON"), (".shp", "ESRI Shapefile")):
        path = tmp_path / f"{mark}{ending}"
        pyogrio.raw.write(
            path,
            box,
            [np.array([mark], object)],
            ["class"],
            geometry_type="Polygon",
            crs="EPSG:4326",
            driver=driver,
            layer="a" if driver == "GPKG" else None,
        )
        assert open_vector(path).driver == driver
        (columns,), _ = polygons_of(path)
        assert columns == {"class": [mark]}
    seq = tmp_path / "seq.json"
    seq.write_text("\n".join(json.dumps(FEATURE) for _ in range(3)))
    assert open_vector(seq).driver == "GeoJSONSeq"
    assert [len(c["class"]) for c in polygons_of(seq)[0]] == [3]
    named = tmp_path / "named.geojson"
    named.write_text(with_crs('"crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32720"}}'))
    crs = PolygonFile.open(named).crs
    assert crs is not None
    assert crs.to_epsg() == 32720
