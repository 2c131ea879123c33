"""Which methods a run keeps: all of a family, those that were named, and those that a network does not let run."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor, nn

from cnnviz_cli.config.load import load_settings
from cnnviz_cli.core import method as registry
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.method import MethodContext, Recipe, find_method, method, option
from cnnviz_cli.core.needs import (
    Activation,
    Evidence,
    Gradient,
    GradientOver,
    Need,
    PathIntegral,
    Relevance,
    Scores,
    Unaltered,
)
from cnnviz_cli.core.objectives import StrongestChannel
from cnnviz_cli.methods.common.baselines import Baseline
from cnnviz_cli.methods.common.masking import WithoutChannel
from cnnviz_cli.methods.common.paths import GuidedPath
from cnnviz_cli.models.input.preprocessing import Preprocessing
from cnnviz_cli.models.inspect.probe import probe_layers
from cnnviz_cli.models.load.loaded_model import LoadedModel
from cnnviz_cli.run.explain import Explainer, prepare

preparation = importlib.import_module("cnnviz_cli.run.session")


class Unrectified(nn.Module):
    """No rectifier anywhere, so that rules for them change nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 6, 3, padding=1)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv2(torch.tanh(self.conv1(x))).mean((2, 3)))


class Heard:
    """A reporter of which only the warnings matter."""

    def __init__(self) -> None:
        self.warned: list[str] = []

    def warn(self, text: str) -> None:
        self.warned.append(text)


@dataclass(frozen=True, slots=True)
class Nothing:
    pass


@dataclass(frozen=True, slots=True)
class Layered:
    layer: tuple[str, ...] = option(("last-conv",), "Layer to read; its maps must still be spatial. Repeatable.")


def silent(*needs: Need) -> Recipe:
    return Recipe(needs, lambda _evidence: [])


@pytest.fixture(autouse=True)
def four_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    """A family of gradcam and three made up: one that never applies, one that bends rectifiers, one without need."""
    monkeypatch.setattr(registry, "_METHODS", {"gradcam": find_method("gradcam")})

    @method("picky", family="gradcam", options=Nothing, paper="none")
    def picky(_options: Nothing, _scope: MethodContext) -> Recipe:
        """Nothing."""
        raise UsageError("this network has no head", fix="Use gradcam.")

    @method("bent+", family="gradcam", options=Layered, paper="none")
    def bent(options: Layered, scope: MethodContext) -> Recipe:
        """Nothing."""
        scope.layers.resolve(options.layer)
        return silent(Gradient(of=scope.target, through="rectify"))

    @method("idle", family="gradcam", options=Nothing, paper="none")
    def idle(_options: Nothing, _scope: MethodContext) -> Recipe:
        """Nothing."""
        return silent()


BLACK = Baseline("black", (-1.0,) * 3, (1.0,) * 3)


def register(name: str, *needs: Need) -> None:
    """A method made up of needs alone."""

    @method(name, family="gradcam", options=Nothing, paper="none")
    def build(_options: Nothing, _scope: MethodContext) -> Recipe:
        """Nothing."""
        return silent(*needs)


Prepare = Callable[..., tuple[Explainer, list[str]]]


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> Prepare:
    """`prepared(net class, methods, **settings)` on a tiny network: what is run, and what was warned of."""

    def run(kind: type[nn.Module], chosen: str, **settings: Any) -> tuple[Explainer, list[str]]:
        net = tiny.build(kind).float()
        layers = probe_layers(net, (3, tiny.SIZE, tiny.SIZE), "tiny")
        size = Preprocessing(tiny.SIZE, tiny.SIZE, (0.5,) * 3, (0.5,) * 3, "bilinear")
        model = LoadedModel(net, "tiny", "none", "", tuple("abcde"), size, layers)
        monkeypatch.setattr(preparation, "load_model", lambda *_a, **_k: model)
        flags = {("gradcam", "method"): [chosen], **{tuple(k.split("__")): v for k, v in settings.items()}}
        heard = Heard()
        found = prepare("gradcam", load_settings("gradcam", flags, None, {}), heard)  # type: ignore[arg-type]
        return found, heard.warned

    return run


