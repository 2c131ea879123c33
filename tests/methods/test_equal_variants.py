"""What a method calls equal is equal, and its result that of a network that is asked about every variant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import tiny
import torch
from methods.test_laws import CASES, CONVOLUTIONAL, quick
from running import Runner, given_for, numbers, recipe_of
from torch import Tensor, nn

from cnnviz_cli.core.needs import KeyedVariants
from cnnviz_cli.engine import Plan, observe
from cnnviz_cli.engine.stream import ImageStream

OPTIONS = {name: [{}] for name in CONVOLUTIONAL}
for name, options, _kind in (case for case in CASES if case[0] in CONVOLUTIONAL):
    OPTIONS[name] += [options] * (options not in OPTIONS[name])
EVERY = [(name, options) for name, several in OPTIONS.items() for options in several]


class Dead(tiny.Plain):
    """Of the six last maps two are zero everywhere, one is flat, and two of the first four are dead."""

    def __init__(self) -> None:
        super().__init__()
        for conv, dead in ((self.conv1, (0, 2)), (self.conv2, (1, 4))):
            for channel in dead:
                nn.init.constant_(conv.bias[channel], -1e3)
        for alive in (0, 2, 5):
            nn.init.constant_(self.conv2.bias[alive], 2.0)
        nn.init.zeros_(self.conv2.weight[3])
        nn.init.constant_(self.conv2.bias[3], 0.3)

    @staticmethod
    def pictures() -> Tensor:
        """Noise, one colour, black, and noise with a black border, for baselines of which black is -1."""
        batch = tiny.pictures(4)
        batch[1], batch[2] = 0.25, -1
        border = torch.full_like(batch[3], -1)
        border[:, 3:9, 4:9] = batch[3, :, 3:9, 4:9]
        batch[3] = border
        return batch


def build() -> nn.Module:
    with torch.no_grad():
        return tiny.build(Dead)


def keyed_variants(net: nn.Module, name: str, options: dict[str, Any]) -> Iterator[KeyedVariants]:
    for stream in Plan.of(recipe_of(name, net, **quick(name, **options)).needs).streams:
        if isinstance(stream.variants, KeyedVariants):
            yield stream.variants


@pytest.mark.parametrize(("name", "options"), EVERY, ids=[f"{name}-{options}" for name, options in EVERY])
def test_variants_with_the_same_key_are_equal(name: str, options: dict[str, Any]) -> None:
    net, batch = build(), Dead.pictures()
    for variants in keyed_variants(net, name, options):
        needs = [*variants.needs]
        evidence = observe(net, batch, Plan.of(needs), tiny.first_class, given=given_for(batch)).evidence
        for image in range(len(batch)):
            keys = variants.keys(evidence, image)
            made = [variants.make(evidence, image, number, number + 1) for number in range(variants.count)]
            assert len(keys) == variants.count
            firsts: dict[Any, Tensor] = {}
            for key, one in zip(keys, made, strict=True):
                assert torch.equal(firsts.setdefault(key, one), one)


@pytest.mark.parametrize(
    ("name", "options", "distinct"),
    [
        ("scorecam", {}, [4, 1, 1, 4]),  # three alive and a mask of zeros; of an even picture every map is flat inside
        ("ablationcam", {}, [5, 5, 5, 5]),  # without one of four that are not zero, and as it is
        ("iscam", {"mask_steps": 3}, [10, 1, 1, 10]),
        ("sscam", {"noisy_masks": 2}, [12, 12, 12, 12]),
        ("smoothgrad", {"samples": 3}, [3, 1, 1, 3]),
        ("smoothgrad", {"samples": 3, "noise": 0.0}, [1, 1, 1, 1]),
        ("integrated-gradients", {"steps": 4}, [6, 6, 1, 6]),
    ],
)
def test_how_many_are_different(name: str, options: dict[str, Any], distinct: Sequence[int]) -> None:
    net, batch = build(), Dead.pictures()
    net.conv1.padding_mode = net.conv2.padding_mode = "replicate"
    net.conv1._reversed_padding_repeated_twice = net.conv2._reversed_padding_repeated_twice = [1, 1, 1, 1]
    (variants,) = keyed_variants(net, name, options)
    evidence = observe(net, batch, Plan.of(variants.needs), tiny.first_class, given=given_for(batch)).evidence
    assert [len(set(variants.keys(evidence, image))) for image in range(4)] == list(distinct)


def test_windows_over_what_looks_like_their_cover_change_nothing() -> None:
    net, batch = build(), Dead.pictures()
    (variants,) = keyed_variants(net, "occlusion", {"window": 3, "stride": 3, "cover": "black"})
    evidence = observe(net, batch, Plan.of(variants.needs), tiny.first_class, given=given_for(batch)).evidence
    keys = torch.tensor(variants.keys(evidence, 3)[1:]).view(4, 4)
    # Rows 3 to 8 and columns 4 to 8 are not black.
    assert (keys != 0).tolist() == [[False] * 4, [False, True, True, False], [False, True, True, False], [False] * 4]


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_the_result_is_that_of_every_variant(name: str, run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    net, batch = build(), Dead.pictures()
    once = run(name, net, batch, **quick(name))

    def distinct(self: ImageStream) -> dict[int, list[int]]:
        return {number: [number] for number in range(self.stream.variants.count)}

    monkeypatch.setattr(ImageStream, "_find_equals", distinct)
    for mine, theirs in zip(once, run(name, net, batch, **quick(name)), strict=True):
        for key, values in numbers(theirs).items():
            torch.testing.assert_close(
                numbers(mine)[key], values, rtol=1e-9, atol=1e-12, msg=lambda t, key=key: f"{key}: {t}"
            )


def passed(net: nn.Module, name: str, batch: Tensor, at: str = "conv1", **options: Any) -> int:
    """How many items pass a module, beyond what the network learns of itself the first time."""
    plan = Plan.of(recipe_of(name, net, **options).needs)
    counted: list[int] = []
    # A module with a hook is not folded, so it is there from the start.
    hook = net.get_submodule(at).register_forward_hook(lambda _m, inputs, _o: counted.append(len(inputs[0])))
    for _turn in range(2):
        counted.clear()
        observe(net, batch, plan, tiny.first_class, given=given_for(batch))
    hook.remove()
    return sum(counted)


@pytest.mark.parametrize(
    ("name", "options", "each"),
    [
        ("gradcam", {}, 0),
        ("scorecam", {}, 6),
        ("smoothgrad", {"samples": 5}, 5),
        ("integrated-gradients", {"steps": 4}, 6),
        ("rise", {"masks": 9}, 9),
        ("lime", {"draws": 40, "cells": 40}, 41),
        ("occlusion", {"window": 6, "stride": 6}, 5),
    ],
)
def test_each_variant_of_each_image_passes_once_and_nothing_else_does(
    name: str, options: dict[str, Any], each: int
) -> None:
    batch = tiny.pictures(3)
    assert passed(tiny.build(tiny.Plain), name, batch, **options) == 3 * (1 + each)


@pytest.mark.parametrize(
    ("kind", "layer", "heads"),
    [(tiny.Plain, "relu2", 0), (tiny.Plain, "conv1", 0), (tiny.Residual, "conv2", 1), (tiny.Residual, "conv1", 0)],
)
def test_variants_of_a_layer_take_what_comes_before_it_from_the_own_pass(
    kind: type[nn.Module], layer: str, heads: int
) -> None:
    """What skips the layer is computed once for the batch, and the first image checks the cut for all of them."""
    net, batch = tiny.build(kind), tiny.pictures(3)
    assert passed(net, "ablationcam", batch, layer=(layer,)) == 3 * (1 + heads)
    (stream,) = Plan.of(recipe_of("ablationcam", net, layer=(layer,)).needs).streams
    assert passed(net, "ablationcam", batch, at="fc", layer=(layer,)) == 3 * (1 + stream.variants.count) + 1


@pytest.mark.parametrize("layer", ["conv1", "bn1", "conv2"])
def test_masked_inputs_pass_once_for_each_channel_of_an_early_layer(layer: str) -> None:
    net, batch = tiny.build(tiny.Residual), tiny.pictures(3)
    for at in ("conv1", "fc"):
        assert passed(net, "scorecam", batch, at=at, layer=(layer,)) == 3 * (1 + 6)


def test_dead_maps_save_forwards() -> None:
    assert passed(build(), "scorecam", Dead.pictures()[:1]) == 1 + 4
