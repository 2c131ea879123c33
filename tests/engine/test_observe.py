"""What an observation computes, what it costs, and what it leaves behind (nothing)."""

from __future__ import annotations

import gc
import warnings
import weakref
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor, nn

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.needs import INPUT, Activation, Gradient, Input, Need, UndeclaredError
from cnnviz_cli.core.objectives import StrongestChannel, TargetLogit, TargetProbability, strongest_channels
from cnnviz_cli.engine import Plan, observe
from cnnviz_cli.engine.execution import Execution
from cnnviz_cli.models.inspect.probe import probe_layers


class CaptumOneConv(nn.Module):
    """The one-convolution network of captum's deconvolution test, whose answer can be worked by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.relu1 = nn.ReLU()
        self.fc = nn.Linear(8, 4)
        self.relu2 = nn.ReLU()
        with torch.no_grad():
            self.conv.weight.fill_(1)
            self.conv.bias.copy_(torch.tensor([-50.0, -75.0]))
            self.fc.weight.copy_(torch.cat([torch.ones(4, 5), -torch.ones(4, 3)], 1))
            self.fc.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu2(self.fc(self.relu1(self.conv(x)).flatten(1)))


def test_class_deconvolution_worked_by_hand() -> None:
    # The score sends 1 to relu2; fc sends +1 to five units and -1 to three, which relu1 drops. So the first filter
    # projects a 3x3 of ones from all four positions, the second from its first position alone.
    net = CaptumOneConv().eval()
    need = Gradient(of=TargetLogit(0), through="rectify")
    image = torch.arange(16.0).view(1, 1, 4, 4)
    seen = observe(net, image, Plan.of([need]), lambda logits: torch.zeros(len(logits), 1, dtype=torch.long))
    expected = [[2, 3, 3, 1], [3, 5, 5, 2], [3, 5, 5, 2], [1, 2, 2, 1]]
    assert seen.evidence[need][0, 0].tolist() == expected


@pytest.mark.parametrize("kind", tiny.NETS)
def test_exact_gradients_are_those_of_autograd(kind: type[nn.Module]) -> None:
    net, batch = tiny.build(kind), tiny.pictures(3)
    needs = [Gradient(), Gradient(of=TargetProbability(0)), Gradient(through="rectify")]
    seen = observe(net, batch, Plan.of(needs), tiny.first_class)
    for need, score in ((needs[0], lambda s: s), (needs[1], lambda s: s.softmax(1))):
        leaf = batch.clone().requires_grad_()
        chosen = score(net(leaf)).gather(1, seen.targets)
        (expected,) = torch.autograd.grad(chosen.sum(), leaf)
        torch.testing.assert_close(seen.evidence[need], expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(seen.logits, net(batch), rtol=1e-12, atol=1e-15)


def test_a_kept_layer_is_what_it_was_before_an_in_place_relu() -> None:
    net, batch = tiny.build(tiny.InPlace), tiny.pictures(2)
    expected = torch.nn.functional.conv2d(batch, net.conv1.weight, net.conv1.bias, padding=1)
    seen = observe(net, batch, Plan.of([Activation("conv1")]), tiny.first_class)
    torch.testing.assert_close(seen.evidence[Activation("conv1")], expected, rtol=1e-12, atol=1e-15)
    assert (expected < 0).any()

    # What torchcam and pytorch-grad-cam do, keeping the hooked tensor itself, reads the rewritten values.
    kept: list[Tensor] = []
    handle = net.conv1.register_forward_hook(lambda _m, _i, output: kept.append(output))
    net(batch)
    handle.remove()
    assert not (kept[0] < 0).any()


def test_layer_gradients_reach_past_in_place_work() -> None:
    net, batch = tiny.build(tiny.InPlace), tiny.pictures(2)
    need = Gradient("conv2")
    seen = observe(net, batch, Plan.of([need]), tiny.first_class)
    # By hand: the score is a weighted mean of relu(A), so dy/dA = w / (h w) where A > 0.
    maps = net.conv2(net.pool(net.conv1(batch).relu()))
    weights = net.fc.weight[seen.targets[:, 0]]
    expected = (maps > 0) * weights[:, :, None, None] / maps.shape[2:].numel()
    torch.testing.assert_close(seen.evidence[need], expected, rtol=1e-12, atol=1e-15)


def test_of_a_module_used_twice_the_last_use_counts() -> None:
    net, batch = tiny.build(tiny.Functional), tiny.pictures(2)
    plan = Plan.of([Activation("shared"), Gradient("shared")])
    seen = observe(net, batch, plan, tiny.first_class)
    assert seen.evidence[Activation("shared")].shape[1] == 6
    weights = net.fc.weight[seen.targets[:, 0]]
    expected = weights[:, :, None, None].expand(-1, -1, 6, 6) / 36
    torch.testing.assert_close(seen.evidence[Gradient("shared")], expected, rtol=1e-12, atol=1e-15)


def test_strongest_channel_starts_from_the_map_or_its_peak() -> None:
    net, batch = tiny.build(tiny.Plain), tiny.pictures(3)
    maps = net.conv1(batch)
    for start in ("map", "peak"):
        for rank in range(4):
            need = Gradient("conv1", StrongestChannel("conv1", rank, start), "exact")
            seen = observe(net, batch, Plan.of([need]), tiny.first_class)
            for image in range(3):
                order = sorted(range(4), key=lambda c: -maps[image, c].max())
                channel = order[rank]
                expected = torch.zeros_like(maps[image])
                if start == "map":
                    expected[channel] = maps[image, channel].clamp(min=0)
                else:
                    place = maps[image, channel].argmax()
                    expected[channel].view(-1)[place] = maps[image, channel].max().clamp(min=0)
                torch.testing.assert_close(seen.evidence[need][image], expected, rtol=1e-12, atol=1e-15)


def test_equal_peaks_rank_by_sum_then_by_index() -> None:
    maps = torch.tensor([[1.0, 0.0], [3.0, 0.0], [3.0, 0.0], [2.0, 0.0], [3.0, 1.0]]).view(1, 5, 1, 2)
    assert strongest_channels(maps, 5).tolist() == [[4, 1, 2, 3, 0]]


ALL_FOUR: list[Need] = [
    Activation("conv1"),
    Activation("conv2"),
    Gradient(),
    Gradient("conv2"),
    Gradient(through="rectify"),
]


def test_four_families_are_one_forward_and_two_backwards(monkeypatch: pytest.MonkeyPatch) -> None:
    net = tiny.build(tiny.InPlace)
    plan = Plan.of(ALL_FOUR)
    assert (plan.cost().forwards, plan.cost().backwards) == (1, 2)
    counts = tiny.count_passes(monkeypatch, net)
    observe(net, tiny.pictures(8), plan, tiny.first_class)
    assert counts == {"forwards": 1, "backwards": 2}


def test_a_deconvnet_adds_a_backward_for_each_layer_and_map(monkeypatch: pytest.MonkeyPatch) -> None:
    net = tiny.build(tiny.InPlace)
    rows = [
        Gradient(of=StrongestChannel(layer, rank), through="rectify")
        for layer in ("conv1", "conv2")
        for rank in range(3)
    ]
    plan = Plan.of([*ALL_FOUR, *rows])
    counts = tiny.count_passes(monkeypatch, net)
    observe(net, tiny.pictures(8), plan, tiny.first_class)
    assert counts == {"forwards": 1, "backwards": 2 + 2 * 3}
    assert plan.cost().backwards == 8


def test_a_projection_runs_from_its_layer_down_only() -> None:
    net = tiny.build(tiny.Plain)
    passed: dict[str, int] = {}

    def watch(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            if output.requires_grad:
                output.register_hook(lambda _grad: passed.__setitem__(name, passed.get(name, 0) + 1))

        return hook

    handles = [net.get_submodule(name).register_forward_hook(watch(name)) for name in ("relu1", "relu2")]
    rows = [Gradient(of=StrongestChannel("conv1", rank), through="rectify") for rank in range(3)]
    observe(net, tiny.pictures(2), Plan.of(rows), tiny.first_class)
    assert passed == {}
    rows = [Gradient(of=StrongestChannel("conv2", rank), through="rectify") for rank in range(3)]
    observe(net, tiny.pictures(2), Plan.of(rows), tiny.first_class)
    assert passed == {"relu1": 3}
    for handle in handles:
        handle.remove()


def test_autograd_records_nothing_before_the_earliest_layer_that_needs_it() -> None:
    net = tiny.build(tiny.Residual)
    recorded: dict[str, bool] = {}

    def watch(name: str) -> Any:
        return lambda _module, _inputs, output: recorded.__setitem__(name, output.requires_grad)

    names = ("conv1", "bn1", "conv2", "bn2", "fc")
    handles = [net.get_submodule(name).register_forward_hook(watch(name)) for name in names]
    observe(net, tiny.pictures(2), Plan.of([Activation("conv1"), Gradient("conv2")]), tiny.first_class)
    for handle in handles:
        handle.remove()
    assert recorded == {"conv1": False, "bn1": False, "conv2": False, "bn2": True, "fc": True}


@pytest.mark.parametrize("kind", tiny.NETS)
def test_nothing_is_left_behind(kind: type[nn.Module]) -> None:
    net, batch = tiny.build(kind), tiny.pictures(2)
    before, pixels = tiny.state_of(net), batch.clone()
    layer = "conv2"
    plan = Plan.of([Activation("conv1"), Gradient(layer), Gradient(through="guide"), Input()])

    def refuse(_logits: Tensor) -> Tensor:
        raise RuntimeError("no target")

    observe(net, batch, plan, tiny.first_class)
    with pytest.raises(RuntimeError, match="no target"):
        observe(net, batch, plan, refuse)
    with pytest.raises(RuntimeError):
        observe(net, batch[:, :2], plan, tiny.first_class)
    assert tiny.state_of(net) == before
    assert torch.equal(batch, pixels)
    assert not batch.requires_grad


@pytest.mark.parametrize("kind", tiny.NETS)
def test_no_activation_outlives_its_observation(kind: type[nn.Module]) -> None:
    # A cycle through autograd is invisible to the garbage collector: it would hold a batch's activations for ever.
    net, batch = tiny.build(kind), tiny.pictures(2)
    alive: list[weakref.ref[Tensor]] = []
    handles = [
        module.register_forward_hook(lambda _module, _inputs, output: alive.append(weakref.ref(output)))
        for module in net.modules()
    ]
    plan = Plan.of([Gradient(through="rectify"), Gradient(of=StrongestChannel("conv1", 0), through="guide")])
    seen = observe(net, batch, plan, tiny.first_class)
    for handle in handles:
        handle.remove()
    del seen
    gc.collect()
    assert alive
    assert not [ref for ref in alive if ref() is not None]


def test_other_peoples_gradients_are_not_touched() -> None:
    net, batch = tiny.build(tiny.Plain), tiny.pictures(2)
    net.requires_grad_(True)
    net.fc.weight.grad = torch.full_like(net.fc.weight, 7)
    observe(net, batch, Plan.of([Gradient(), Gradient("conv2")]), tiny.first_class)
    assert (net.fc.weight.grad == 7).all()
    assert net.conv1.weight.grad is None
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_each_image_keeps_its_own_targets() -> None:
    net, batch = tiny.build(tiny.Plain), tiny.pictures(3)
    wanted = torch.tensor([[4, 0], [1, 1], [2, 3]])
    needs = [Gradient(of=TargetLogit(rank)) for rank in range(2)]
    seen = observe(net, batch, Plan.of(needs), lambda _logits: wanted)
    for image in range(3):
        for rank in range(2):
            leaf = batch[image : image + 1].clone().requires_grad_()
            (expected,) = torch.autograd.grad(net(leaf)[0, wanted[image, rank]], leaf)
            torch.testing.assert_close(seen.evidence[needs[rank]][image], expected[0], rtol=1e-12, atol=1e-15)


def test_a_network_without_rectifiers_refuses_their_rules() -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(200, 3)).double().eval()
    with pytest.raises(UsageError, match="no rectifier"):
        observe(net, tiny.pictures(1), Plan.of([Gradient(through="rectify")]), tiny.first_class)


def test_a_layer_off_the_way_to_the_scores_has_no_gradient() -> None:
    class Aside(tiny.Plain):
        def forward(self, x: Tensor) -> Tensor:
            self.conv1(x)
            return self.fc(self.conv2(torch.cat([x, x[:, :1]], 1)).mean((2, 3)))

    with pytest.raises(UsageError, match="does not depend on what layer 'conv1' returns"):
        observe(tiny.build(Aside), tiny.pictures(1), Plan.of([Gradient("conv1")]), tiny.first_class)


def test_a_network_that_takes_one_picture_after_the_other_has_no_maps_of_a_batch() -> None:
    class OneByOne(tiny.Plain):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([super(OneByOne, self).forward(one[None]) for one in x])

    net, need = tiny.build(OneByOne), Gradient("conv1")
    with pytest.raises(UsageError, match="layer 'conv1' gives 1 output for 2 images"):
        observe(net, tiny.pictures(2), Plan.of([need]), tiny.first_class)
    single = observe(net, tiny.pictures(1), Plan.of([need]), tiny.first_class)
    expected = observe(tiny.build(tiny.Plain), tiny.pictures(1), Plan.of([need]), tiny.first_class)
    assert torch.equal(single.evidence[need], expected.evidence[need])


def test_a_module_whose_in_place_result_is_dropped_says_so() -> None:
    class Dropped(tiny.InPlace):
        def forward(self, x: Tensor) -> Tensor:
            x = self.conv1(x)
            self.relu1(x)
            return self.fc(self.conv2(self.pool(x)).mean((2, 3)))

    with pytest.raises(UsageError, match="works in place and its result is not used"):
        observe(tiny.build(Dropped), tiny.pictures(1), Plan.of([Gradient("relu1")]), tiny.first_class)


class HandedOn(tiny.Plain):
    """A layer that returns its own input, which the network then rewrites behind its back."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout()

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        same = self.drop(x)
        x.relu_()
        return self.fc(self.conv2(self.pool(x + same)).mean((2, 3)))


