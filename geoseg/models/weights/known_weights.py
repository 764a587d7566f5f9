"""Weights of encoders that were trained on satellite and aerial images, by the names that torchgeo has for them.

What each takes: its bands by role in the order of its first convolution, the numbers that it was trained on, and where its file
lies on the hub, at one revision. Sources: SSL4EO-S12 (Wang et al. 2023, arXiv:2211.07044), SSL4EO-L (Stewart et al. 2023,
arXiv:2306.09424) and SatlasPretrain (Bastani et al. 2023, arXiv:2211.15660), and the files of torchgeo with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from geoseg.errors import ModelError

__all__ = ["KNOWN", "KnownWeights", "is_known", "known_weights"]

EIGHT_BITS = 255.0
COLOURS = ("red", "green", "blue")
SENTINEL2 = (
    *("coastal", "blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "nir08", "nir09", "cirrus"),
    *("swir16", "swir22"),
)
SATLAS_SENTINEL2 = (*COLOURS, "rededge1", "rededge2", "rededge3", "nir", "swir16", "swir22")
OLI = ("coastal", "blue", "green", "red", "nir", "swir16", "swir22")
OLI_TIRS = (*OLI, "pan", "cirrus", "thermal", "thermal2")
TM = ("blue", "green", "red", "nir", "swir16", "thermal", "swir22")
ETM = ("blue", "green", "red", "nir", "swir16", "thermal", "thermal2", "swir22", "pan")
ETM_SURFACE = ("blue", "green", "red", "nir", "swir16", "swir22")
THERMAL = ("thermal", "thermal2")
TEMPERATURE = (248.15, 318.15)
"""Kelvin, -25 to 45 degrees Celsius."""
TRUE_COLOUR = (0.0, 0.3558)
"""Reflectance that 0 and 255 of a true-colour image of Sentinel-2 L1C stand for, by its product specification."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Images:
    """Images that weights were trained on."""

    data: str
    license: str
    """SPDX identifier of the licence of the weights."""
    bands: tuple[str, ...]
    span: tuple[float, float] = (0.0, 1.0)
    """Reflectance that the network saw as 0 and as 1."""
    spans: Mapping[str, tuple[float, float]]
    """The same of bands that have their own: reflectance, or kelvin."""
    stored: tuple[float, float] | None
    """Scale and offset by which the sensor's integers become reflectance; None where they have none."""
    eight_bits: bool
    """Whether they were files of 8 bits, of which 255 was seen as 1."""


