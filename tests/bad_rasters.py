"""56 awkward and broken rasters, as they are met in the field.

``tests/integration/test_awkward.py`` says what is to become of each.

python tests/bad_rasters.py FOLDER
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.rpc import RPC
from rasterio.transform import Affine, from_origin
from rasterio.windows import Window

SIDE = 256
CRS = "EPSG:32633"
TRANSFORM = from_origin(500_000, 5_400_000, 0.5, 0.5)
LOCAL = 'LOCAL_CS["site",UNIT["metre",1]]'
TILED = {"tiled": True, "blockxsize": 64, "blockysize": 64}

Change = Callable[[Any], None]
"""What is done to a dataset once its pixels are written."""


def _pixels(bands: int, seed: int = 3, dtype: str = "uint8", high: int = 255) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, high, (bands, SIDE, SIDE), dtype=dtype)


RGB = _pixels(3)


@dataclass
class _Folder:
    """A folder that is filled, and what lies in it."""

    path: Path
    notes: dict[str, str] = field(default_factory=dict)

    def raster(self, name: str, note: str, pixels: np.ndarray = RGB, *, change: Change | None = None, **profile: Any) -> None:
        """Write a GeoTIFF: RGB bytes in UTM unless told otherwise; what is None in the profile is left out."""
        given = {"crs": CRS, "transform": TRANSFORM, "compress": "deflate"}
        given |= TILED if min(pixels.shape[1:]) >= 64 else {}
        given |= {"count": len(pixels), "height": pixels.shape[1], "width": pixels.shape[2], "dtype": pixels.dtype.name}
        chosen = {key: value for key, value in (given | profile).items() if value is not None}
        with rasterio.open(self.path / name, "w", driver="GTiff", **chosen) as dataset:
            dataset.write(pixels)
            if change is not None:
                change(dataset)
        self.notes[name] = note

    def file(self, name: str, note: str, content: bytes) -> None:
        """Write some bytes."""
        (self.path / name).write_bytes(content)
        self.notes[name] = note


def make_bad_rasters(path: Path) -> dict[str, str]:
    """Fill a folder; gives what each file is, by name."""
    path.mkdir(parents=True, exist_ok=True)
    folder = _Folder(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for part in (_places, _control_points, _values, _bands, _masks, _sizes, _broken_files, _disguises, _names):
            part(folder)
    return folder.notes


def _places(to: _Folder) -> None:
    to.raster("ok_rgb.tif", "a good one")
    to.raster("no_crs.tif", "transform, no CRS", crs=None)
    to.raster("no_transform.tif", "CRS, no transform", transform=None)
    to.raster("no_georef.tif", "neither", crs=None, transform=None)
    to.raster("southup.tif", "rows go north", transform=Affine(0.5, 0, 500_000, 0, 0.5, 5_399_872))
    turned = Affine.translation(500_000, 5_400_000) * Affine.rotation(30) * Affine.scale(0.5, -0.5)
    to.raster("rotated.tif", "turned by 30 degrees", transform=turned)
    to.raster("nonsquare.tif", "pixels of 0.5 x 0.25 m", transform=Affine(0.5, 0, 500_000, 0, -0.25, 5_400_000))
    to.raster("zero_pixel.tif", "pixels without a size", transform=Affine(0, 0, 500_000, 0, 0, 5_400_000))
    to.raster("utm34.tif", "the next UTM zone", crs="EPSG:32634")
    to.raster("res_1m.tif", "another pixel size", transform=from_origin(500_000, 5_400_000, 1, 1))
    degrees = 5e-6
    to.raster("wgs84.tif", "degrees", crs="EPSG:4326", transform=from_origin(15, 48, degrees, degrees))
    to.raster("axis_4326_swapped.tif", "latitude as x", crs="EPSG:4326", transform=from_origin(48, 15, degrees, degrees))
    to.raster("antimeridian.tif", "across 180 degrees", crs="EPSG:4326", transform=from_origin(179.9995, 10, degrees, degrees))
    to.raster("local_crs.tif", "a CRS of a building site", crs=rasterio.crs.CRS.from_wkt(LOCAL))
    to.raster("mercator_us_ft.tif", "US feet", crs="EPSG:2263", transform=from_origin(980_000, 200_000, 1, 1))


def _control_points(to: _Folder) -> None:
    corners = [(0, 0, 15, 48), (0, SIDE, 15.01, 48), (SIDE, 0, 15, 47.99), (SIDE, SIDE, 15.01, 47.99)]
    points = [GroundControlPoint(row, col, x, y, 0) for row, col, x, y in corners], rasterio.crs.CRS.from_epsg(4326)
    to.raster("gcp_only.tif", "ground control points only", crs=None, transform=None, change=lambda d: setattr(d, "gcps", points))

    def linear(*terms: float) -> list[float]:
        return [*terms, *[0.0] * (20 - len(terms))]

    model = RPC(
        height_off=100,
        height_scale=100,
        lat_off=48,
        lat_scale=0.1,
        long_off=15,
        long_scale=0.1,
        line_off=128,
        line_scale=128,
        line_num_coeff=linear(0, 0, -1),
        line_den_coeff=linear(1),
        samp_off=128,
        samp_scale=128,
        samp_num_coeff=linear(0, 1),
        samp_den_coeff=linear(1),
        err_bias=None,
        err_rand=None,
    )
    to.raster("rpc_only.tif", "rational polynomials only", crs=None, transform=None, change=lambda d: setattr(d, "rpcs", model))


def _values(to: _Folder) -> None:
    some = np.random.default_rng(5).random((1, SIDE, SIDE), dtype=np.float32)
    some[:, :50] = np.nan
    to.raster("float_nan.tif", "NaN, declared as nodata", some, nodata=float("nan"))
    to.raster("float_nan_untagged.tif", "NaN, not declared", some)
    infinite = some.copy()
    infinite[:, 100:110] = np.inf
    to.raster("float_inf.tif", "infinity", infinite)
    to.raster("nodata_all.tif", "nothing but nodata", np.zeros_like(RGB), nodata=0)
    to.raster("nodata_zero_is_data.tif", "nodata 0, which is black, too", nodata=0)
    twelve = RGB.astype(np.uint16) * 16
    to.raster("uint16.tif", "12 bits in 16", twelve)
    to.raster("int16_neg.tif", "below zero", RGB.astype(np.int16) - 128)
    to.raster("float64.tif", "doubles", RGB.astype(np.float64))
    to.raster("complex.tif", "complex numbers", RGB[:1].astype(np.complex64))
    to.raster("int8.tif", "signed bytes", (RGB.astype(np.int16) - 128).astype(np.int8))

    def scaled(dataset: Any) -> None:
        dataset.scales, dataset.offsets = (0.0001,) * 3, (-0.1,) * 3

    to.raster("scale_offset.tif", "scale and offset tags, as Sentinel-2 has", twelve, change=scaled)
    to.raster("nodata_out_of_range.tif", "bytes, nodata -99", nodata=123)
    # GDAL writes no such tag, so that it is put there afterwards.
    tagged = to.path / "nodata_out_of_range.tif"
    content = tagged.read_bytes()
    assert content.count(b"123\x00") == 1
    tagged.write_bytes(content.replace(b"123\x00", b"-99\x00"))


def _bands(to: _Folder) -> None:
    def reverse(dataset: Any) -> None:
        dataset.colorinterp = (ColorInterp.blue, ColorInterp.green, ColorInterp.red)

    to.raster("bgr.tif", "blue, green, red by declaration", change=reverse)
    alpha = np.broadcast_to(np.where(np.arange(SIDE) > 60, 255, 0).astype(np.uint8), (1, SIDE, SIDE))
    to.raster("rgba.tif", "alpha is band 4", np.concatenate([RGB, alpha]), photometric="RGB", alpha="unspecified")
    to.raster("nir4.tif", "band 4 is not declared", np.concatenate([RGB, RGB[:1]]), photometric="MINISBLACK")
    to.raster("gray1.tif", "1 band", RGB[:1])
    to.raster("bands13.tif", "13 bands", _pixels(13, dtype="uint16", high=10_000), interleave="band")
    colors = {k: (50 * k, 0, 0, 255) for k in range(5)}
    to.raster("palette.tif", "indices into a palette", RGB[:1] % 5, change=lambda d: d.write_colormap(1, colors))


def _masks(to: _Folder) -> None:
    mask = np.full((SIDE, SIDE), 255, np.uint8)
    mask[:60] = 0
    for inside, name, note in (
        (True, "internal_mask.tif", "a mask in the file"),
        (False, "external_mask.tif", "a .msk beside it"),
    ):
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=inside):
            to.raster(name, note, change=lambda d: d.write_mask(mask))


def _sizes(to: _Folder) -> None:
    to.raster("jpeg_ycbcr.tif", "lossy JPEG", compress="jpeg", photometric="YCBCR")
    to.raster("tiny_1x1.tif", "one pixel", RGB[:, :1, :1])
    to.raster("tiny_7x5.tif", "smaller than a tile", RGB[:, :7, :5])
    to.raster("strip_long.tif", "4 x 200,000, in strips", np.zeros((1, 4, 200_000), np.uint8))
    side, note = 400_000, "400,000 x 400,000, next to nothing of it written"
    huge = {"crs": CRS, "transform": TRANSFORM, "tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate"}
    with rasterio.open(
        to.path / "huge_sparse.tif",
        "w",
        driver="GTiff",
        height=side,
        width=side,
        count=1,
        dtype="uint8",
        sparse_ok=True,
        bigtiff="YES",
        **huge,
    ) as dataset:
        dataset.write(RGB[:1], window=Window(1024, 1024, SIDE, SIDE))
    to.notes["huge_sparse.tif"] = note


def _broken_files(to: _Folder) -> None:
    good = (to.path / "ok_rgb.tif").read_bytes()
    half = len(good) // 2
    flipped = bytearray(good)
    flipped[half] ^= 0xFF
    to.file("trunc_half.tif", "half of a file", good[:half])
    to.file("trunc_header.tif", "100 bytes of a file", good[:100])
    to.file("bitflip.tif", "one byte is wrong", bytes(flipped))
    to.file("empty.tif", "0 bytes", b"")


def _disguises(to: _Folder) -> None:
    to.file("html.tif", "the page of an error", b"<!doctype html><title>503</title>")
    to.file("lfs_pointer.tif", "a git-lfs pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    with rasterio.MemoryFile() as memory:
        with memory.open(driver="PNG", height=SIDE, width=SIDE, count=3, dtype="uint8") as dataset:
            dataset.write(RGB)
        to.file("jpg_named.tif", "a PNG", memory.read())
    raw = "<ImageOffset>0</ImageOffset><PixelOffset>1</PixelOffset><LineOffset>64</LineOffset>"
    secret = f'<SourceFilename relativetoVRT="0">/etc/passwd</SourceFilename>{raw}'
    to.file("vrt_disguised.tif", "a VRT of /etc/passwd", _vrt(8, 'subClass="VRTRawRasterBand"', secret))
    address = '<SourceFilename relativeToVRT="0">/vsicurl/http://127.0.0.1:9/x.tif</SourceFilename><SourceBand>1</SourceBand>'
    to.file("vrt_ssrf.tif", "a VRT of an address", _vrt(64, "", f"<SimpleSource>{address}</SimpleSource>"))


def _vrt(height: int, kind: str, inner: str) -> bytes:
    band = f'<VRTRasterBand dataType="Byte" band="1" {kind}>{inner}</VRTRasterBand>'
    return f'<VRTDataset rasterXSize="64" rasterYSize="{height}">{band}</VRTDataset>'.encode()


def _names(to: _Folder) -> None:
    good = (to.path / "ok_rgb.tif").read_bytes()
    to.file("naïve ünïcode & 'quote' 日本.tif", "an awkward name", good)
    to.file("OK_RGB.TIF", "the name of another file but for case", good)
    (to.path / "dir.tif").mkdir(exist_ok=True)
    to.notes["dir.tif"] = "a folder"
    for name, target, note in (("loop.tif", "loop.tif", "a link to itself"), ("dangling.tif", "nope", "a link to nothing")):
        link = to.path / name
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        to.notes[name] = note


if __name__ == "__main__":
    sys.stdout.write(json.dumps(make_bad_rasters(Path(sys.argv[1])), indent=1, ensure_ascii=False) + "\n")
