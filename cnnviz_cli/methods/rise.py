"""RISE."""

from __future__ import annotations

from typing import ClassVar

from cnnviz_cli.methods.api import (
    Evidence,
    Heatmap,
    Input,
    MethodContext,
    Objective,
    Recipe,
    Scores,
    Seeds,
    method,
    option,
    value,
)
from cnnviz_cli.methods.common.perturbation import RandomMasks

BLOCK = 64
"""Masks made at a time when they are summed up: a bound on memory."""


@value
class Options:
    cover: ClassVar[str] = "rise"
    """What its masks hide is zero after normalisation, as measures call it."""

    masks: int = option(4000, "How many random masks.", at_least=1)
    grid: int = option(7, "Cells of a mask, a side, before it is enlarged.", at_least=1)


@method(
    "rise",
    title="RISE",
    family="saliency",
    options=Options,
    paper="Petsiuk et al., RISE: Randomized Input Sampling for Explanation, 2018, https://arxiv.org/abs/1806.07421",
)
def rise(options: Options, context: MethodContext) -> Recipe:
    """Which parts of the image the class is seen by, judged by random masks.

    At each pixel sum_i s_i m_i / sum_i m_i over the masks m_i: the mean score where the pixel is seen. The score s_i of
    the masked input is the class's probability, as in the paper, whatever --score says; of what is no class, and under
    --contrast and --counterfactual, it is what the run explains. Of the map its lowest value is taken off, so that its
    colours begin at zero, and recorded as `lowest`.
    """
    masks = RandomMasks(options.masks, options.grid)
    plain = context.contrast_rank is None and not context.counterfactual
    objective: Objective = context.probability if plain else context.target
    scores = Scores(masks, of=objective)

    def explain(evidence: Evidence) -> list[Heatmap]:
        found, inputs, seeds = evidence[scores], evidence[Input()], evidence[Seeds()]
        means = inputs.new_zeros((len(inputs), 1, *inputs.shape[2:]))
        for image, seed in enumerate(seeds.tolist()):
            seen, weighted = inputs.new_zeros(inputs.shape[2:]), inputs.new_zeros(inputs.shape[2:])
            # Made once more rather than kept: 4000 masks of 224 x 224 take 800 MB.
            for start in range(0, masks.count, BLOCK):
                stop = min(start + BLOCK, masks.count)
                block = masks.mask(seed, start, stop, inputs)
                seen += block.sum(0)
                weighted += (found[image, start:stop].view(-1, 1, 1) * block).sum(0)
            # Of a pixel that no mask shows nothing is known: it gets the mean score.
            means[image, 0] = (weighted / seen.clamp(min=1e-12)).where(seen > 0, found[image].mean())
        lowest = means.amin((1, 2, 3))
        values = means - lowest.view(-1, 1, 1, 1)
        return [Heatmap(values, target=context.rank, statistics={"lowest": lowest}, origin="none")]

    return Recipe((scores, Input(), Seeds()), explain)
