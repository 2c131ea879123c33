"""Attention as it is captured and carried back: against torch's own kernels, and against dense matrices."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import pytest
import tiny
import torch
from running import run_method
from torch import Tensor, nn
from torch.nn import functional

from cnnviz_cli.core.attention import AttentionFlow
from cnnviz_cli.core.errors import EvidenceError
from cnnviz_cli.engine import Plan, observe
from cnnviz_cli.engine.attention import count_attention, find_blocks
from cnnviz_cli.engine.attention_capture import AttentionRecorder, AttentionRun, Windows
from cnnviz_cli.methods.attention_rollout import Rollout


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class Calls(nn.Module):
    """A module that does nothing but `call`."""

    def __init__(self, call: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(x)


def record(net: nn.Module, inputs: Tensor) -> tuple[Tensor, list[AttentionRun]]:
    recorder = AttentionRecorder(net, len(inputs))
    with recorder.active():
        output = net(inputs)
    return output, recorder.runs


MASK = random(6, 6, seed=3)
HIDDEN = MASK > 0.5
FUSED = {
    "plain": {},
    "causal": {"is_causal": True},
    "scaled": {"scale": 0.3},
    "added": {"attn_mask": MASK},
    "hidden": {"attn_mask": ~HIDDEN},
}


@pytest.mark.parametrize("options", FUSED.values(), ids=FUSED)
def test_fused_attention_taken_apart_gives_what_it_gave(options: dict[str, object]) -> None:
    query, key, values = (random(2, 3, 6, 4, seed=seed) for seed in range(3))

    def attend(x: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(x, key, values, **options)  # type: ignore[arg-type]

    output, (run,) = record(Calls(attend), query)
    torch.testing.assert_close(output, attend(query), rtol=1e-12, atol=1e-12)
    assert run.weights.shape == (2, 1, 3, 6, 6)
    torch.testing.assert_close(run.weights[:, 0] @ values, output, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(run.weights.sum(-1), torch.ones(2, 1, 3, 6, dtype=torch.float64))


def test_grouped_queries_share_keys() -> None:
    query, key, values = random(1, 4, 5, 2), random(1, 2, 5, 2, seed=1), random(1, 2, 5, 2, seed=2)

    def attend(x: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(x, key, values, enable_gqa=True)

    output, (run,) = record(Calls(attend), query)
    torch.testing.assert_close(output, attend(query), rtol=1e-12, atol=1e-12)
    assert run.weights.shape == (1, 1, 4, 5, 5)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("wanted", [True, False])
def test_torchs_own_module_is_seen_and_returns_what_it_did(batch_first: bool, wanted: bool) -> None:
    module = nn.MultiheadAttention(8, 2, batch_first=batch_first).double().eval().requires_grad_(False)
    tokens = random(3, 5, 8) if batch_first else random(5, 3, 8)
    recorder = AttentionRecorder(module, 3)
    leaf = tokens.clone().requires_grad_()
    with recorder.active():
        output, weights = module(leaf, leaf, leaf, need_weights=wanted)
    expected, expected_weights = module(tokens, tokens, tokens, need_weights=wanted)
    torch.testing.assert_close(output.detach(), expected, rtol=1e-12, atol=1e-12)
    assert (weights is None) is (expected_weights is None) is not wanted
    (run,) = recorder.runs
    if weights is not None:
        torch.testing.assert_close(weights.detach(), expected_weights)
        torch.testing.assert_close(run.weights[:, 0].mean(1), expected_weights)
    # The gradient comes by: what is kept lies on the way to the output, not beside it.
    output.square().sum().backward()
    assert run.gradient is not None
    assert run.gradient.shape == run.weights.shape == (3, 1, 2, 5, 5)
    assert run.gradient.abs().min() > 0


def identity_values(module: nn.Module, channels: int) -> None:
    """Let the values of attention be the tokens themselves, and their mixture what comes out."""
    with torch.no_grad():
        module.qkv.weight[2 * channels :] = torch.eye(channels, dtype=torch.float64)
        module.qkv.bias.zero_()
        module.proj.weight.copy_(torch.eye(channels, dtype=torch.float64))
        module.proj.bias.zero_()


def assert_carried(run: AttentionRun, tokens: Tensor, output: Tensor, grid: tuple[int, int]) -> None:
    """That each head's weights, carried from each output to the inputs, mix the inputs to what came out."""
    count, heads = grid[0] * grid[1], run.weights.shape[2]
    flat, expected = tokens.reshape(count, heads, -1), output.reshape(count, heads, -1)
    for head in range(heads):
        for query in range(count):
            rows = torch.zeros(1, count, dtype=torch.float64)
            rows[0, query] = 1
            taken = run.carry(rows, run.weights[:, :, head])
            torch.testing.assert_close(taken[0] @ flat[:, head], expected[query, head], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("grid", [(6, 9), (5, 7), (3, 3), (2, 2), (2, 7)])
@pytest.mark.parametrize("shift", [0, 1])
def test_windows_of_torchvision_are_put_back_in_their_places(grid: tuple[int, int], shift: int) -> None:
    from torchvision.models.swin_transformer import ShiftedWindowAttention

    torch.manual_seed(0)
    module = ShiftedWindowAttention(4, [3, 3], [shift, shift], 2).double().eval().requires_grad_(False)
    identity_values(module, 4)
    tokens = random(1, *grid, 4)
    output, (run,) = record(module, tokens)
    assert_carried(run, tokens, output, grid)
    assert (run.queries, run.keys, run.grid) == (grid[0] * grid[1], grid[0] * grid[1], (0, *grid))


@pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed")
@pytest.mark.parametrize("grid", [(6, 9), (5, 7)])
@pytest.mark.parametrize("shift", [0, 1])
def test_windows_of_timm_are_put_back_in_their_places(grid: tuple[int, int], shift: int) -> None:
    from timm.models.swin_transformer import SwinTransformerBlock

    torch.manual_seed(0)
    block = SwinTransformerBlock(4, grid, num_heads=2, window_size=3, shift_size=shift, always_partition=True)
    block.double().eval().requires_grad_(False)
    identity_values(block.attn, 4)
    block.norm1, block.mlp = nn.Identity(), nn.Sequential()
    for parameter in block.norm2.parameters():
        parameter.zero_()
    tokens = random(1, *grid, 4)
    output, (run,) = record(block, tokens)
    # The block adds its input, and behind that what its layer for each token gives of nothing: nothing.
    assert_carried(run, tokens, output - tokens, grid)


def test_windows_by_hand() -> None:
    cut = Windows.cut((2, 3), (2, 2), (0, 1), rolls_first=False)
    # The grid 0 1 2 / 3 4 5 is padded to 0 1 2 - / 3 4 5 - and rolled to 1 2 - 0 / 4 5 - 3.
    assert cut.places.tolist() == [[1, 2, 4, 5], [-1, 0, -1, 3]]
    # Rolled to 1 2 0 / 4 5 3, then padded.
    assert Windows.cut((2, 3), (2, 2), (0, 1), rolls_first=True).places.tolist() == [[1, 2, 4, 5], [0, -1, 3, -1]]


def flow(net: nn.Module, batch: Tensor) -> Tensor:
    need = AttentionFlow(Rollout("mean"), follows=False)
    with torch.no_grad():
        return observe(net, batch, Plan.of([need]), tiny.first_class).evidence[need]


def dense(run: AttentionRun) -> Tensor:
    """(Q, K) the mean over heads of one image's attention, as one matrix over all tokens."""
    rows = torch.eye(run.queries, dtype=torch.float64)
    return torch.cat([run.carry(row[None], run.weights.mean(2)) for row in rows])


@pytest.fixture(scope="module")
def swin() -> nn.Module:
    from torchvision.models import SwinTransformer

    torch.manual_seed(0)
    net = SwinTransformer([2, 2], 8, [2, 2], [2, 2], [3, 3], num_classes=4, stochastic_depth_prob=0.0)
    return net.double().eval().requires_grad_(False)


def test_a_network_of_windows_is_the_product_of_dense_matrices(swin: nn.Module) -> None:
    image = random(1, 3, 18, 14)  # 9 x 7 tokens in windows of 3 x 3; merged to 5 x 4
    _, runs = record(swin, image)
    assert [run.grid for run in runs] == [(0, 9, 7)] * 2 + [(0, 5, 4)] * 2
    merge = torch.zeros(20, 63, dtype=torch.float64)
    for row in range(9):
        for column in range(7):
            merge[row // 2 * 4 + column // 2, row * 7 + column] = 1
    merge /= merge.sum(1, keepdim=True)
    first, second, third, fourth = (0.5 * dense(run) + 0.5 * torch.eye(run.queries).double() for run in runs)
    whole = (fourth @ third @ merge @ second @ first).mean(0)
    # What passed by all four layers and was merged once.
    around = 0.5**4 * merge.mean(0)
    torch.testing.assert_close(flow(swin, image).flatten(), whole - around, rtol=1e-9, atol=1e-12)


class Pooled(nn.Module):
    """Tokens that mix twice and are read by one query, which is no patch."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        self.blocks = nn.Sequential(tiny.Block(), tiny.Block())
        self.query = nn.Parameter(torch.randn(1, 1, 8))
        self.pool = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.blocks(self.patches(x).flatten(2).transpose(1, 2))
        return self.head(self.pool(self.query.expand(len(x), -1, -1), tokens, tokens)[0][:, 0])


def test_a_query_that_reads_the_tokens_is_where_the_flow_starts() -> None:
    net, image = tiny.build(Pooled), tiny.pictures(1)
    _, (first, second, pool) = record(net, image)
    half = [0.5 * dense(run) + 0.5 * torch.eye(9).double() for run in (first, second)]
    expected = (dense(pool) @ half[1] @ half[0])[0]
    torch.testing.assert_close(flow(net, image).flatten(), expected, rtol=1e-9, atol=1e-12)
    assert count_attention(net, image) == 2  # the one that reads mixes nothing


def test_tokens_put_in_front_later_are_dropped() -> None:
    class Late(tiny.Transformer):
        def forward(self, x: Tensor) -> Tensor:
            patches = self.blocks[0](self.patches(x).flatten(2).transpose(1, 2))
            tokens = torch.cat((self.token.expand(len(x), -1, -1), patches), 1)
            return self.head(self.norm(self.blocks[1](tokens))[:, 0])

    net, image = tiny.build(Late), tiny.pictures(1)
    _, (first, second) = record(net, image)
    rows = (0.5 * dense(second) + 0.5 * torch.eye(10).double())[0, 1:]
    expected = rows @ (0.5 * dense(first) + 0.5 * torch.eye(9).double())
    torch.testing.assert_close(flow(net, image).flatten(), expected, rtol=1e-9, atol=1e-12)


class Reduced(nn.Module):
    """Attention whose keys are the means of 3 x 3 tokens, as in SegFormer: of which patches is not known."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 4, 2, stride=2)
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.patches(x)
        tokens = maps.flatten(2).transpose(1, 2)
        tokens = (tokens @ tokens.transpose(1, 2)).softmax(-1) @ tokens
        few = functional.avg_pool2d(maps, 3).flatten(2).transpose(1, 2)
        return self.head(((tokens @ few.transpose(1, 2)).softmax(-1) @ few).mean(1))


class Parts(tiny.Transformer):
    """Attends within each column of its grid, and does not say so."""

    def forward(self, x: Tensor) -> Tensor:
        columns = self.patches(x).permute(0, 3, 2, 1).flatten(0, 1)
        return self.head(self.blocks(columns).view(len(x), 9, 8).mean(1))


@pytest.mark.parametrize(("kind", "words"), [(Reduced, "and how is not known"), (Parts, "3 parts of 3 tokens")])
def test_attention_over_unknown_places_is_refused(kind: type[nn.Module], words: str) -> None:
    with pytest.raises(EvidenceError, match=words):
        flow(tiny.build(kind), tiny.pictures(2))


@pytest.mark.parametrize("kind", tiny.NETS)
def test_networks_without_attention_have_none(kind: type[nn.Module]) -> None:
    net, image = tiny.build(kind), tiny.pictures(1)
    assert count_attention(net, image) == 0
    with pytest.raises(EvidenceError, match="depend on no attention"):
        flow(net, image)


@pytest.mark.parametrize("name", ["attention-rollout", "legrad", "transformer-attribution"])
def test_a_network_is_left_as_it_was(name: str) -> None:
    net, batch = tiny.build(tiny.Transformer), tiny.pictures(2)
    before = tiny.state_of(net)
    run_method(name, net, batch)
    assert tiny.state_of(net) == before


def test_blocks_are_the_shortest_paths_of_their_own() -> None:
    modules = ["encoder.layers.one.attention", "encoder.layers.two.attention", "pool"]
    assert find_blocks(modules) == ["encoder.layers.one", "encoder.layers.two", "pool"]
    assert find_blocks(["blocks.1.attn", "blocks.10.attn"]) == ["blocks.1", "blocks.10"]
    assert find_blocks(["a.b.c"]) == ["a"]
    # One module that runs twice has one block.
    assert find_blocks(["blocks.0.attn", "blocks.0.attn", "blocks.1.attn"]) == ["blocks.0", "blocks.0", "blocks.1"]