class FirstInPlace(tiny.Plain):
    """A network whose first operation rewrites its input."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.mul_(2).relu_())


@pytest.mark.parametrize("kind", [*tiny.NETS, HandedOn, FirstInPlace])
def test_looking_does_not_change_the_answer(kind: type[nn.Module]) -> None:
    net, batch = tiny.build(kind), tiny.pictures(2)
    pixels, plain = batch.clone(), net(batch.clone())
    names = [info.name for info in probe_layers(net, (3, tiny.SIZE, tiny.SIZE), "tiny")]
    assert "conv2" in names
    plans = [[Activation(name) for name in names], [Gradient()], [Gradient(through="rectify")], [Gradient("conv2")]]
    for needs in plans:
        seen = observe(net, batch, Plan.of(needs), tiny.first_class)
        torch.testing.assert_close(seen.logits, plain, rtol=1e-12, atol=1e-15)
        assert torch.equal(batch, pixels)


def test_a_layer_that_returns_its_input_is_read_as_it_was_and_not_differentiated_by() -> None:
    net, batch = tiny.build(HandedOn), tiny.pictures(2)
    seen = observe(net, batch, Plan.of([Activation("drop")]), tiny.first_class)
    torch.testing.assert_close(seen.evidence[Activation("drop")], net.conv1(batch), rtol=1e-12, atol=1e-15)
    before = tiny.state_of(net)
    with pytest.raises(UsageError, match="layer 'drop' returns its own input"):
        observe(net, batch, Plan.of([Gradient("drop")]), tiny.first_class)
    assert tiny.state_of(net) == before


def test_what_cannot_be_observed_is_refused_by_name() -> None:
    net, batch = tiny.build(tiny.Plain), tiny.pictures(1)
    net.unused = nn.Conv2d(3, 3, 1)
    net.eval()
    with pytest.raises(UsageError, match="layer 'unused' does not run"):
        observe(net, batch, Plan.of([Activation("unused")]), tiny.first_class)
    with pytest.raises(UsageError, match="layer 'conv1' has 4 maps, there is no number 5"):
        observe(net, batch, Plan.of([Gradient(of=StrongestChannel("conv1", 4))]), tiny.first_class)
    with torch.inference_mode(), pytest.raises(ValueError, match="inference_mode"):
        observe(net, batch, Plan.of([Gradient()]), tiny.first_class)


@pytest.mark.parametrize("part", ["", "bn2"])
def test_training_mode_is_refused_in_any_module(part: str) -> None:
    net = tiny.build(tiny.Residual)
    net.get_submodule(part).train()
    before = tiny.state_of(net)
    with pytest.raises(ValueError, match="eval"):
        observe(net, tiny.pictures(1), Plan.of([Gradient()]), tiny.first_class)
    assert tiny.state_of(net) == before


class Pair(tiny.Plain):
    """A network that returns its scores first in a tuple."""

    def forward(self, x: Tensor) -> Any:
        return super().forward(x), x


class Named(tiny.Plain):
    """A network that returns its scores by the name torchvision and others use."""

    def forward(self, x: Tensor) -> Any:
        return SimpleNamespace(logits=super().forward(x), aux_logits=None)


@pytest.mark.parametrize("kind", [Pair, Named])
def test_scores_are_found_in_what_a_network_returns(kind: type[nn.Module]) -> None:
    batch = tiny.pictures(2)
    seen = observe(tiny.build(kind), batch, Plan.of([Gradient()]), tiny.first_class)
    assert torch.equal(seen.logits, tiny.build(tiny.Plain)(batch))


def test_no_classifier_is_refused() -> None:
    net = nn.Conv2d(3, 4, 3).double().eval()
    with pytest.raises(UsageError, match="no classifier"):
        observe(net, tiny.pictures(1), Plan.of([Gradient()]), tiny.first_class)


class RowsFirst(tiny.Plain):
    """A layer whose maps have their channels last, as Swin's blocks do, and one whose positions are tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Linear(4, 6)
        self.tokens = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.rows(self.relu1(self.conv1(x)).permute(0, 2, 3, 1))
        return self.fc(self.tokens(x.flatten(1, 2)).relu().mean(1))


