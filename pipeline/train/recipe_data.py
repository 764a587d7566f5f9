"""Tables of a recipe that say what is learned from: classes, scenes with their labels, and what is held out."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from geoseg.formats.text import steers

__all__ = ["ClassRecipe", "DataRecipe", "Positive", "Share", "SplitRecipe", "Table"]

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


class Table(BaseModel):
    """A closed table of a recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ClassRecipe(Table):
    """One class; their order gives the codes."""

    name: str = Field(min_length=1, description="Its name.")
    color: str = Field(pattern="^#[0-9a-fA-F]{6}$", description="Its colour in maps and legends: #1a7837.")
    description: str = Field("", description="What it is, for the card of the model.")
    background: bool = Field(default=False, description="Left out of polygons unless asked for.")
    labels: tuple[str | int, ...] | None = Field(
        None,
        description="Values of label rasters, or of the class column of label vectors, that mean it. [default: its code, its "
        "name]",
    )

    @field_validator("name")
    @classmethod
    def _check_name(cls, text: str) -> str:
        # The card would refuse it, when all is trained.
        if steers(text):
            raise ValueError(f"{text!r} holds control characters or marks of direction, which no name needs")
        return text


class DataRecipe(Table):
    """Scenes with their labels; several tables are joined."""

    images: tuple[str, ...] = Field(min_length=1, description="GeoTIFFs, folders, globs; or plain images with plain = true.")
    later: tuple[str, ...] = Field(
        (), description="Folders with later dates of the images, by the same names; bands are then named red@1, red@2."
    )
    labels: str | None = Field(
        None,
        description="A class raster or a vector file for all images, a folder with a raster for each image of the same name, "
        "or COCO JSON.",
    )
    role: Literal["split", "train", "val", "target"] = Field(
        "split", description="Whether [split] divides them, or all are for training, validation, or adaptation without labels."
    )
    plain: bool = Field(default=False, description="Images without a place on Earth: PNG, JPEG, TIFF.")
    only: tuple[str, ...] | None = Field(None, description="Names or patterns of the images to take. [default: all]")
    prefix: str = Field("", description="Put in front of the names of its scenes, where another table has such names, too.")
    suffix: tuple[str, str] | None = Field(
        None, description="For a folder of labels: the text in an image's name, and what replaces it."
    )
    bands: tuple[str, ...] | None = Field(None, description="Bands by number or name. [default: by the names of the recipe]")
    rescale: tuple[float, float] | None = Field(None, description="Pixel values that are mapped to the ends of value_range.")
    resample: bool = Field(default=False, description="Warp the scenes to pixels of gsd_m.")
    column: str | None = Field(
        None, description="Column of a vector file that names the class. [default: all features are class 1]"
    )
    outside: str | int = Field("unlabelled", description="Class of what lies outside all features: a name, or unlabelled.")
    ignore: str | None = Field(None, description="A vector file with areas that nothing is learned from.")
    corrections: tuple[str, ...] = Field(
        (),
        description="Class rasters of what people have corrected, such as corrections.tif of geoseg review apply; they outrank "
        "the labels where they have a class, of several the last one. A scene takes what lies on it.",
    )
    all_touched: bool = Field(
        default=False, description="Burn all pixels that a feature touches, not those whose centre it covers."
    )
    border: int = Field(0, ge=0, description="Pixels to each side of a border between classes that nothing is learned from.")
    rasters: tuple[str, ...] = Field((), description="Rasters to regress, on any grid: height, depth, cover fraction.")
    assume_crs: str | None = Field(None, description="The CRS of files that have none.")


class SplitRecipe(Table):
    """Division into scenes or blocks to train on, and those held out, by which the checkpoint is chosen."""

    by: Literal["scene", "block"] = Field("scene", description="Whole scenes, or blocks within each.")
    val: Share | tuple[str, ...] = Field(0.2, description="Share that is held out, or the names of scenes.")
    block: int = Field(512, gt=0, description="Side of a block in pixels.")
    margin: int = Field(64, ge=0, description="Pixels around a held-out block that training does not see.")
    seed: int = Field(0, ge=0, description="Seed of the division.")
