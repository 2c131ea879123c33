"""Which answers are in full precision where the network runs in a lower one, and that weights are converted once."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import tiny
import torch
from engine.test_stream import Noisy
from running import given_for
from torch import Tensor, nn

from cnnviz_cli.core.needs import (
    INPUT,
    Activation,
    BiasGradients,
    Gradient,
    GradientOver,
    Input,
    Need,
    Relevance,
    Scores,
)
from cnnviz_cli.core.objectives import StrongestChannel
from cnnviz_cli.engine import Plan, observe
from cnnviz_cli.engine.device import arithmetic_of, multiplication_speed
from cnnviz_cli.engine.execution import Execution, Precision

OVER = Noisy(at=INPUT)
LOW: tuple[Need, ...] = (
    Activation("conv2"),
    Gradient("conv2"),
    Scores(OVER),
    GradientOver(OVER, at="conv2"),
    BiasGradients(),
)
FULL: tuple[Need, ...] = (
    Gradient(),
    Gradient(through="guide"),
    Gradient(of=StrongestChannel("conv2"), through="rectify"),
    Activation("conv2", full=True),
    Scores(OVER, full=True),
    GradientOver(OVER),
    Relevance("epsilon"),
)


def answers(needs: tuple[Need, ...], precision: Precision) -> dict[Need, Tensor]:
    net, batch = tiny.build(tiny.Residual).float(), tiny.pictures(3).float()
    seen = observe(
        net, batch, Plan.of(needs), tiny.first_class, given=given_for(batch), execution=Execution(precision, fold=False)
    )
    return {need: seen.evidence[need] for need in needs}


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_each_answer_has_its_precision_whatever_else_is_asked(precision: Precision) -> None:
    exact, mixed = answers(LOW, "fp32") | answers(FULL, "fp32"), answers(LOW + FULL, precision)
    for need in FULL:
        assert torch.equal(mixed[need], exact[need]), need
        assert torch.equal(answers((need,), precision)[need], mixed[need]), need
    for need in LOW:
        assert not torch.equal(mixed[need], exact[need]), need
        assert (mixed[need] - exact[need]).norm() < 0.1 * exact[need].norm(), need
        assert torch.equal(answers((need,), precision)[need], mixed[need]), need


def test_scores_and_targets_do_not_depend_on_what_is_asked() -> None:
    net, batch = tiny.build(tiny.Residual).float(), tiny.pictures(3).float()
    seen = [
        observe(net, batch, Plan.of(needs), tiny.first_class, execution=Execution("bf16", fold=False))
        for needs in ((Input(),), (Gradient(),), (Gradient(), Activation("conv2")))
    ]
    assert all(torch.equal(one.logits, seen[0].logits) for one in seen)
    assert not torch.equal(seen[0].logits, observe(net, batch, Plan.of([Input()]), tiny.first_class).logits)


def test_the_plan_says_what_runs_how() -> None:
    plan = Plan.of((Activation("conv2"), Gradient("conv2"), Gradient(), Scores(OVER), Scores(OVER, full=True)))
    assert plan.lines("bf16") == [
        "1 forward in bf16, autograd from conv2 on, keeping 1 layer",
        "1 backward of the score of target 1 to conv2",
        f"for each image {OVER.count} forwards: {OVER.label()} in bf16",
        "1 forward in fp32, autograd from the input on",
        "1 backward of the score of target 1 to the input",
        f"for each image {OVER.count} forwards: {OVER.label()} in fp32",
    ]
    low, full = plan.cost("bf16"), plan.cost()
    assert (low.forwards, low.backwards, low.variants) == (2, 2, 2 * OVER.count)
    assert (full.forwards, full.backwards, full.variants) == (1, 1, OVER.count)
    assert [name for name, _ in Plan.of([Activation("conv2")]).parts("bf16")] == ["bf16"]


class Reader(nn.Module):
    """A convolution and a linear layer, and one whose class does more with its weight."""

    class Scaled(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            assert self.weight.dtype == torch.float32
            return self._conv_forward(x, self.weight * 2, self.bias)

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.scaled, self.fc = nn.Conv2d(3, 8, 3), Reader.Scaled(8, 8, 3), nn.Linear(8, 5)
        self.formats: list[torch.dtype] = []

    def forward(self, x: Tensor) -> Tensor:
        self.formats.append(self.conv.weight.dtype)
        result: Tensor = self.fc(self.scaled(self.conv(x).relu()).relu().mean((2, 3)))
        return result


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_converted_weights_give_the_bits_of_autocast(precision: Precision, dtype: torch.dtype) -> None:
    net, batch = tiny.build(Reader).float(), tiny.pictures(2).float()
    how, needs = Execution(precision), (Activation("scaled"), Gradient("conv"))

    def seen() -> tuple[list[Tensor], Tensor]:
        found = observe(net, batch, Plan.of(needs), tiny.first_class, execution=how)
        return [found.evidence[need] for need in needs], found.logits

    state = tiny.state_of(net)
    with how.autocast(batch.device):
        expected = net(batch.clone()).float()
    for _ in range(2):
        assert torch.equal(seen()[1], expected)
    assert net.formats == [torch.float32, dtype, dtype]
    assert tiny.state_of(net) == state
    kept = net.conv._parameters
    with torch.no_grad():
        net.conv.weight.mul_(2)  # rewritten in place: to be converted again
    with how.autocast(batch.device):
        again = net(batch.clone()).float()
    assert not torch.equal(again, expected)
    assert torch.equal(seen()[1], again)
    assert net.conv._parameters is kept


def test_weights_are_the_networks_own_again_after_an_error() -> None:
    class Breaking(Reader):
        def forward(self, _x: Tensor) -> Tensor:
            raise RuntimeError("no")

    net = tiny.build(Breaking).float()
    kept = net.fc._parameters
    with pytest.raises(RuntimeError, match="no"):
        observe(net, tiny.pictures(1).float(), Plan.of([Input()]), tiny.first_class, execution=Execution("bf16"))
    assert net.fc._parameters is kept
    assert net.fc.weight.dtype == torch.float32


def test_what_is_projected_is_picked_from_the_maps_of_the_answer() -> None:
    # The strongest map by numbers that bfloat16 cannot tell apart.
    class Close(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.maps, self.fc = nn.Conv2d(3, 2, 1, bias=False), nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.fc(self.maps(x).relu().mean((2, 3)))
            return result

    net = tiny.build(Close).float()
    net.maps.weight.data[:] = torch.tensor([1.0, 1.0 + 2**-12]).view(2, 1, 1, 1)
    batch = torch.ones(1, 3, 4, 4)
    slope, maps = Gradient(of=StrongestChannel("maps"), through="rectify"), Activation("maps", full=True)
    seen = observe(net, batch, Plan.of([slope, maps]), tiny.first_class, execution=Execution("bf16", fold=False))
    top = int(seen.evidence[maps].amax((2, 3)).argmax())
    assert top == 1
    torch.testing.assert_close(seen.evidence[slope][0, 0], seen.evidence[maps][0, 1] * (1 + 2**-12))


def test_a_processor_is_known_by_what_it_multiplies_with(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"architecture": "x86_64", "avx512_bf16": True}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known, raising=False)
    cpu = torch.device("cpu")
    assert [arithmetic_of(cpu, name) for name in ("fp32", "bf16", "fp16")] == ["own", "traffic", "none"]
    assert arithmetic_of(torch.device("cuda"), "fp16") == "own"
    known["amx_bf16"] = True
    assert arithmetic_of(cpu, "bf16") == "own"
    known["architecture"] = "aarch64"
    assert arithmetic_of(cpu, "fp16") == "own"


def test_speeds_are_measured_in_turns_with_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    now, threads = [0.0], []

    def multiply(left: Tensor, _right: Tensor) -> None:
        threads.append(torch.get_num_threads())
        now[0] += 0.3 if left.dtype == torch.bfloat16 else 0.6

    monkeypatch.setattr(torch, "mm", multiply)
    monkeypatch.setattr("cnnviz_cli.engine.device.time", SimpleNamespace(perf_counter=lambda: now[0]))
    before = torch.get_num_threads()
    assert multiplication_speed("bf16") == pytest.approx(2.0)
    assert set(threads) == {1}
    assert torch.get_num_threads() == before
