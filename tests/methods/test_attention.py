"""Methods that read attention, by the formulas of their papers written out for one small transformer."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch
from running import recipe_of, run_method
from torch import Tensor, nn

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.panels import Panel
from cnnviz_cli.engine import Plan, observe

HEADS = 2


@pytest.fixture
def net() -> nn.Module:
    return tiny.build(tiny.Transformer)


def written_out(net: nn.Module, image: Tensor, blocks: int = 2) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """The weights of each block's attention (heads, 10, 10), the scores (5,) of each block's own output, and those of
    the network, for one image (1, 3, H, W): the network's arithmetic once more, in matrices of one image."""
    patches = net.patches(image)[0].flatten(1).T
    tokens = torch.cat((net.token[0], patches)) + net.places[0]
    weights, scores = [], []
    for block in net.blocks[:blocks]:
        projected = block.norm1(tokens) @ block.qkv.weight.T + block.qkv.bias
        query, key, values = (part.view(10, HEADS, 4) for part in projected.split(8, 1))
        heads = [torch.softmax(query[:, head] @ key[:, head].T, 1).requires_grad_() for head in range(HEADS)]
        weights.append(heads)
        mixed = torch.cat([heads[head] @ values[:, head] for head in range(HEADS)], 1)
        tokens = tokens + mixed @ block.out.weight.T + block.out.bias
        tokens = tokens + block.mlp(block.norm2(tokens))
        scores.append(net.head(net.norm(tokens[0])))
    return weights, scores, scores[-1]


def stretched(values: Tensor) -> np.ndarray:
    grid = values.detach().view(3, 3).numpy()
    return grid - grid.min()


def map_of(panels: list[Panel]) -> np.ndarray:
    (panel,) = panels
    return np.asarray(panel.pick(0).values)[0]


def drawn(name: str, net: nn.Module, image: Tensor, **options: object) -> np.ndarray:
    return map_of(list(run_method(name, net, image, **options)))


@pytest.mark.parametrize("heads", ["mean", "max", "min"])
def test_rollout_is_the_product_of_half_attention_and_half_identity(net: nn.Module, heads: str) -> None:
    image = tiny.pictures(1)
    rollout = np.eye(10)
    for each in written_out(net, image)[0]:
        stacked = np.stack([head.detach().numpy() for head in each])
        joined = {"mean": stacked.mean(0), "max": stacked.max(0), "min": stacked.min(0)}[heads]
        joined = joined / joined.sum(1, keepdims=True)
        rollout = (0.5 * joined + 0.5 * np.eye(10)) @ rollout
    expected = rollout[0, 1:].reshape(3, 3)
    np.testing.assert_allclose(
        drawn("attention-rollout", net, image, heads=heads), expected - expected.min(), rtol=1e-9, atol=1e-15
    )


def test_rollout_is_the_same_below_a_head_of_zeros(net: nn.Module) -> None:
    """Networks are often made with one, and no gradient comes back from it."""
    image = tiny.pictures(2)
    (before,) = run_method("attention-rollout", net, image)
    net.head.weight.zero_()
    (after,) = run_method("attention-rollout", net, image)
    assert torch.equal(torch.as_tensor(before.values), torch.as_tensor(after.values))
    (none,) = run_method("transformer-attribution", net, image)
    assert bool(torch.as_tensor(none.warnings["flat"]).all())


def relevance(net: nn.Module, image: Tensor, sign: int = 1) -> np.ndarray:
    """The authors' loop over the layers, for `sign` times the highest score."""
    weights, _, scores = written_out(net, image)
    gradients = torch.autograd.grad(sign * scores[scores.argmax()], [head for each in weights for head in each])
    found = torch.eye(10, dtype=torch.float64)
    for layer in range(2):
        parts = [(weights[layer][head] * gradients[layer * HEADS + head]).clamp(min=0) for head in range(HEADS)]
        found = found + sum(parts) / HEADS @ found
    return stretched(found[0, 1:])


def test_transformer_attribution_follows_the_authors_loop(net: nn.Module) -> None:
    image = tiny.pictures(1)
    found = drawn("transformer-attribution", net, image)
    np.testing.assert_allclose(found, relevance(net, image), rtol=1e-9, atol=1e-15)


def test_legrad_reads_each_layer_by_the_head(net: nn.Module) -> None:
    image = tiny.pictures(1)
    target = int(written_out(net, image)[2].argmax())
    total = torch.zeros(10, dtype=torch.float64)
    for layer in range(2):
        weights, scores, _ = written_out(net, image)
        gradients = torch.autograd.grad(scores[layer][target], weights[layer])
        total += sum(gradient.clamp(min=0).mean(0) for gradient in gradients) / HEADS
    expected = stretched(total[1:] / 2)
    np.testing.assert_allclose(drawn("legrad", net, image), expected, rtol=1e-9, atol=1e-15)


def test_what_every_patch_has_is_said_and_not_drawn(net: nn.Module) -> None:
    image = tiny.pictures(1)
    (panel,) = run_method("attention-rollout", net, image)
    weights = [torch.stack(each).mean(0).detach() for each in written_out(net, image)[0]]
    first, second = (0.5 * each + 0.5 * torch.eye(10, dtype=torch.float64) for each in weights)
    torch.testing.assert_close(panel.statistics["floor"], (second @ first)[:1, 1:].amin(1))
    assert float(torch.as_tensor(panel.values).amin()) == 0


def test_against_the_target_is_the_negative_score(net: nn.Module) -> None:
    image = tiny.pictures(1)
    recipe = recipe_of("transformer-attribution", net, counterfactual=True)
    evidence = observe(net, image, Plan.of(recipe.needs), tiny.first_class).evidence
    found = map_of(list(recipe.explain(evidence)))
    np.testing.assert_allclose(found, relevance(net, image, -1), rtol=1e-9, atol=1e-15)
    assert not np.allclose(found, relevance(net, image))


@pytest.mark.parametrize("name", ["attention-rollout", "legrad", "transformer-attribution"])
def test_a_network_without_attention_is_refused_before_anything_runs(name: str) -> None:
    with pytest.raises(UsageError, match="has no attention"):
        recipe_of(name, tiny.build(tiny.Residual))


def test_a_network_that_attends_evenly_shows_nothing(net: nn.Module) -> None:
    for block in net.blocks:
        block.qkv.weight.zero_()
        block.qkv.bias.zero_()
    for name in ("attention-rollout", "legrad", "transformer-attribution"):
        (panel,) = run_method(name, net, tiny.pictures(1))
        assert bool(torch.as_tensor(panel.warnings["flat"]).all()), name