def test_maps_with_channels_last_and_tokens_are_brought_forward() -> None:
    net, batch = tiny.build(RowsFirst), tiny.pictures(2)
    needs: list[Need] = [Activation("rows"), Gradient("rows"), Activation("tokens"), Gradient("tokens")]
    seen = observe(net, batch, Plan.of(needs), tiny.first_class)
    rows = net.rows(net.relu1(net.conv1(batch)).permute(0, 2, 3, 1)).requires_grad_()
    tokens = net.tokens(rows.flatten(1, 2))
    scores = net.fc(tokens.relu().mean(1))
    slopes = torch.autograd.grad(scores.amax(1).sum(), [rows, tokens])
    size = tiny.SIZE
    expected = [rows.movedim(3, 1), slopes[0].movedim(3, 1)]
    expected += [part.transpose(1, 2).reshape(2, 6, size, size) for part in (tokens, slopes[1])]
    for need, value in zip(needs, expected, strict=True):
        torch.testing.assert_close(seen.evidence[need], value.detach(), rtol=1e-12, atol=1e-15)


def test_torchscript_hides_its_rectifiers_and_is_refused() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces that TorchScript is deprecated
        net = torch.jit.trace(tiny.build(tiny.Plain), tiny.pictures(1))
    observe(net, tiny.pictures(1), Plan.of([Gradient()]), tiny.first_class)
    with pytest.raises(UsageError, match="TorchScript"):
        observe(net, tiny.pictures(1), Plan.of([Gradient(through="guide")]), tiny.first_class)