def names(found: Explainer) -> list[str]:
    return [task.method.name for task in found.tasks]


def test_all_is_every_method_that_applies_and_a_note_for_each_of_the_others(prepared: Prepare) -> None:
    found, warned = prepared(tiny.Plain, "all")
    assert names(found) == ["gradcam", "bent+", "idle"]
    assert warned == ["picky is left out: this network has no head"]


def test_several_targets_give_several_tasks_to_those_that_follow_one(prepared: Prepare) -> None:
    found, warned = prepared(tiny.Plain, "all", target=["top3"])
    assert names(found) == ["gradcam"] * 3 + ["bent+"] * 3 + ["idle"]
    assert len(warned) == 1


def test_what_is_recorded_is_the_list_that_was_run(prepared: Prepare) -> None:
    found, _ = prepared(tiny.Plain, "all")
    recorded = found.session.settings.as_json()["gradcam"]
    assert (recorded["method"], recorded["layer"]) == (["gradcam", "bent+", "idle"], ["last-conv"])
    by_name, warned = prepared(tiny.Plain, "gradcam,bent+,idle")
    assert warned == []
    assert by_name.session.settings.config_sha256 == found.session.settings.config_sha256
    assert by_name.session.settings == found.session.settings


@pytest.mark.parametrize("chosen", ["picky", "gradcam, picky", "picky,all", "all,picky"])
def test_a_named_method_that_does_not_apply_is_a_mistake(prepared: Prepare, chosen: str) -> None:
    with pytest.raises(UsageError, match="no head") as caught:
        prepared(tiny.Plain, chosen)
    assert (caught.value.where, caught.value.fix) == ("picky", "Use gradcam.")


def test_what_only_a_pass_can_tell_is_tried_first(prepared: Prepare) -> None:
    found, warned = prepared(Unrectified, "all")
    assert names(found) == ["gradcam", "idle"]
    assert len(warned) == 2
    assert warned[0].startswith("picky is left out: ")
    assert warned[1].startswith("bent+ is left out: this network has no rectifier")
    with pytest.raises(UsageError, match="no rectifier") as caught:
        prepared(Unrectified, "bent+,idle")
    assert caught.value.where == "bent+"
    assert caught.value.fix == "Use gradcam or idle instead, see: cnnviz methods"


def test_a_wrong_setting_is_a_mistake_whoever_stumbles_over_it(prepared: Prepare) -> None:
    with pytest.raises(UsageError, match="no layer 'typo'") as caught:
        prepared(tiny.Plain, "all", gradcam__layer=["typo"])
    assert caught.value.where == "--layer"


def test_a_setting_that_suits_others_leaves_one_method_out(prepared: Prepare) -> None:
    @method("late", family="gradcam", options=Layered, paper="none")
    def late(options: Layered, _scope: MethodContext) -> Recipe:
        """Nothing."""
        if options.layer == ("conv1",):
            raise UsageError("layer 'conv1' is too large", where="--layer", fix="Use another.")
        return silent()

    found, warned = prepared(tiny.Plain, "all", gradcam__layer=["conv1"])
    assert names(found) == ["gradcam", "bent+", "idle"]
    assert warned[1:] == ["late is left out: layer 'conv1' is too large"]
    with pytest.raises(UsageError, match="too large") as caught:
        prepared(tiny.Plain, "gradcam,late", gradcam__layer=["conv1"])
    assert (caught.value.where, caught.value.fix) == ("--layer", "Use another.")
    with pytest.raises(UsageError, match="too large"):
        prepared(tiny.Plain, "late", gradcam__layer=["conv1"])


def test_a_default_that_does_not_fit_is_no_mistake(prepared: Prepare, monkeypatch: pytest.MonkeyPatch) -> None:
    class Dense(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x.mean((2, 3)))

    monkeypatch.setattr(preparation, "find_head", lambda *_a: None)
    found, warned = prepared(Dense, "all")
    assert names(found) == ["idle"]
    assert len(warned) == 2
    reason = "no module of tiny has maps, so there is no layer to read; of 'fc': it returns a tensor of shape (1, 5)"
    # One line for a reason.
    assert warned[0] == f"gradcam and bent+ are left out: {reason}"


