"""ONNX files as model folders: the same probabilities, the facts that their metadata tell, and sentences for all else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from strange_networks import export, network
from torch import nn

from geoseg.adoption.from_onnx import adopt_onnx
from geoseg.adoption.network_facts import ANY_SIZE, Told
from geoseg.errors import ConfigError, ModelError
from geoseg.models.receptive_field import measure_receptive_field

DEEPNESS = {
    "model_type": "Segmentor",
    "class_names": {0: "background", 1: "building", 2: "water"},
    "resolution": 25,
    "tile_size": 64,
    "seg_thresh": 0.5,
    "standardization_mean": [0.4, 0.5, 0.6],
    "standardization_std": [0.2, 0.25, 0.3],
}
PLAIN = Told(bands=("a", "b", "c"), classes=("x", "y", "z"), gsd=ANY_SIZE, scale=255)


def given(made, image: np.ndarray) -> np.ndarray:
    """Probabilities of the adopted network, by the engine's own session."""
    import onnxruntime as ort
    import scipy.special

    session = ort.InferenceSession(str(made.model.onnx))
    scores = session.run(None, {session.get_inputs()[0].name: image})[0]
    return scipy.special.softmax(scores, axis=1) if made.model.card.activation == "softmax" else scipy.special.expit(scores)


@pytest.mark.parametrize("opset", [12, 17])
def test_a_file_of_the_plugin_made_for_one_size(tmp_path: Path, opset: int) -> None:
    # Of version 12 the softmax stands between changes of axes.
    module = network(3, nn.Softmax(dim=1))
    path = export(module, tmp_path / "Land Cover.onnx", fixed=64, opset=opset, **DEEPNESS)
    made = adopt_onnx(path, Told(), tmp_path)
    card = made.model.card
    assert card.name == "land-cover"
    assert card.bands == ("red", "green", "blue")
    assert [(c.name, c.background) for c in card.classes] == [("background", True), ("building", False), ("water", False)]
    assert card.gsd_m == 0.25
    assert [(s.mean, s.stddev) for s in card.scaling] == [(102.0, 51.0), (127.5, 63.75), (pytest.approx(153), 76.5)]
    assert (card.data_type, card.value_range, card.activation, card.stride) == ("uint8", (0, 255), "softmax", 4)
    # The oracle is torch, which has the network itself.
    assert card.receptive_field == measure_receptive_field(network(3), 3, 4)
    rng = np.random.default_rng(1)
    for side in (64, 132):
        image = rng.standard_normal((1, 3, side, side)).astype(np.float32)
        with torch.inference_mode():
            np.testing.assert_allclose(given(made, image), module(torch.from_numpy(image)).numpy(), atol=2e-6)
    np.testing.assert_allclose(made.original(image[:, :, :64, :64]), given(made, image[:, :, :64, :64]), atol=2e-6)
    assert any("class 0" in note for note in made.notes)
    assert any("64 x 64" in note for note in made.notes)


def test_one_score_with_a_sigmoid_keeps_its_threshold(tmp_path: Path) -> None:
    names = {"class_names": "{0: 'none', 1: 'field'}", "seg_thresh": 0.3}
    path = export(network(1, nn.Sigmoid()), tmp_path / "field.onnx", **(DEEPNESS | names))
    card = adopt_onnx(path, Told(), tmp_path).model.card
    assert (card.activation, card.thresholds, card.scores) == ("sigmoid", (0.3,), 1)
    assert [(c.name, c.background) for c in card.classes] == [("none", True), ("field", False)]


def test_what_is_not_told_is_asked_for_at_once(tmp_path: Path) -> None:
    path = export(network(), tmp_path / "plain.onnx")
    with pytest.raises(
        ConfigError, match=r"takes 3 bands, gives 3 scores.*bands=.*classes=.*gsd=.*scale=.*activation=.*data_type"
    ):
        adopt_onnx(path, Told(), tmp_path)
    told = replace(PLAIN, activation="softmax")
    with pytest.raises(ConfigError, match="bands: 2 are told, and the network has 3"):
        adopt_onnx(path, replace(told, bands=("a", "b")), tmp_path)
    with pytest.raises(ConfigError, match="classes: 2 are told, and the network has 3"):
        adopt_onnx(path, replace(told, classes=("a", "b")), tmp_path)
    with pytest.raises(ConfigError, match="none, but its outputs for an image of noise are not between 0 and 1"):
        adopt_onnx(path, replace(told, activation="none"), tmp_path)
    made = adopt_onnx(path, told, tmp_path)
    assert made.model.card.gsd_m is None
    assert made.model.card.scaling[0].stddev == 255
    assert made.model.card.license == "NOASSERTION"


def test_what_metadata_say_wrongly_is_refused_by_its_key(tmp_path: Path) -> None:
    for wrong, said in (
        ({"class_names": '{"0": null, "1": "b", "2": "c"}'}, "metadata class_names: .* is no object such as"),
        ({"class_names": '{"0": ["a"], "1": "b", "2": "c"}'}, "metadata class_names: .* is no object such as"),
        ({"resolution": -5}, "metadata resolution: -5 cm; it is above 0"),
    ):
        path = export(network(3, nn.Softmax(dim=1)), tmp_path / "wrong.onnx", **(DEEPNESS | wrong))
        with pytest.raises(ModelError, match=said):
            adopt_onnx(path, Told(), tmp_path)


