"""Models of strangers: their files are all that counts, and no network runs for ever."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from support import LIMIT_S, ROOT, WriteRaster, run_cli

from geoseg.errors import Interrupted, ModelError, TileTimeoutError
from geoseg.inference.onnx_session import OnnxSession, stuck
from geoseg.models.model_folder import load_model
from geoseg.models.networks.config import NetworkConfig
from geoseg.models.onnx_scan import refuse_external_data

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402 - after the check that it is there

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def external(name: str = "w") -> Any:
    tensor = numpy_helper.from_array(np.ones((1, 3, 1, 1), np.float32), name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "weights.bin"
    return tensor


def value(name: str, kind: int = FLOAT, shape: Any = None) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def graph(nodes: list[Any], weights: list[Any] | None = None, name: str = "g") -> Any:
    return helper.make_graph(
        nodes, name, [value("image", shape=["n", 3, "h", "w"])], [value("scores", shape=["n", 2, "h", "w"])], weights or []
    )


def model(made: Any, **facts: Any) -> Any:
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, **facts)


def in_weights() -> Any:
    return model(graph([], [external()]))


def in_an_attribute() -> Any:
    return model(graph([helper.make_node("Constant", [], ["c"], value=external())]))


def in_a_list_of_an_attribute() -> Any:
    node = helper.make_node("X", [], ["c"])
    node.attribute.add(name="many", type=onnx.AttributeProto.TENSORS).tensors.append(external())
    return model(graph([node]))


def in_a_branch_of_a_branch() -> Any:
    inner = helper.make_node("If", ["a"], ["b"], then_branch=graph([], [external()]))
    return model(graph([helper.make_node("If", ["a"], ["b"], then_branch=graph([inner]))]))


def in_a_function() -> Any:
    node = helper.make_node("Constant", [], ["c"], value=external())
    function = helper.make_function("own", "f", [], ["c"], [node], [helper.make_opsetid("", 17)])
    return model(graph([]), functions=[function])


def in_sparse_weights() -> Any:
    made = graph([])
    made.sparse_initializer.add().values.CopyFrom(external())
    return model(made)


def in_training_information() -> Any:
    made = model(graph([]))
    made.training_info.add().algorithm.initializer.append(external())
    return made


def with_a_location_only() -> Any:
    tensor = external()
    del tensor.external_data[:]
    return model(graph([], [tensor]))


PLACES = [
    in_weights,
    in_an_attribute,
    in_a_list_of_an_attribute,
    in_a_branch_of_a_branch,
    in_a_function,
    in_sparse_weights,
    in_training_information,
    with_a_location_only,
]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_weights_in_other_files_are_refused(place: Callable[[], Any], tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(place().SerializeToString())
    with pytest.raises(ModelError, match=r"model\.onnx: has weights in another file"):
        refuse_external_data(path)


@pytest.mark.parametrize(
    ("field", "refused"),
    [
        (b"\x70\x01", True),
        (b"\x70\x00", False),
        (b"\xf0\x80\x00\x01", True),
        (b"\x70\x81\x80\x80\x80\x10", True),
        (b"\x6a\x00", True),
    ],
)
def test_other_spellings_of_the_same_field(field: bytes, refused: bool, tmp_path: Path) -> None:
    """Protobuf lets a number be written with more bytes than it needs, and cuts an enumeration off after 32 bits."""
    tensor = numpy_helper.from_array(np.ones(3, np.float32), "w").SerializeToString() + field
    inner = bytes([0x2A, len(tensor)]) + tensor
    (path := tmp_path / "model.onnx").write_bytes(bytes([0x3A, len(inner)]) + inner)
    parsed = onnx.ModelProto.FromString(path.read_bytes()).graph.initializer[0]
    assert refused == (parsed.data_location == TensorProto.EXTERNAL or len(parsed.external_data) > 0)
    if refused:
        with pytest.raises(ModelError, match="another file"):
            refuse_external_data(path)
    else:
        refuse_external_data(path)


@pytest.mark.parametrize("data", [b"", b"\x3a\x05\x01", b"\x3b", b"\xff" * 30, b"\x3a\x02\x0b\x0c", b"version https://git-lfs"])
def test_damaged_networks(data: bytes, tmp_path: Path) -> None:
    (path := tmp_path / "model.onnx").write_bytes(data)
    with pytest.raises(ModelError, match=r"model\.onnx: .*copy or download it again"):
        refuse_external_data(path)


def folder(path: Path, network: Any) -> Path:
    path.mkdir()
    own = {
        "name": "stranger",
        "description": "d",
        "license": "MIT",
        "architecture": "x",
        "bands": ["red", "green", "blue"],
        "stride": 1,
        "scaling": [{"mean": 0, "stddev": 1}] * 3,
        "value_range": [0, 255],
        "receptive_field": {"left": 1, "right": 1, "top": 1, "bottom": 1},
        "classes": [{"value": 0, "name": "other", "color": "#cccccc"}, {"value": 1, "name": "water", "color": "#2266aa"}],
    }
    (path / "card.json").write_text(json.dumps({"geoseg": own}))
    (path / "model.onnx").write_bytes(network.SerializeToString())
    return path


def plain(weight: float) -> Any:
    weights = [numpy_helper.from_array(np.full((2, 3, 1, 1), weight, np.float32), "W")]
    return model(graph([helper.make_node("Conv", ["image", "W"], ["scores"])], weights))


def test_every_file_that_counts_is_in_the_identity(tmp_path: Path) -> None:
    one, other = (load_model(str(folder(tmp_path / str(k), plain(k)))) for k in (1, 2))
    assert one.sha256 != other.sha256
    made = plain(1)
    onnx.save(made, tmp_path / "0.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    (tmp_path / "1" / "model.onnx").write_bytes((tmp_path / "0.onnx").read_bytes())
    with pytest.raises(ModelError, match="another file"):
        load_model(str(tmp_path / "1"))


@pytest.mark.parametrize("name", ["model.onnx", "card.json", "config.json", "model.safetensors"])
def test_links_out_of_a_model_folder_are_not_followed(name: str, tmp_path: Path) -> None:
    path = folder(tmp_path / "m", plain(1))
    (tmp_path / "other").write_bytes((path / name).read_bytes() if (path / name).is_file() else b"{}")
    (path / name).unlink(missing_ok=True)
    (path / name).symlink_to("../other")
    with pytest.raises(ModelError, match=rf"{name}: a link to a file outside"):
        load_model(str(path))


def test_links_in_the_cache_of_the_hub_are(tmp_path: Path) -> None:
    repository = tmp_path / "models--a--b"
    (repository / "blobs").mkdir(parents=True)
    (repository / "snapshots").mkdir()
    path = folder(repository / "snapshots" / "abc", plain(1))
    (path / "model.onnx").rename(repository / "blobs" / "1234")
    (path / "model.onnx").symlink_to("../../blobs/1234")
    assert load_model(str(path)).onnx is not None


@pytest.mark.parametrize(
    "config",
    [
        {"encoder": "tu-hf-hub:evil/net"},
        {"encoder": "tu-local-dir:/etc"},
        {"encoder": "../x"},
        {"encoder": 3},
        {"parameters": {"checkpoint_path": "evil"}},
        {"parameters": {"decoder": {"pretrained_cfg": {"a": 1}}}},
        {"parameters": {"x": ["http://127.0.0.1/x"]}},
    ],
)
def test_no_configuration_names_a_file(config: dict[str, Any]) -> None:
    document = {
        "architecture": "unet",
        "encoder": "resnet18",
        "in_channels": 3,
        "classes": 2,
        "parameters": {},
        "stride": 32,
    } | config
    with pytest.raises(ModelError, match=r"config\.json: "):
        NetworkConfig.from_json(document)


# ---- networks that do not end


def loop(rounds: list[Any], *, stoppable: bool = True) -> Any:
    """A loop of so many rounds; one without operators in it does not look whether it is to stop."""
    inputs = [value("i", INT64, []), value("go", BOOL, []), value("x", shape=[])]
    if stoppable:
        nodes = [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Add", ["x", "x"], ["y"])]
        body = helper.make_graph(nodes, "body", inputs, [value("on", BOOL, []), value("y", shape=[])])
    else:
        body = helper.make_graph([], "body", inputs, [value("go", BOOL, []), value("x", shape=[])])
    weights = [
        numpy_helper.from_array(np.zeros((2, 3, 1, 1), np.float32), "W"),
        numpy_helper.from_array(np.array(True), "C"),
        numpy_helper.from_array(np.array(0, np.float32), "Z"),
        numpy_helper.from_array(np.array(1 << 40, np.int64), "many"),
        numpy_helper.from_array(np.array(199.5, np.float32), "limit"),
    ]
    nodes = [
        *rounds,
        helper.make_node("Loop", ["M", "C", "Z"], ["z"], body=body),
        helper.make_node("Conv", ["image", "W"], ["c"]),
        helper.make_node("Add", ["c", "z"], ["scores"]),
    ]
    return model(graph(nodes, weights))


def endless(*, stoppable: bool = True) -> Any:
    return loop([helper.make_node("Identity", ["many"], ["M"])], stoppable=stoppable)


def endless_where_bright() -> Any:
    """Without end where a value is 200 or more."""
    return loop(
        [
            helper.make_node("ReduceMax", ["image"], ["top"], keepdims=0),
            helper.make_node("Greater", ["top", "limit"], ["bright"]),
            helper.make_node("Cast", ["bright"], ["flag"], to=INT64),
            helper.make_node("Mul", ["flag", "many"], ["M"]),
        ]
    )


IMAGE = {"image": np.full((1, 3, 8, 8), 255, np.float32)}


def session(tmp_path: Path, made: Any, seconds: float) -> OnnxSession:
    (path := tmp_path / "model.onnx").write_bytes(made.SerializeToString())
    return OnnxSession(path, threads=1, seconds=seconds)


def test_a_tile_takes_no_longer_than_it_may(tmp_path: Path) -> None:
    network = session(tmp_path, endless_where_bright(), 0.3)
    dark = {"image": np.zeros((1, 3, 8, 8), np.float32)}
    for _ in range(2):
        with pytest.raises(TileTimeoutError, match=r"model\.onnx: a tile took more than 0\.3 s.*tile_timeout"):
            network.run(IMAGE)
        assert network.run(dark)[0].shape == (1, 2, 8, 8)
    # One after the other, they are the network's fault.
    for kind in (TileTimeoutError, TileTimeoutError, ModelError, ModelError):
        with pytest.raises(kind, match="a tile took more"):
            network.run(IMAGE)
    assert not stuck()


def test_larger_tiles_may_take_longer(tmp_path: Path) -> None:
    network = session(tmp_path, endless(), 0.2)
    start = time.monotonic()
    with pytest.raises(TileTimeoutError, match=r"more than 0\.8 s"):
        network.run(IMAGE, share=4)
    assert time.monotonic() - start >= 0.8


def test_a_run_ends_when_it_is_told_to(tmp_path: Path) -> None:
    network = session(tmp_path, endless(), 100)
    threading.Timer(0.3, network.stop).start()
    start = time.monotonic()
    with pytest.raises(Interrupted):
        network.run(IMAGE)
    assert time.monotonic() - start < 10
    with pytest.raises(Interrupted):
        network.run(IMAGE)
    assert not stuck()


def test_chunks_that_take_too_long_are_not_analysed(tmp_path: Path, write_raster: WriteRaster) -> None:
    image = np.full((3, 256, 512), 10, np.uint8)
    image[:, :, 256:] = 250
    scene, path = write_raster(image), folder(tmp_path / "m", endless_where_bright())
    done = run_cli(
        [
            "segment",
            scene,
            "-m",
            path,
            "-o",
            tmp_path / "out",
            "--tile",
            256,
            "--halo",
            0,
            "--chunk",
            256,
            "--tile-timeout",
            "1s",
            "-q",
        ]
    )
    assert done.returncode == 1, done.stderr
    assert "a tile took more than 1 s" in done.stderr
    with rasterio.open(tmp_path / "out" / "scene" / "classes.tif") as dataset:
        classes = dataset.read(1)
    assert (classes[:, :256] == 0).all()
    assert (classes[:, 256:] == 254).all()


@pytest.mark.parametrize(
    ("workers", "stoppable"),
    [
        ((), False),
        pytest.param((), True, marks=pytest.mark.slow),
        pytest.param(("--workers", "1"), True, marks=pytest.mark.slow),
        pytest.param(("--workers", "1"), False, marks=pytest.mark.slow),
    ],
    ids=["can't be stopped", "loop", "loop on Dask", "can't be stopped on Dask"],
)
def test_an_endless_network_ends_with_a_sentence(
    stoppable: bool, workers: tuple[str, ...], tmp_path: Path, write_raster: WriteRaster
) -> None:
    path = folder(tmp_path / "m", endless(stoppable=stoppable))
    scene = write_raster(np.ones((3, 64, 64), np.uint8))
    done = run_cli(["segment", scene, "-m", path, "-o", tmp_path / "out", "--tile-timeout", "1s", "-q", *workers])
    assert done.returncode == 2
    assert done.stderr.count("a tile took more than 1 s") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("number", "code", "stoppable"),
    [(signal.SIGTERM, 143, False), pytest.param(signal.SIGINT, 130, True, marks=pytest.mark.slow)],
)
def test_an_endless_network_ends_with_a_signal(
    stoppable: bool, number: int, code: int, tmp_path: Path, write_raster: WriteRaster
) -> None:
    path = folder(tmp_path / "m", endless(stoppable=stoppable))
    scene = write_raster(np.ones((3, 64, 64), np.uint8))
    command = [sys.executable, "-m", "pipeline", "segment", str(scene), "-m", str(path), "-o", str(tmp_path / "out"), "-q"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        _wait_for_network(process.pid)
        start = time.monotonic()
        process.send_signal(number)
        _, err = process.communicate(timeout=LIMIT_S)
    finally:
        process.kill()
    assert process.returncode == code, err
    # Ten seconds are promised and four needed; a machine that is busy with other tests takes longer.
    assert time.monotonic() - start < 30
    assert "stopped; finished chunks are kept" in err


def _wait_for_network(pid: int) -> None:
    """Until a thread beside the main one has computed for a second."""
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        for task in os.listdir(f"/proc/{pid}/task"):
            used = Path(f"/proc/{pid}/task/{task}/stat").read_text().rsplit(")", 1)[1].split()[11]
            if task != str(pid) and int(used) > os.sysconf("SC_CLK_TCK"):
                return
        time.sleep(0.1)
    raise AssertionError("the network did not begin")