def test_where_nothing_is_left_the_first_reason_is_the_answer(
    prepared: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_METHODS", {"picky": find_method("picky"), "bent+": find_method("bent+")})
    with pytest.raises(UsageError, match="no head"):
        prepared(Unrectified, "all")


class Watched:
    """Stands in for the engine: remembers the plans, and refuses those with a need that takes forwards of its own."""

    def __init__(self) -> None:
        self.plans: list[Any] = []

    def __call__(self, _net: Any, _batch: Any, plan: Any, _choose: Any, **_how: Any) -> None:
        self.plans.append(plan)
        if plan.separate:
            raise UsageError("lrp has no rule for Fancy")


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Watched:
    watched = Watched()
    monkeypatch.setattr(preparation, "observe", watched)
    return watched


def test_all_methods_are_tried_together_once_however_many_targets(prepared: Prepare, engine: Watched) -> None:
    prepared(tiny.Plain, "gradcam,idle")
    prepared(tiny.Plain, "all", target=["top3"])
    # The maps and the gradient of gradcam; those, a rectifier rule, and the true gradient in its place.
    assert [(len(plan.needs), len(plan.backwards)) for plan in engine.plans] == [(2, 1), (4, 2)]
    engine.plans.clear()
    prepared(tiny.Plain, "idle")
    assert engine.plans == []


def test_a_trial_has_no_variants_and_finds_the_culprit(prepared: Prepare, engine: Watched) -> None:
    @dataclass(frozen=True)
    class Noise:
        at: str = "<input>"
        needs: tuple[Need, ...] = ()
        count: int = 1000

        def make(self, evidence: Evidence, image: int, start: int, stop: int) -> Tensor:
            raise NotImplementedError

        def label(self) -> str:
            return "noise"

    @method("many", family="gradcam", options=Nothing, paper="none")
    def many(_options: Nothing, scope: MethodContext) -> Recipe:
        """Nothing."""
        return silent(
            Scores(Noise(), scope.target),
            GradientOver(Noise(), scope.target, through="guide"),
            GradientOver(Noise(), scope.target, through="guide", moment=2),
            *(Activation(name) for name in ("conv1", "conv2")),
        )

    @method("relevant", family="gradcam", options=Nothing, paper="none")
    def relevant(_options: Nothing, scope: MethodContext) -> Recipe:
        """Nothing."""
        return silent(Relevance("epsilon", scope.target))

    found, warned = prepared(tiny.Plain, "all")
    assert names(found) == ["gradcam", "bent+", "idle", "many"]
    assert warned[1:] == ["relevant is left out: lrp has no rule for Fancy"]
    assert not any(plan.streams for plan in engine.plans)
    together, *alone = engine.plans
    # What gradcam reads at relu2, one rule for rectifiers, the true gradient, two other layers, the relevance.
    assert [len(plan.needs) for plan in alone] == [1] * 7
    target = find_target(found)
    assert Gradient(of=target) in together.needs
    assert {need.through for need in together.needs if isinstance(need, Gradient)} == {"exact", "guide"}
    assert Activation("conv1") in together.needs
    assert Activation("conv2") in together.needs


def test_a_trial_takes_the_network_apart_where_a_layer_is_altered_and_walks_one_step(
    prepared: Prepare, engine: Watched
) -> None:
    register("apart", Scores(WithoutChannel("conv2", 6, 6)), PathIntegral(GuidedPath(50, BLACK, 0.25, 0.02)))
    register("projecting", *(Gradient(of=StrongestChannel("conv1", rank), through="rectify") for rank in range(4)))
    prepared(tiny.Plain, "apart")
    (plan,) = engine.plans
    assert set(plan.needs) == {Activation("conv2"), Scores(Unaltered("conv2")), Gradient()}
    engine.plans.clear()
    prepared(tiny.Plain, "projecting")
    (plan,) = engine.plans
    strongest = StrongestChannel("conv1")
    assert set(plan.needs) == {Gradient(of=strongest, through="rectify"), Gradient("conv1", strongest)}


def find_target(found: Explainer) -> Any:
    """What the made-up methods explain."""
    return next(need.of for task in found.tasks for need in task.recipe.needs if isinstance(need, Gradient))
