"""Paint a picture that an objective answers: the answers to `core.ascent.Ascent` and `Reached`.

Each picture climbs by itself: a batch of several would move the last bits of sums, which a hundred steps turn into
another picture, and on a CPU it is hardly faster. The network runs no further than the objective looks.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import field

import torch
from torch import Tensor, nn

from cnnviz_cli.core.ascent import (
    Ascent,
    Asked,
    Opened,
    Picture,
    Reached,
    StepScores,
)
from cnnviz_cli.core.layers import input_proportions
from cnnviz_cli.core.needs import INPUT, Activation, Evidence, Gradient, Need, ReluRule
from cnnviz_cli.core.network import match_memory_format
from cnnviz_cli.core.objectives import Forward, Objective
from cnnviz_cli.core.value import value
from cnnviz_cli.engine.answers import PassContext, answers
from cnnviz_cli.engine.device import release_freed_memory
from cnnviz_cli.engine.partial import UpTo, count_runs
from cnnviz_cli.engine.passes import NoRectifierError, Pass, run_pass
from cnnviz_cli.engine.plan import Plan
from cnnviz_cli.engine.twins import FoldError, find_twin


@answers(Ascent)
def ascend(context: PassContext, need: Ascent) -> Mapping[Need, Tensor]:
    """The pictures, and what is told of their making."""
    made = [_Climb(context, need, image).run() for image in range(len(context.batch))]
    told = (need, StepScores(need), Opened(need), Asked(need))
    return {one: torch.cat(parts) for one, parts in zip(told, zip(*made, strict=True), strict=True)}


@answers(Reached)
def measure(context: PassContext, need: Reached) -> Tensor:
    """(B,) the objective in each image's input."""
    evidence = context.evidence.only(need.sources)
    found = []
    for image in range(len(context.batch)):
        sight = _Sight(context, need.of, image)
        beside = {name: evidence[Picture(name)][image : image + 1] for name in need.of.compares_with}
        found.append(sight.value(context.batch[image : image + 1], beside))
    return torch.cat(found)


