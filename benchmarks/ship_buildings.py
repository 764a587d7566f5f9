"""Make the shipped model of what ``bench_accuracy.py buildings`` trained with a watershed: it runs without torch.

python benchmarks/bench_accuracy.py buildings
python benchmarks/ship_buildings.py
"""

from __future__ import annotations

import json
import shutil

from bench_accuracy import DATA, ROOT, TABLES, WORK, slug
from bench_roofs import judged
from ship_amazon_forest import FILES

from geoseg.models.card import Card
from geoseg.models.model_folder import CARD

SHIPPED = ROOT / "geoseg" / "models" / "shipped" / "buildings"
VERSION = "2.0.0"
"""Of the model: the first number goes up with new weights, the last one where the same are exported anew."""
PLACES = {
    "Kampala, held out": ("kampala_buildings", "scene"),
    "Banepa, held out": ("banepa_buildings/train", "banepa-scene"),
    "Banepa, another strip, which chose nothing": ("banepa_buildings/val", None),
}
"""Where it is judged: folder, and the scene of the recipe whose blocks are held out, if not all of it is."""
README = """# buildings

Roofs of buildings, one by one, in aerial images (RGB, uint8, 0.3 m).

| | |
|---|---|
| Network | U-Net on EfficientNet-Lite0, four levels, with heads for boundaries and distances, flooded from seeds; \
{parameters:.1f} M parameters, kept in 16 bits |
| Trained on | drone images of a quarter of Kampala and of the old town of Banepa (OpenAerialMap, CC BY 4.0) \
with outlines from OpenStreetMap (ODbL 1.0, © OpenStreetMap contributors). \
It began with weights learned from ImageNet, Apache 2.0 |
| Held out of training | blocks of 256 x 256 pixels of both images, which chose the thresholds |
{places}
| All blocks, with thresholds that each took from the others | F1 {crossed:.3f} |
| Receptive field | {reach} px to each side |
| Licence of the weights | CC-BY-4.0 |

Made by `benchmarks/bench_accuracy.py buildings` from `benchmarks/recipes/buildings.toml`.

## Limits

It has seen two towns: a place to begin from (`[init] weights = "buildings"`), not a map of the world. How it does elsewhere
stands in the page on accuracy. Huts below 50 m2 are mostly missed, and roofs that touch are often one. Pixels of another size
than 0.3 m need `--resample`.
"""
PLACE = """| {place} | {truth} buildings: polygon F1 at an intersection over union of 0.5 **{f1:.3f}** \
(precision {precision:.3f}, recall {recall:.3f}), AP50 {ap50:.3f}; from 50 to 200 m2 F1 {medium:.3f}, below 50 m2 {small:.3f} |"""


def main() -> None:
    model = WORK / "buildings" / f"{slug(TABLES['buildings'].rows[0].name)}-0"
    places = []
    for place, (folder, scene) in PLACES.items():
        found = judged(str(model), DATA / folder, scene)
        figures = {key: found["figures"][key] for key in ("truth", "f1", "precision", "recall", "ap50")}
        places.append(PLACE.format(place=place, small=found["sizes"][0]["f1"], medium=found["sizes"][1]["f1"], **figures))
    card = Card.read(model / CARD)
    report = json.loads((model / "training" / "validation.json").read_text(encoding="utf-8"))
    SHIPPED.mkdir(exist_ok=True)
    for name in FILES:
        shutil.copyfile(model / name, SHIPPED / name)
    card.model_copy(update={"version": VERSION}).write(SHIPPED / CARD)
    text = README.format(
        parameters=card.total_parameters / 1e6,
        places="\n".join(places),
        reach=card.receptive_field.reach if card.receptive_field else 0,
        crossed=report["objects"]["f1"],
    )
    (SHIPPED / "README.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
