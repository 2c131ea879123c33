"""Every method on networks that let only some of them run, by the command line: a note each, or a mistake if named."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from cnnviz_cli.core.method import methods
from cnnviz_cli.models.input.preprocessing import Preprocessing
from cnnviz_cli.models.inspect.probe import probe_layers
from cnnviz_cli.models.load.loaded_model import LoadedModel
from cnnviz_cli.run.explain import Explainer

from .conftest import Command, Result

preparation = importlib.import_module("cnnviz_cli.run.session")

LITTLE = ["--saliency-steps", "2", "--saliency-samples", "2", "--saliency-draws", "60", "--saliency-masks", "10"]
LITTLE += ["--gradcam-noisy-inputs", "1", "--gradcam-noisy-masks", "1", "--gradcam-mask-steps", "1"]


class Squashed(tiny.Plain):
    """No rectifier."""

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv2(torch.tanh(self.conv1(x))).mean((2, 3)))


class Normed(tiny.Plain):
    """An operation without a rule for relevance and differences, and a head that does not average."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6 * tiny.SIZE**2, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.gelu(self.conv1(x))
        x = functional.layer_norm(self.conv2(x), (tiny.SIZE, tiny.SIZE))
        return self.fc(x.flatten(1))


class Attending(tiny.Plain):
    """Attention, which torch differentiates once only, behind code that cannot be traced."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu2(self.conv2(self.relu1(self.conv1(x))))
        if float(x.detach().sum()) < 0:
            return self.fc(x.mean((2, 3)))
        words = x.flatten(2).transpose(1, 2).unsqueeze(1)
        seen = functional.scaled_dot_product_attention(words, words, words)
        return self.fc(seen[:, 0].mean(1))


class Frozen(tiny.Plain):
    """The first convolution runs out of autograd's sight, so that no gradient reaches the input."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.pool(self.relu1(self.conv1(x)))
        return self.fc(self.relu2(self.conv2(x)).mean((2, 3)))


RULED = {"lrp", "deeplift"}
GUIDED = {"guided-backprop", "guided-gradcam", "deconvnet", "class"}
SLOPES = {"gradient", "input-x-gradient", "smoothgrad", "smoothgrad-squared", "vargrad", "integrated-gradients"}
SLOPES |= {"gradient-shap", "blur-ig", "guided-ig", "xrai", "fullgrad"}
ATTENTION = {"attention-rollout", "legrad", "transformer-attribution"}

CASES: list[tuple[type[nn.Module], set[str]]] = [
    (tiny.Plain, ATTENTION),
    (tiny.Residual, ATTENTION),
    (Squashed, GUIDED | ATTENTION),
    (Normed, RULED | ATTENTION | {"cam"}),
    (Attending, RULED | {"cam", "shapleycam"}),
    (Frozen, RULED | SLOPES | GUIDED | ATTENTION),
]

Explain = Callable[..., Result]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    place = tmp_path / "in" / "a.png"
    place.parent.mkdir()
    Image.effect_noise((40, 40), 90).convert("RGB").save(place)
    return place


@pytest.fixture
def explain(cnnviz: Command, photo: Path, monkeypatch: pytest.MonkeyPatch) -> Explain:
    """`explain(net class, command, *flags)` with a tiny network in the place of the bundled one."""

    def run(kind: type[nn.Module], command: str, *flags: str) -> Result:
        net = tiny.build(kind).float()
        layers = probe_layers(net, (3, tiny.SIZE, tiny.SIZE), "tiny")
        size = Preprocessing(tiny.SIZE, tiny.SIZE, (0.5,) * 3, (0.5,) * 3, "bilinear")
        model = LoadedModel(net, "tiny", "none", "", tuple("abcde"), size, layers)
        monkeypatch.setattr(preparation, "load_model", lambda *_a, **_k: model)
        return cnnviz(command, photo, "-o", "out", *flags)

    return run


def pictured() -> set[str]:
    (image,) = json.loads(Path("out/manifest.json").read_text(encoding="utf-8"))["images"]
    return {output["method"] for output in image["outputs"]} - {None}


def left_out(result: Result) -> dict[str, str]:
    notes = (re.split(r" (?:is|are) left out: ", line.removeprefix("warning: ")) for line in result.err.splitlines())
    return {name: note[1] for note in notes if len(note) == 2 for name in re.split(", | and ", note[0])}


@pytest.mark.parametrize(
    ("kind", "refused"),
    [pytest.param(*case, marks=pytest.mark.slow if case[0] is tiny.Residual else ()) for case in CASES],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_all_methods_end_well_with_a_note_for_each_that_cannot_apply(
    explain: Explain, kind: type[nn.Module], refused: set[str]
) -> None:
    result = explain(kind, "all", "--method", "all", *LITTLE)
    assert result.code == 0, result.err
    assert set(left_out(result)) == refused
    assert pictured() == {method.name for method in methods()} - refused
    assert not any("bug" in line or "Traceback" in line for line in result.err.splitlines())


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind, names in CASES for name in sorted(names)],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_named_one_is_a_mistake_before_any_picture_is_looked_at(
    explain: Explain, kind: type[nn.Module], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def observe(*_arguments: Any, **_named: Any) -> Any:
        raise AssertionError("a picture was looked at")

    monkeypatch.setattr(Explainer, "explain_batch", observe)
    family = next(method.family for method in methods() if method.name == name)
    result = explain(kind, family, "--method", name)
    assert result.code == 2, result.err
    first, *fix = [line for line in result.err.splitlines() if line.startswith(("error", "  "))]
    assert first.startswith(f"error: {name}: ")
    if "no gradient reaches" in first:  # then the line of code where it ends, and what runs
        assert kind is Frozen
        assert "test_applicable.py" in fix[0]
        assert fix[-1].startswith("  These run on this network: cnnviz ")
    else:
        assert len(fix) == 1
        assert fix[0].startswith(("  Use ", "  Choose "))
    assert result.out == ""
    assert not list(Path("out").rglob("*.png"))


def test_the_way_out_names_methods_of_the_family(explain: Explain) -> None:
    lrp = explain(Normed, "saliency", "--method", "lrp")
    assert lrp.err.splitlines()[-1] == "  Use gradient, blur-ig or gradient-shap instead, see: cnnviz methods"
    shapley = explain(Attending, "gradcam", "--method", "shapleycam")
    assert shapley.err.splitlines()[-1] == "  Use gradcam, ablationcam or eigencam instead, see: cnnviz methods"
    # Every deconvolution bends rectifiers, so there is no other of the family.
    deconv = explain(Squashed, "deconv")
    assert deconv.err.splitlines()[-1] == "  Use a method that follows the exact gradient, see: cnnviz methods"


def test_what_the_command_for_all_families_takes_by_itself_is_not_named(explain: Explain) -> None:
    result = explain(Squashed, "all")
    assert result.code == 0
    assert set(left_out(result)) == {"deconvnet"}
    assert pictured() == {"feature-maps", "gradient", "gradcam"}
    assert explain(Squashed, "all", "--method", "class").code == 2
    assert explain(Squashed, "deconv").code == 2


def test_a_layer_that_suits_all_but_one_leaves_that_one_out(explain: Explain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnviz_cli.methods.kpca_cam.POSITIONS", 100)
    result = explain(
        tiny.Plain, "gradcam", "--method", "all", "--layer", "conv1", *[f.replace("gradcam-", "") for f in LITTLE[8:]]
    )
    assert result.code == 0, result.err
    assert set(left_out(result)) == {"kpca-cam"} | ATTENTION
    assert explain(tiny.Plain, "gradcam", "--method", "all", "--layer", "conv7").code == 2