class _Climb:
    """One picture on its way."""

    def __init__(self, context: PassContext, need: Ascent, image: int) -> None:
        self.context, self.need = context, need
        like = context.batch[image : image + 1]
        self.evidence = context.evidence.only(need.sources)
        self.seed = _seed_of(self.evidence, need, image)
        self.low, self.span = (like.new_tensor(end).view(1, -1, 1, 1) for end in _range_of(need))
        self.painting = need.canvas.begin(self.evidence, image, like)
        self.sight = _Sight(context, need.of, image)
        drawn = {source for source in need.canvas.needs if isinstance(source, Picture)}
        pictures = {name: self.evidence[Picture(name)][image : image + 1] for name in need.of.compares_with}
        # What the picture starts from is seen in the same views as the picture; anything else as it is.
        self.followed = {name: one.to(like) for name, one in pictures.items() if Picture(name) in drawn}
        fixed = {name: self._input(one.to(like)) for name, one in pictures.items() if Picture(name) not in drawn}
        self.fixed = self.sight.maps_of(fixed)
        self.opened = self.draws = 0
        self.has_rectifiers = True

    def run(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(1, C, h, w) the picture, (1, n) scores, (1,) the number of steps with open rectifiers, (1, 1, h, w) how much
        was asked for."""
        painting, steps = self.painting, self.need.course.steps
        scores: list[Tensor] = []
        asked = painting.numbers.new_zeros(1, 1, 1, 1)
        height, width = self.need.canvas.size or tuple(self.evidence[Picture()].shape[-2:])
        large = bool(self.need.views.tiles(height, width, self.seed, 0))
        for octave in range(painting.octaves):
            painting.enter(octave)
            if large:
                release_freed_memory()
            mover = self.need.course.rule.begin()
            asked = torch.zeros_like(asked[..., :1, :1])
            for step in range(steps):
                progress = step / max(steps - 1, 1)
                with torch.enable_grad():
                    numbers = painting.numbers.detach().requires_grad_()
                    picture = painting.draw(numbers)
                score, slope = self._slope(picture.detach(), progress)
                gradient = slope if picture is numbers else torch.autograd.grad(picture, numbers, slope)[0]
                if self.need.mapped:
                    asked = asked + _relative(slope)
                painting.put(mover.move(numbers.detach(), gradient, progress))
                scores.append(score)
                self.draws += 1
                self.context.tick(self.draws, painting.octaves * steps)
        with torch.no_grad():
            finished = painting.draw(painting.numbers).detach()
        told = torch.stack(scores, 1) if scores else finished.new_zeros(1, 0)
        return finished, told, torch.tensor([self.opened], dtype=torch.int64, device="cpu"), asked

    def _slope(self, picture: Tensor, progress: float) -> tuple[Tensor, Tensor]:
        """(1,) the objective, and its gradient at the picture; by open rectifiers where that is nothing at all."""
        score, slope = self._slope_by("exact", picture, progress)
        if self.has_rectifiers and self.opened < self.need.course.open_steps and _is_nothing(slope):
            try:
                score, slope = self._slope_by("open", picture, progress)
                self.opened += 1
            except NoRectifierError:  # there is nothing to open, and the picture stays as it is
                self.has_rectifiers = False
        return score, slope

    def _slope_by(self, rule: ReluRule, picture: Tensor, progress: float) -> tuple[Tensor, Tensor]:
        tiles = self.need.views.tiles(picture.shape[2], picture.shape[3], self.seed, self.draws)
        if not tiles:
            return self._slope_of_part(rule, picture, self.followed, progress)
        total, whole = picture.new_zeros(1), torch.empty_like(picture)
        for tile in tiles:
            followed = {name: tile.cut(one) for name, one in self.followed.items()}
            score, slope = self._slope_of_part(rule, tile.cut(picture), followed, progress)
            # Objectives are means over positions: what a tile counts for is its share of them.
            share = tile.height * tile.width / picture[0, 0].numel()
            tile.paste(whole, slope * share)
            total = total + score * share
        return total, whole

    def _slope_of_part(
        self, rule: ReluRule, picture: Tensor, followed: Mapping[str, Tensor], progress: float
    ) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            leaf = picture.requires_grad_()
            inputs = self._look(leaf, progress)
        beside = {name: self._look(one, progress) for name, one in followed.items()}
        score, gradient = self.sight.gradient(inputs.detach(), rule, {**self.fixed, **self.sight.maps_of(beside)})
        (slope,) = torch.autograd.grad(inputs, leaf, gradient)
        return score, slope

    def _look(self, picture: Tensor, progress: float) -> Tensor:
        return self._input(self.need.views.look(picture, self.seed, self.draws, progress))

    def _input(self, picture: Tensor) -> Tensor:
        return match_memory_format(self.low + self.span * picture, self.context.batch)


class _Sight:
    """The network as far as an objective looks into it, for one image of the batch."""

    def __init__(self, context: PassContext, of: Objective, image: int) -> None:
        self.context, self.of, self.image = context, of, image
        self.layers = of.layers()
        picture = context.batch[image : image + 1]
        # Scores are read behind the last layer, whatever else is.
        self.runs = {} if of.follows_target else count_runs(context.net, self.layers, picture, context.execution)
        self.twin = find_twin(context.net, picture, self.layers) if context.folds else None

    def gradient(
        self, inputs: Tensor, rule: ReluRule, beside: Mapping[str, Mapping[str, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """(1,) the mean of the objective over (n, C, H, W) inputs, and its gradient there."""
        of = _Beside(self.of, beside)
        need = Gradient(INPUT, of, rule)
        made = self._pass(inputs, Plan.of([need]))
        with torch.no_grad():
            score = of.value(made).detach().mean(0, keepdim=True)
        gradient = made.answers[need].to(inputs)
        return score, gradient if len(inputs) == 1 else gradient / len(inputs)

    def value(self, inputs: Tensor, beside: Mapping[str, Tensor]) -> Tensor:
        """(n,) the objective in (n, C, H, W) inputs."""
        # Others want them as they are, and a first layer may work in place.
        made = self._pass(inputs.clone(), Plan.of(Activation(layer) for layer in self.layers))
        maps = self.maps_of({name: one.clone() for name, one in beside.items()})
        with torch.no_grad():
            return _Beside(self.of, maps).value(made)

    def maps_of(self, inputs: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """By name of a picture and by layer (n, C, h, w) maps."""
        needs = [Activation(layer) for layer in self.layers]
        found = {}
        for name, batch in inputs.items():
            made = self._pass(batch.detach(), Plan.of(needs))
            found[name] = {need.layer: made.answers[need] for need in needs}
        return found

    def _pass(self, inputs: Tensor, plan: Plan) -> Pass:
        with input_proportions(*inputs.shape[-2:]):
            if self.twin is not None:
                with suppress(FoldError), self.twin.in_use() as copy:
                    return self._run(copy, inputs, plan)
            return self._run(self.context.net, inputs, plan)

    def _run(self, net: nn.Module, inputs: Tensor, plan: Plan) -> Pass:
        context, count = self.context, len(inputs)
        targets = context.targets_for(self.image, count)
        if self.runs:
            return run_pass(UpTo(net, self.runs), net, inputs, plan, targets, context.execution, owned=True)
        # A view holds its own regions: what a photograph has in one place is elsewhere, and of another size, here.
        return run_pass(net, net, inputs, plan, targets, context.execution, readout=context.readout, owned=True)


@value
class _Beside(Objective):
    """An objective together with the maps of the pictures that it compares with."""

    of: Objective
    known: Mapping[str, Mapping[str, Tensor]] = field(compare=False)

    def layers(self) -> tuple[str, ...]:
        return self.of.layers()

    def value(self, forward: Forward) -> Tensor:
        return self.of.value(_Accompanied(forward, self.known))

    def label(self) -> str:
        return self.of.label()


class _Accompanied:
    """A forward pass beside which those of other pictures are known, see `core.unit_objectives`."""

    def __init__(self, forward: Forward, known: Mapping[str, Mapping[str, Tensor]]) -> None:
        self.forward, self.known = forward, known
        self.logits, self.targets = forward.logits, forward.targets

    def maps(self, layer: str) -> Tensor:
        return self.forward.maps(layer)

    def maps_beside(self, picture: str, layer: str) -> Tensor:
        return self.known[picture][layer]


def _seed_of(evidence: Evidence, need: Ascent, image: int) -> int:
    seeds = [source for source in need.sources if source.integer]
    return int(evidence[seeds[0]][image]) if seeds else 0


def _range_of(need: Ascent) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Black, and how far white is above it."""
    return need.black, tuple(high - low for low, high in zip(need.black, need.white, strict=True))


def _is_nothing(slope: Tensor) -> bool:
    """Whether it is zero everywhere; what is not a number is something."""
    low, high = slope.aminmax()
    return bool((low == 0) & (high == 0))


def _relative(slope: Tensor) -> Tensor:
    """(1, 1, h, w) magnitudes over their mean."""
    size = slope.abs().sum(1, keepdim=True)
    return size / size.mean().clamp(min=torch.finfo(size.dtype).tiny)