def test_the_input_is_answered_in_full_precision() -> None:
    net, batch = tiny.build(tiny.Plain), tiny.pictures(1)
    assert torch.equal(observe(net, batch, Plan.of([Input()]), tiny.first_class).evidence[Input()], batch)
    half = observe(net.float(), batch.float(), Plan.of([Input()]), tiny.first_class, execution=Execution("bf16"))
    assert half.evidence[Input()].dtype == torch.float32


def test_low_precision_answers_in_float32_and_close() -> None:
    net, batch = tiny.build(tiny.Residual).float(), tiny.pictures(4).float()
    needs: list[Need] = [Activation("conv2"), Gradient("conv2"), Gradient()]
    full = observe(net, batch, Plan.of(needs), tiny.first_class)
    for precision in ("bf16", "fp16"):
        low = observe(net, batch, Plan.of(needs), lambda _logits: full.targets, execution=Execution(precision))
        assert not torch.equal(low.evidence[needs[0]], full.evidence[needs[0]])
        for need in needs:
            assert low.evidence[need].dtype == torch.float32
            a, b = low.evidence[need].flatten(), full.evidence[need].flatten()
            assert torch.nn.functional.cosine_similarity(a, b, dim=0) > 0.98


def test_plans_are_values() -> None:
    needs = [Gradient(), Gradient("conv2"), Activation("conv1"), Gradient()]
    assert Plan.of(needs) == Plan.of(needs)
    plan = Plan.of(needs)
    assert [(b.at, b.through) for b in plan.backwards] == [((INPUT, "conv2"), "exact")]
    assert set(plan.layers) == {"conv1", "conv2"}
    assert plan.lines() == [
        "1 forward, autograd from the input on, keeping 2 layers",
        "1 backward of the score of target 1 to the input, conv2",
    ]


def test_evidence_answers_only_what_was_declared() -> None:
    net = tiny.build(tiny.Plain)
    seen = observe(net, tiny.pictures(1), Plan.of([Gradient(), Activation("conv1")]), tiny.first_class)
    narrowed = seen.evidence.only([Gradient()])
    with pytest.raises(UndeclaredError, match="conv1"):
        narrowed[Activation("conv1")]
