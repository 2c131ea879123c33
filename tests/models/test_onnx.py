"""ONNX files: the same scores as ONNX's own evaluator gives, layers that can be read, and files that are refused."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cnnviz_cli.cli.main import main
from cnnviz_cli.core.errors import CnnvizError, ExitCode, ModelError, UsageError
from cnnviz_cli.models.load.loaded_model import LoadedModel, load_model
from cnnviz_cli.models.spec.network import FileKind, file_kind, parse_model

pytestmark = [
    pytest.mark.skipif(find_spec("onnx") is None or find_spec("onnx2torch") is None, reason="onnx is an extra"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

ROCKET = Path(__file__).parents[2] / "sample_images" / "rocket.jpg"
SIDES = (40, 48)


class Net(nn.Module):
    """Two convolutions with normalisations, a sum, and a head behind the average."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8)
        self.second, self.fc = nn.Conv2d(8, 8, 3, 1, 1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(x)))
        x = torch.relu(self.second(x) + x)
        return self.fc(torch.flatten(nn.functional.adaptive_avg_pool2d(x, 1), 1))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    """A network, and the file that torch's exporter writes if it folds nothing: weights behind Identity operators."""
    torch.manual_seed(3)
    net = Net().eval()
    net.norm.running_mean.uniform_(-1, 1)  # type: ignore[operator,union-attr]
    net.norm.running_var.uniform_(0.5, 2)  # type: ignore[operator,union-attr]
    path = tmp_path_factory.mktemp("onnx") / "net.onnx"
    with warnings.catch_warnings(action="ignore"):
        torch.onnx.export(
            net, (torch.rand(4, 3, *SIDES),), path, dynamo=False, opset_version=17, do_constant_folding=False,
            training=torch.onnx.TrainingMode.PRESERVE,
        )  # fmt: skip
    return net, path


def graph(
    nodes: Sequence[tuple[Any, ...]],
    tensors: dict[str, np.ndarray[Any, Any]],
    shape: Sequence[int | str] = ("n", 3, *SIDES),
    *,
    version: int = 17,
    kind: int = 1,
    inputs: Sequence[str] = ("x",),
) -> Any:
    """A model of nodes (operator, inputs, outputs, attributes), from its first input to ``y``."""
    from onnx import helper, numpy_helper

    made = [helper.make_node(name, before, after, **dict(*more)) for name, before, after, *more in nodes]
    values = [helper.make_tensor_value_info(name, kind, shape) for name in inputs]
    stored = [numpy_helper.from_array(tensor, name) for name, tensor in tensors.items()]
    whole = helper.make_graph(made, "g", values, [helper.make_tensor_value_info("y", 1, None)], stored)
    return helper.make_model(whole, opset_imports=[helper.make_opsetid("", version)], ir_version=8)


def save(model: Any, folder: Path, name: str = "net.onnx") -> Path:
    (folder / name).write_bytes(model.SerializeToString())
    return folder / name


def evaluate(path: Path, x: np.ndarray[Any, Any]) -> Any:
    """What ONNX's own evaluator, which computes in numpy, makes of an input."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    session = ReferenceEvaluator(onnx.load(path))
    return session.run(None, {session.input_names[0]: x})[0]


def compare(path: Path, reporter: Any, counts: Sequence[int] = (1, 3), fixed: int = 0) -> LoadedModel:
    """The loaded network, after its scores were held against the evaluator's; `fixed` images go into the latter."""
    loaded = load_model(str(path), reporter=reporter)
    for count in counts:
        x = torch.rand(count, 3, *SIDES, generator=torch.Generator().manual_seed(count))
        given = torch.cat([x, torch.zeros(max(fixed - count, 0), 3, *SIDES)]).numpy()
        with torch.no_grad():
            np.testing.assert_allclose(loaded.net(x).numpy(), evaluate(path, given)[:count], rtol=1e-4, atol=1e-5)
    return loaded


WEIGHTS = {
    "w": np.linspace(-1, 1, 4 * 27, dtype=np.float32).reshape(4, 3, 3, 3),
    "v": np.linspace(1, -2, 20, dtype=np.float32).reshape(4, 5),
}
CONV = ("Conv", ["x", "w"], ["c"])
HEAD = [("Relu", ["c"], ["r"]), ("GlobalAveragePool", ["r"], ["p"])]


def test_scores_are_those_of_the_evaluator_and_layers_can_be_read(
    exported: tuple[nn.Module, Path], tmp_path: Path, reporter: Any
) -> None:
    net, path = exported
    loaded = compare(path, reporter, (1, 4), fixed=4)
    x = torch.rand(2, 3, *SIDES)
    with torch.no_grad():
        torch.testing.assert_close(loaded.net(x), net(x))
    assert loaded.layers.resolve(["last-conv"]) == ("Relu_1",)
    assert loaded.layers.resolve(["conv"]) == ("first_Conv", "second_Conv")
    assert (loaded.labels, loaded.preprocessing.size, loaded.name) == (tuple("01234"), SIDES, "net.onnx")
    (said,) = reporter.said
    assert "does not say how its input is prepared: 40 x 48 pixels" in said
    for command in ("gradcam", "deconv"):
        assert main([command, str(ROCKET), "-m", str(path), "-o", str(tmp_path / command)]) == 0
    with np.load(next((tmp_path / "gradcam").rglob("*.npz"), None) or _arrays(path, tmp_path)) as kept:
        assert all(np.isfinite(kept[name]).all() and np.ptp(kept[name]) > 0 for name in kept.files)


