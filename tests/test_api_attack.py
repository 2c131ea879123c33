"""cnnviz_cli.attack: the attacks of the command, from Python, and nothing of the caller's changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nets
import numpy as np
import pytest
import tiny
import torch
from PIL import Image

import cnnviz_cli
from cnnviz_cli.cli.main import main
from cnnviz_cli.core.errors import ExitCode

HOW: dict[str, Any] = {"input_size": (32, 32), "device": "cpu"}
IMAGE = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)


def test_the_command_finds_the_same(tmp_path: Path) -> None:
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    asked = ("--steps", "3", "--seed", "5", "--eps", "0.3", "--method", "fgsm", "--method", "pgd", "--save-arrays")
    how = ("--model", "nets:classifier", "--allow-code", "--input-size", "32", "--device", "cpu", "-q")
    assert main(["attack", str(tmp_path / "a.png"), *asked, *how, "-o", str(tmp_path / "o")]) == ExitCode.OK
    told = json.loads((tmp_path / "o" / "manifest.json").read_text(encoding="utf-8"))["images"][0]
    found = cnnviz_cli.attack(
        nets.classifier(), tmp_path / "a.png", steps=3, seed=5, eps=0.3, method=["fgsm", "pgd"], **HOW
    )
    assert [one.method for one in found] == ["fgsm", "pgd"]
    with np.load(tmp_path / "o" / told["arrays"]["path"]) as arrays:
        for one, output in zip(found, told["outputs"], strict=True):
            assert dict(one.statistics) == output["statistics"]
            assert np.array_equal(one.attacked, arrays[output["arrays"]["attacked"]])
            assert np.array_equal(one.change, arrays[output["arrays"]["change"]])


def test_an_attack_has_its_labels_numbers_maps_and_figure(tmp_path: Path) -> None:
    net = nets.classifier()
    (one,) = cnnviz_cli.attack(net, IMAGE, eps="102/255", labels=["a", "b", "c", "d"], **HOW)
    scores = net.eval()(torch.from_numpy(one.attacked.copy())[None])
    assert one.label_after == "abcd"[int(scores.argmax())]
    assert one.flipped == (one.label != one.label_after)
    assert one.eps == (one.statistics["eps"] if one.flipped else None)
    assert (one.attacked.shape, one.change.shape) == ((3, 32, 32), (3, 32, 32))
    assert [found.shape for found in one.maps] == [(1, 4, 4), (1, 4, 4)]
    assert one.source == "image 0"
    assert one._repr_png_().startswith(b"\x89PNG")
    with np.load(one.save(tmp_path / "a.npz")) as arrays:
        assert np.array_equal(arrays["attacked"], one.attacked)
    assert one.save(tmp_path / "a.svg").exists()


def test_nothing_within_a_tiny_budget_is_said_to_flip() -> None:
    (one,) = cnnviz_cli.attack(nets.classifier(), IMAGE, eps=1e-7, method="fgsm", **HOW)
    assert (one.flipped, one.eps, one.label) == (False, None, one.label_after)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "name", ["one_at_a_time", "dropped", "counts", "restless", "checkpointed", "recurrent", "mirrored"]
)
def test_odd_networks_are_attacked_as_they_are(name: str) -> None:
    net = getattr(nets, name)()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    (one,) = cnnviz_cli.attack(net, IMAGE, eps=0.3, steps=2, **HOW)
    assert one.statistics["linf"] <= 0.3 + 1e-6
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in before.items())
    assert not any(parameter.grad is not None for parameter in net.parameters())


def test_a_network_of_one_channel_and_one_of_six_bands(tmp_path: Path) -> None:
    (one,) = cnnviz_cli.attack(nets.grey_classifier(), IMAGE, eps=0.3, steps=2, **HOW)
    assert one.attacked.shape == (1, 32, 32)
    bands = cnnviz_cli.Preprocessing(32, 32, (0.1,) * 6, (0.5,) * 6)
    planes = np.random.default_rng(1).random((6, 32, 32), np.float32)
    torch.manual_seed(0)
    net = nets.Classifier(channels=6)
    (one,) = cnnviz_cli.attack(net, (torch.from_numpy(planes) - 0.1) / 0.5, eps=0.2, preprocessing=bands, method="fgsm")
    pixels = one.attacked * 0.5 + 0.1
    assert -1e-6 <= pixels.min() <= pixels.max() <= 1 + 1e-6
    np.testing.assert_allclose(pixels - planes, one.change, atol=1e-6)
    assert one.save(tmp_path / "bands.png").exists()


def test_a_network_that_normalises_by_itself_is_attacked_in_pixels_all_the_same() -> None:
    """The same network, once with the normalisation in front and once with it in the preprocessing."""

    class Within(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nets.classifier()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net((x - 0.5) / torch.tensor([0.1, 0.2, 0.4]).view(3, 1, 1))

    outside = cnnviz_cli.Preprocessing(32, 32, (0.5,) * 3, (0.1, 0.2, 0.4))
    within = cnnviz_cli.Preprocessing(32, 32, (0.0,) * 3, (1.0,) * 3)
    for norm in ("linf", "l2"):
        how: dict[str, Any] = {"eps": 0.3 if norm == "linf" else 10.0, "norm": norm, "device": "cpu", "steps": 3}
        (one,) = cnnviz_cli.attack(nets.classifier(), IMAGE, preprocessing=outside, **how)
        (other,) = cnnviz_cli.attack(Within(), IMAGE, preprocessing=within, **how)
        assert one.statistics["eps"] == pytest.approx(other.statistics["eps"], rel=1e-3)
        np.testing.assert_allclose(one.change, other.change, atol=2e-4)


def test_the_odds_of_many_labels_cross_one_half() -> None:
    (one,) = cnnviz_cli.attack(nets.classifier(), IMAGE, eps=1.0, method="fgsm", multilabel=True, **HOW)
    told = one.statistics
    assert (told["score_before"] > 0.5) == (told["eps"] > 0)
    assert told["score_after"] <= 0.5 or not one.flipped


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"eps": "x"}, "a size above 0"),
        ({"eps": 3}, "a pixel cannot change by 3"),
        ({"to": 9}, "there is no class 9"),
        ({"epsilon": 3}, "no option 'epsilon'"),
        ({"method": "gradcam"}, "'gradcam' is a method of gradcam"),
        ({"method": "fgsm", "steps": 3}, "no chosen method reads"),
        ({"scale": "fixed:0,1"}, "no option 'scale'"),
        ({"explain_by": "x"}, "no method 'x'"),
    ],
)
def test_a_mistake_is_said_with_the_argument(options: dict[str, Any], words: str) -> None:
    with pytest.raises(cnnviz_cli.UsageError, match=words) as raised:
        cnnviz_cli.attack(nets.classifier(), IMAGE, **options, **HOW)
    assert not (raised.value.where or "").startswith("--")


def test_a_network_without_a_gradient_at_its_input_says_so() -> None:
    class Rounded(tiny.Plain):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x.detach())

    with pytest.raises(cnnviz_cli.UsageError, match="no gradient reaches the input"):
        cnnviz_cli.attack(Rounded(), IMAGE, **HOW)