S12 = _Images(data="SSL4EO-S12", license="CC-BY-4.0", bands=SENTINEL2, spans={}, stored=(1e-4, 0.0), eight_bits=False)
LANDSAT = {
    # Level 1 has reflectance at the top of the atmosphere, level 2 that of the surface.
    "TM_TOA": (TM, (0.0, 0.4), (2e-5, -0.1)),
    "ETM_TOA": (ETM, (0.0, 0.4), (2e-5, -0.1)),
    "ETM_SR": (ETM_SURFACE, (0.0, 0.3), (2.75e-5, -0.2)),
    "OLI_TIRS_TOA": (OLI_TIRS, (0.0, 0.4), (2e-5, -0.1)),
    "OLI_SR": (OLI, (0.0, 0.3), (2.75e-5, -0.2)),
}
"""Bands, span and stored numbers by sensor and level."""
SATLAS = {
    "SENTINEL2_SI_RGB": (COLOURS, TRUE_COLOUR, {}, (1e-4, 0.0), True),
    "SENTINEL2_SI_MS": (SATLAS_SENTINEL2, (0.0, 0.816), dict.fromkeys(COLOURS, TRUE_COLOUR), (1e-4, 0.0), False),
    # 4000 was seen as 0, 20320 as 1.
    "LANDSAT_SI": (OLI_TIRS, (-0.02, 0.3064), {}, (2e-5, -0.1), False),
    "NAIP_RGB_SI": (COLOURS, (0.0, 1.0), {}, None, True),
}
"""Bands, span, spans of single bands, stored numbers, and whether of 8 bits, by sensor."""
SHORT = {"tu-vit_small_patch16_224": "vits16"}
"""Encoders that names of files shorten."""
OF_S12 = """
    resnet18 SENTINEL2_ALL_MOCO 59bfdff9 5b8cddc9a14f3844350b7f40b85bcd32aed75918
    resnet18 SENTINEL2_RGB_MOCO e3a335e3 e1c032e7785fd0625224cdb6699aa138bb304eec
    resnet50 SENTINEL2_ALL_DINO d6c330e9 d7f14bf5530d70ac69d763e58e77e44dbecfec7c
    resnet50 SENTINEL2_ALL_MOCO df8b932e da4f3c9dbe09272eb902f3b37f46635fa4726879
    resnet50 SENTINEL2_RGB_MOCO 2b57ba8b efd9723b59a88e9dc1420dc1e96afb25b0630a3c
    tu-vit_small_patch16_224 SENTINEL2_ALL_DINO 36bcc127 5b41dd418a79de47ac9f5be3e035405a83818a62
    tu-vit_small_patch16_224 SENTINEL2_ALL_MOCO 67c9032d 1cb683f6c14739634cdfaaceb076529adf898c74
"""
"""Encoder, name, the first digits of the sha256 of the file, and revision."""
OF_LANDSAT, LANDSAT_REVISION = (
    """
    resnet18 LANDSAT_TM_TOA_MOCO 1c691b4f
    resnet18 LANDSAT_TM_TOA_SIMCLR d2d38ace
    resnet18 LANDSAT_ETM_TOA_MOCO bb88689c
    resnet18 LANDSAT_ETM_TOA_SIMCLR 4d813f79
    resnet18 LANDSAT_ETM_SR_MOCO 4f078acd
    resnet18 LANDSAT_ETM_SR_SIMCLR 8e8543b4
    resnet18 LANDSAT_OLI_TIRS_TOA_MOCO a3002f51
    resnet18 LANDSAT_OLI_TIRS_TOA_SIMCLR b0635cc6
    resnet18 LANDSAT_OLI_SR_MOCO 660e82ed
    resnet18 LANDSAT_OLI_SR_SIMCLR 7bced5be
    resnet50 LANDSAT_TM_TOA_MOCO ba1ce753
    resnet50 LANDSAT_TM_TOA_SIMCLR a1c93432
    resnet50 LANDSAT_ETM_TOA_MOCO e9a84d5a
    resnet50 LANDSAT_ETM_TOA_SIMCLR 70b5575f
    resnet50 LANDSAT_ETM_SR_MOCO 1266cde3
    resnet50 LANDSAT_ETM_SR_SIMCLR e5d185d7
    resnet50 LANDSAT_OLI_TIRS_TOA_MOCO de7f5e0f
    resnet50 LANDSAT_OLI_TIRS_TOA_SIMCLR 030cebfe
    resnet50 LANDSAT_OLI_SR_MOCO ff580dad
    resnet50 LANDSAT_OLI_SR_SIMCLR 94f78913
    tu-vit_small_patch16_224 LANDSAT_TM_TOA_MOCO a1c967d8
    tu-vit_small_patch16_224 LANDSAT_TM_TOA_SIMCLR 7c2d9799
    tu-vit_small_patch16_224 LANDSAT_ETM_TOA_MOCO 26d19bcf
    tu-vit_small_patch16_224 LANDSAT_ETM_TOA_SIMCLR 34fb12cb
    tu-vit_small_patch16_224 LANDSAT_ETM_SR_MOCO eaa4674e
    tu-vit_small_patch16_224 LANDSAT_ETM_SR_SIMCLR a14c466a
    tu-vit_small_patch16_224 LANDSAT_OLI_TIRS_TOA_MOCO c7c2cceb
    tu-vit_small_patch16_224 LANDSAT_OLI_TIRS_TOA_SIMCLR ad43e9a4
    tu-vit_small_patch16_224 LANDSAT_OLI_SR_MOCO c9b8898d
    tu-vit_small_patch16_224 LANDSAT_OLI_SR_SIMCLR 4e8f6102
    """,
    "1c88bb51b6e17a21dde5230738fa38b74bd74f76",
)
"""Encoder, name, and the first digits of the sha256 of the file; their revision."""
OF_SATLAS, SATLAS_REVISION = (
    """
    resnet50 SENTINEL2_SI_MS_SATLAS sentinel2_resnet50_si_ms-1f454cc6
    resnet50 SENTINEL2_SI_RGB_SATLAS sentinel2_resnet50_si_rgb-45fc6972
    resnet152 SENTINEL2_SI_MS_SATLAS sentinel2_resnet152_si_ms-4500c6cb
    resnet152 SENTINEL2_SI_RGB_SATLAS sentinel2_resnet152_si_rgb-f4d24c3c
    tu-swinv2_tiny_window8_256 SENTINEL2_SI_MS_SATLAS sentinel2_swint_si_ms-bc68e396
    tu-swinv2_tiny_window8_256 SENTINEL2_SI_RGB_SATLAS sentinel2_swint_si_rgb-0c1a96e0
    tu-swinv2_base_window8_256 NAIP_RGB_SI_SATLAS aerial_swinb_si-e4169eb1
    tu-swinv2_base_window8_256 LANDSAT_SI_SATLAS landsat_swinb_si-4af978f6
    tu-swinv2_base_window8_256 SENTINEL2_SI_MS_SATLAS sentinel2_swinb_si_ms-fe22a12c
    tu-swinv2_base_window8_256 SENTINEL2_SI_RGB_SATLAS sentinel2_swinb_si_rgb-156a98d5
    """,
    "081d6607431bf36bdb59c223777cbb267131b8f2",
)
"""Encoder, name, and file; their revision."""


