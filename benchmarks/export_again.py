"""Write model.onnx of model folders again, of the same weights, in the form in which this version exports.

    python benchmarks/export_again.py FOLDER ...

The card gets the new file's hash and the memory that it takes; all else stays.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from safetensors import safe_open

from geoseg.inference.torch_engine import load_network
from geoseg.models.export_form import export_form
from geoseg.models.exporting import export
from geoseg.models.model_folder import CARD, ONNX, WEIGHTS, file_hash, load_model
from geoseg.models.saving import measure_memory


def main() -> None:
    parser = argparse.ArgumentParser(description="Export models again.")
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    for folder in parser.parse_args().folders:
        model = load_model(str(folder))
        card = model.card
        form = export_form(load_network(model), len(card.bands), card.stride)
        export(form, card, folder / ONNX, half=_in_16_bits(folder / WEIGHTS))
        memory = measure_memory(folder / ONNX, len(card.bands), card.stride)
        files = {**card.files, ONNX: file_hash(folder / ONNX)}
        card.model_copy(update={"files": files, "bytes_per_pixel": memory}).write(folder / CARD)
        print(f"{folder}: {card.bytes_per_pixel:g} B a pixel before, {memory:g} B now")


def _in_16_bits(weights: Path) -> bool:
    with safe_open(weights, "pt") as file:
        return any(file.get_slice(key).get_dtype() == "F16" for key in file.keys())  # noqa: SIM118 - it is no mapping


if __name__ == "__main__":
    main()