def _arrays(path: Path, folder: Path) -> Path:
    assert main(["gradcam", str(ROCKET), "-m", str(path), "-o", str(folder / "arrays"), "--save-arrays"]) == 0
    return next((folder / "arrays").rglob("*.npz"))


@pytest.mark.parametrize("count", ["n", 1, 4])
def test_any_number_of_images(tmp_path: Path, reporter: Any, count: int | str) -> None:
    nodes = [CONV, *HEAD, ("Reshape", ["p", "s"], ["f"]), ("MatMul", ["f", "v"], ["y"])]
    start = 0 if count == "n" else int(count)
    model = graph(nodes, WEIGHTS | {"s": np.array([start, -1])}, (count, 3, *SIDES))
    fixed = 0 if count == "n" else int(count)
    loaded = compare(save(model, tmp_path), reporter, (1,) if count == 1 else (1, 3), fixed=fixed)
    assert loaded.facts.one_at_a_time == (count == 1)  # which runs can do with any network


def test_weights_that_are_another_name_of_weights(tmp_path: Path, reporter: Any) -> None:
    nodes = [("Identity", ["w"], ["i"]), ("Identity", ["i"], ["j"]), ("Conv", ["x", "j"], ["c"]), *HEAD]
    loaded = compare(save(graph([*nodes, ("Flatten", ["p"], ["y"])], WEIGHTS), tmp_path), reporter)
    assert loaded.layers.resolve(["conv"]) == ("Conv_0",)


def test_later_versions_of_the_standard(tmp_path: Path, reporter: Any) -> None:
    nodes = [
        CONV,
        ("Relu", ["c"], ["r"]),
        ("AveragePool", ["r"], ["a"], {"kernel_shape": [2, 2], "dilations": [1, 1]}),
        ("ReduceMean", ["a", "axes"], ["p"], {"keepdims": 0, "noop_with_empty_axes": 0}),
        ("MatMul", ["p", "v"], ["y"]),
    ]
    compare(save(graph(nodes, WEIGHTS | {"axes": np.array([2, 3])}, version=20), tmp_path), reporter)
    nodes[2] = ("AveragePool", ["r"], ["a"], {"kernel_shape": [2, 2], "dilations": [2, 2]})
    wider = save(graph(nodes, WEIGHTS | {"axes": np.array([2, 3])}, version=20), tmp_path)
    with pytest.raises(ModelError, match=r"does not know: AveragePool \(version 20"):
        load(wider, reporter)


def test_images_whose_channels_come_last(tmp_path: Path, reporter: Any) -> None:
    nodes = [("Transpose", ["x"], ["t"], {"perm": [0, 3, 1, 2]}), ("Conv", ["t", "w"], ["c"]), *HEAD]
    nodes.append(("Flatten", ["p"], ["y"]))
    path = save(graph(nodes, WEIGHTS, ("n", *SIDES, 3)), tmp_path)
    loaded = load_model(str(path), reporter=reporter)
    x = torch.rand(2, 3, *SIDES)
    with torch.no_grad():
        np.testing.assert_allclose(loaded.net(x).numpy(), evaluate(path, x.permute(0, 2, 3, 1).numpy()), rtol=1e-4)
    assert loaded.preprocessing.size == SIDES


def test_names_that_are_the_same_for_python(tmp_path: Path, reporter: Any) -> None:
    model = graph([CONV, *HEAD, ("Flatten", ["p"], ["y"])], WEIGHTS)
    for node, name in zip(model.graph.node, ("a/b", "a.b", "forward", "0"), strict=True):
        node.name = name
    loaded = compare(save(model, tmp_path), reporter)
    assert [name for name, _ in loaded.net.named_children() if name != "initializers"] == [
        "a_b", "a_b_1", "forward_2", "Flatten_0"
    ]  # fmt: skip


def load(path: Path, reporter: Any) -> LoadedModel:
    return load_model(str(path), reporter=reporter)