@dataclass(frozen=True, slots=True)
class KnownWeights:
    """Weights of an encoder, and what they bring."""

    encoder: str
    """The encoder that they are of."""
    name: str
    """torchgeo's name, such as SENTINEL2_ALL_MOCO."""
    repo: str
    revision: str
    file: str
    images: _Images

    @property
    def digest(self) -> str:
        """The first digits of the sha256 of the file, which end its name."""
        return self.file.rpartition("-")[2].partition(".")[0]

    @property
    def bands(self) -> tuple[str, ...]:
        """Roles of the bands in the order of the first convolution."""
        return self.images.bands

    @property
    def license(self) -> str:
        """SPDX identifier."""
        return self.images.license

    @property
    def source(self) -> str:
        """What it is and where it lies, for cards."""
        return f"weights {self.name} of {self.encoder}, trained on {self.images.data}: {self.repo}@{self.revision[:12]}"

    def scaling(self, band: str, data_type: str, *, physical: bool) -> tuple[float, float] | None:
        """Mean and deviation of a band, in the numbers of the images; None where they are not known in these.

        Args:
            band: Its role.
            data_type: Of the images.
            physical: Whether their numbers are reflectance, or kelvin.
        """
        images = self.images
        if band not in images.bands:
            return None
        default = TEMPERATURE if band in THERMAL and images.data == "SSL4EO-L" else images.span
        low, high = images.spans.get(band, default)
        if physical:
            return low, high - low
        if data_type == "uint8":
            return (0.0, EIGHT_BITS) if images.eight_bits else None
        if data_type not in ("uint16", "int16") or images.stored is None or default == TEMPERATURE:
            return None
        scale, offset = images.stored
        return (low - offset) / scale, (high - low) / scale


def _every() -> Iterator[KnownWeights]:
    for line in OF_S12.strip().splitlines():
        encoder, name, digest, revision = line.split()
        images = S12 if "_ALL_" in name else replace(S12, bands=COLOURS)
        stem = f"{encoder.removeprefix('tu-')}_{name.lower()}"
        yield KnownWeights(encoder, name, f"torchgeo/{stem}", revision, f"{stem}-{digest}.pth", images)
    for line in OF_LANDSAT.strip().splitlines():
        encoder, name, digest = line.split()
        bands, span, stored = LANDSAT[name.removeprefix("LANDSAT_").rpartition("_")[0]]
        images = _Images(data="SSL4EO-L", license="CC0-1.0", bands=bands, span=span, spans={}, stored=stored, eight_bits=True)
        stem = f"{SHORT.get(encoder, encoder)}_{name.lower()}"
        yield KnownWeights(encoder, name, "torchgeo/ssl4eo_landsat", LANDSAT_REVISION, f"{stem}-{digest}.pth", images)
    for line in OF_SATLAS.strip().splitlines():
        encoder, name, stem = line.split()
        bands, span, spans, numbers, eight = SATLAS[name.removesuffix("_SATLAS")]
        images = _Images(
            data="SatlasPretrain", license="Apache-2.0", bands=bands, span=span, spans=spans, stored=numbers, eight_bits=eight
        )
        yield KnownWeights(encoder, name, "torchgeo/satlas", SATLAS_REVISION, f"{stem}.pth", images)


KNOWN: Sequence[KnownWeights] = tuple(_every())
"""All of them."""


def is_known(text: str) -> bool:
    """Whether a text is the name of weights, of whatever encoder."""
    return any(one.name == _plain(text) for one in KNOWN)


def _plain(text: str) -> str:
    return text.upper().replace("-", "_")


def known_weights(text: str, encoder: str) -> KnownWeights | None:
    """The weights of a name for an encoder; None for what is none of the names.

    Capitals and hyphens do not matter: sentinel2-all-moco is SENTINEL2_ALL_MOCO.

    Raises:
        ModelError: The name is known, but for other encoders.
    """
    name = _plain(text)
    found = {one.encoder: one for one in KNOWN if one.name == name}
    if found and encoder not in found:
        near = ", ".join(sorted({one.name for one in KNOWN if one.encoder == encoder}))
        raise ModelError(
            f"{text}: there are weights of this name for {', '.join(found)}, not for {encoder}; "
            f"{f'for that there are {near}' if near else 'take one of these encoders'}"
        )
    return found.get(encoder)