def test_softmax_of_one_score_is_no_probability(tmp_path: Path) -> None:
    told = replace(PLAIN, classes=("x", "y"), activation="softmax")
    with pytest.raises(ConfigError, match="softmax of one score is always 1; give activation=sigmoid"):
        adopt_onnx(export(network(1), tmp_path / "one.onnx"), told, tmp_path)
    with pytest.raises(ConfigError, match="always 1; export the network without it"):
        adopt_onnx(export(network(1, nn.Softmax(dim=1)), tmp_path / "ends.onnx"), told, tmp_path)


@pytest.mark.parametrize("classes", [1, 3])
def test_probabilities_made_in_another_way_become_scores(tmp_path: Path, classes: int) -> None:
    class Clipped(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.softmax(dim=1).clamp(0, 1) if classes > 1 else (x.tanh() + 1) / 2

    module = network(classes, Clipped())
    path = export(module, tmp_path / "p.onnx")
    told = replace(PLAIN, classes=("x", "y", "z")[: max(2, classes)], activation="softmax" if classes > 1 else "sigmoid")
    with pytest.raises(ConfigError, match="are probabilities already"):
        adopt_onnx(path, told, tmp_path)
    made = adopt_onnx(path, replace(told, activation="none"), tmp_path)
    image = np.random.default_rng(0).standard_normal((1, 3, 64, 64)).astype(np.float32)
    with torch.inference_mode():
        np.testing.assert_allclose(given(made, image), module(torch.from_numpy(image)).numpy(), atol=1e-5)


def test_channels_last_as_keras_has_them(tmp_path: Path) -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network(3, nn.Softmax(dim=1))

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.inner(image.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    path = tmp_path / "last.onnx"
    torch.onnx.export(
        Last().eval(),
        (torch.zeros(1, 64, 64, 3),),
        str(path),
        dynamo=False,
        opset_version=17,
        input_names=["x"],
        output_names=["y"],
    )
    made = adopt_onnx(path, PLAIN, tmp_path)
    image = np.random.default_rng(0).standard_normal((1, 3, 64, 64)).astype(np.float32)
    with torch.inference_mode():
        wanted = network(3, nn.Softmax(dim=1))(torch.from_numpy(image)).numpy()
    np.testing.assert_allclose(given(made, image), wanted, atol=2e-6)
    np.testing.assert_allclose(made.original(image), wanted, atol=2e-6)


def test_a_network_that_looks_at_the_whole_tile_is_blended(tmp_path: Path) -> None:
    made = adopt_onnx(export(network(3, nn.Softmax(dim=1), squeeze=True), tmp_path / "s.onnx", **DEEPNESS), Told(), tmp_path)
    assert made.model.card.global_context
    assert made.model.card.exact_halo is None
    assert any("tiles are blended" in note for note in made.notes)


def test_what_can_not_be_run_exactly_is_refused(tmp_path: Path) -> None:
    told = replace(PLAIN, activation="softmax")
    with pytest.raises(ModelError, match="Detector'; networks of the type Segmentor"):
        adopt_onnx(export(network(), tmp_path / "d.onnx", model_type="Detector"), told, tmp_path)

    class Coarse(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.avg_pool2d(x, 2)

    with pytest.raises(ModelError, match="one score for every pixel"):
        adopt_onnx(export(network(3, Coarse()), tmp_path / "c.onnx"), told, tmp_path)

    class Numbers(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.argmax(dim=1, keepdim=True)

    with pytest.raises(ModelError, match="gives int64, such as numbers of classes"):
        adopt_onnx(export(network(3, Numbers()), tmp_path / "a.onnx"), told, tmp_path)

    class Placed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.place = nn.Parameter(torch.randn(1, 3, 64, 64))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.place

    with pytest.raises(ModelError, match="was exported for one size"):
        adopt_onnx(export(network(3, Placed()).eval(), tmp_path / "e.onnx", fixed=64), told, tmp_path)
    two = network(2, nn.Sigmoid())
    with pytest.raises(ModelError, match="two scores with a sigmoid each"):
        adopt_onnx(export(two, tmp_path / "t.onnx"), replace(PLAIN, classes=("x", "y")), tmp_path)
    (tmp_path / "junk.onnx").write_bytes(b"\x08\x07junk")
    with pytest.raises(ModelError, match=r"junk\.onnx"):
        adopt_onnx(tmp_path / "junk.onnx", told, tmp_path)


def test_one_of_several_outputs_is_named(tmp_path: Path) -> None:
    path = export(network(3, nn.Softmax(dim=1)), tmp_path / "two.onnx")
    model = onnx.load(str(path))
    inner = next(node for node in model.graph.node if node.op_type == "Relu").output[0]
    model.graph.output.append(onnx.helper.make_tensor_value_info(inner, onnx.TensorProto.FLOAT, [None] * 4))
    onnx.save(model, str(path))
    with pytest.raises(ConfigError, match=r"has the outputs output, .*; name that of the scores with output=NAME"):
        adopt_onnx(path, PLAIN, tmp_path)
    assert adopt_onnx(path, PLAIN, tmp_path, "output").model.card.scores == 3