def test_tensors_in_a_file_beside_it(tmp_path: Path, reporter: Any) -> None:
    import onnx

    model = graph([CONV, *HEAD, ("Flatten", ["p"], ["y"])], WEIGHTS)
    expected = evaluate(save(model, tmp_path, "whole.onnx"), np.ones((1, 3, *SIDES), np.float32))
    folder = tmp_path / "split"
    folder.mkdir()
    onnx.save_model(model, folder / "net.onnx", save_as_external_data=True, location="net.data", size_threshold=0)
    assert len((folder / "net.data").read_bytes()) >= WEIGHTS["w"].nbytes
    with torch.no_grad():
        given = load(folder / "net.onnx", reporter).net(torch.ones(1, 3, *SIDES)).numpy()
    np.testing.assert_allclose(given, expected, rtol=1e-5)

    # The digest by which runs are told apart is of the numbers, too.
    digest = load(folder / "net.onnx", reporter).weights_sha256
    data = bytearray((folder / "net.data").read_bytes())
    data[3] ^= 0x80  # a sign
    (folder / "net.data").write_bytes(data)
    assert load(folder / "net.onnx", reporter).weights_sha256 != digest

    (folder / "net.data").rename(tmp_path / "net.data")
    with pytest.raises(ModelError, match="which is not there"):
        load(folder / "net.onnx", reporter)
    split = onnx.load(folder / "net.onnx", load_external_data=False)
    for place in ("../net.data", str(tmp_path / "net.data"), "a/../../net.data", ""):
        for entry in split.graph.initializer[0].external_data:
            if entry.key == "location":
                entry.value = place
        with pytest.raises(ModelError, match="names a file of tensors that is not beside it"):
            load(save(split, folder), reporter)


Made = Callable[[], Any]
FLAT = ("Flatten", ["p"], ["y"])


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: graph([("Hardmax", ["x"], ["y"])], {}), "does not know: Hardmax (version 17 of the standard)"),
        (lambda: graph([("Mish", ["x"], ["y"])], {}, version=20), "does not know: Mish (version 20 of the standard)"),
        (lambda: graph([("Gelu", ["x"], ["y"], {"domain": "com.microsoft"})], {}), "does not know: com.microsoft.Gelu"),
        (lambda: graph([CONV, *HEAD, FLAT], WEIGHTS, kind=2), "takes whole numbers"),
        (lambda: graph([("Add", ["x", "z"], ["y"])], {}, inputs=("x", "z")), "takes 2 inputs (x, z)"),
        (lambda: graph([("Relu", ["x"], ["y"])], {}, (1, 3, 8)), "takes an input of 3 dimensions"),
        (lambda: graph([], {}), "it has no operators"),
    ],
)
def test_graphs_that_cannot_be_explained(tmp_path: Path, reporter: Any, made: Made, said: str) -> None:
    with pytest.raises(ModelError) as caught:
        load(save(made(), tmp_path), reporter)
    assert said in caught.value.what
    assert "\n" not in caught.value.what
    assert caught.value.code == ExitCode.MODEL


@pytest.mark.parametrize("content", [b"", b"not a graph", b"\x08\x08\x12\xff\xff\xff\xff\x7f", bytes(range(256)) * 9])
def test_other_bytes(tmp_path: Path, reporter: Any, content: bytes) -> None:
    (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(ModelError, match="is not an ONNX graph, or is damaged"):
        load(tmp_path / "net.onnx", reporter)


def test_a_tensor_that_claims_more_than_the_file_has(tmp_path: Path, reporter: Any) -> None:
    model = graph([CONV, *HEAD, FLAT], WEIGHTS)
    model.graph.initializer[0].dims[0] = 1 << 40
    with pytest.raises(ModelError, match="its tensor 'w' claims 29,686,813,949,952 numbers and has fewer"):
        load(save(model, tmp_path), reporter)
    whole = save(graph([CONV, *HEAD, FLAT], WEIGHTS), tmp_path).read_bytes()
    for end in range(0, len(whole), 97):
        (tmp_path / "net.onnx").write_bytes(whole[:end])
        with pytest.raises(CnnvizError):
            load(tmp_path / "net.onnx", reporter)


def test_a_graph_that_is_too_large(tmp_path: Path, reporter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(graph([CONV, *HEAD, FLAT], WEIGHTS), tmp_path)
    monkeypatch.setattr("cnnviz_cli.models.load.onnx._MAX_NODES", 3)
    with pytest.raises(ModelError, match="has 4 operators, more than any network"):
        load(path, reporter)
    monkeypatch.setattr("cnnviz_cli.models.load.onnx._MAX_BYTES", 256)
    with pytest.raises(ModelError, match="is larger than 256 bytes"):
        load(path, reporter)


def test_settings_that_do_not_go_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reporter: Any) -> None:
    path = save(graph([CONV, *HEAD, FLAT], WEIGHTS), tmp_path)
    assert file_kind(path) is FileKind.ONNX
    with pytest.raises(UsageError, match="which holds its own weights"):
        load_model(str(path), "random:0", reporter=reporter)
    with pytest.raises(UsageError, match="is an ONNX graph, which holds its network"):
        load_model(str(path), arch="resnet18", reporter=reporter)
    with pytest.raises(ModelError, match="there is no file"):
        parse_model(str(tmp_path / "none.onnx"))
    monkeypatch.setattr("cnnviz_cli.models.spec.hub.find_spec", lambda _name: None)
    with pytest.raises(ModelError, match=r"'net\.onnx' needs onnx") as caught:
        parse_model(str(path))
    assert caught.value.fix == "pip install 'cnnviz-cli[onnx]'"
