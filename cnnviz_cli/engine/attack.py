"""Find the smallest change that flips a label: the answer to `core.attacks.Attack`.

Each image walks by itself: a batch of several would move the last bits of sums, and the sign of a gradient makes of a
last bit a whole step. What passes together are sizes and random starts of one image, whatever else is in the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from cnnviz_cli.core.attacks import (
    CUT_FINE,
    CUTS,
    FACTS,
    HALF_FINE,
    HALVINGS,
    LEVELS,
    MOMENTS,
    PARTS,
    Attack,
    AttackFact,
    Fact,
    Moment,
    Norm,
    SeenByAttack,
)
from cnnviz_cli.core.draws import normal, uniform
from cnnviz_cli.core.errors import MemoryShortError
from cnnviz_cli.core.needs import Evidence, Given, Gradient, Need, Seeds
from cnnviz_cli.core.network import explain_memory_errors, match_memory_format
from cnnviz_cli.core.scores import Score, class_scores, resolution
from cnnviz_cli.engine.answers import PassContext, answers
from cnnviz_cli.engine.observe import observe
from cnnviz_cli.engine.passes import Pass, run_pass
from cnnviz_cli.engine.plan import Plan
from cnnviz_cli.engine.twins import run_on_twin

_START_DRAWS = 1 << 43
"""Where the numbers of the draws of random starts begin: apart from those of everything else."""


@answers(Attack)
def attack(context: PassContext, need: Attack) -> Mapping[Need, Tensor]:
    """The attacked inputs, what is told of them, and what was asked of the images before and after."""
    found: list[Mapping[Need, Tensor]] = []
    for image in range(len(context.batch)):
        search = _Search(context, need, image)
        made = search.run()
        found.append({need: made.point, **_facts(search, made), **_explained(search, made)})
    return {one: torch.cat([answered[one] for answered in found]) for one in found[0]}


@dataclass(frozen=True)
class Ball:
    """Changes of one input, in pixel values, up to a size.

    Attributes:
        origin: (1, C, H, W) the input itself.
        norm: what size is.
    """

    origin: Tensor
    norm: Norm
    black: tuple[float, ...]
    white: tuple[float, ...]

    @property
    def span(self) -> Tensor:
        """(1, C, 1, 1) from black to white in the input's numbers; 0 in a channel that is no part of the image."""
        low, high = (self.origin.new_tensor(end).view(1, -1, 1, 1) for end in (self.black, self.white))
        return high - low

    def within(self, change: Tensor) -> Tensor:
        """(n, C, H, W) the inputs with these changes, cut off at black and white; where the image itself goes beyond
        these, at its own value."""
        low, high = (self.origin.new_tensor(end).view(1, -1, 1, 1) for end in (self.black, self.white))
        moved = self.origin + change * self.span
        return moved.maximum(low.minimum(self.origin)).minimum(high.maximum(self.origin))

    def change_of(self, points: Tensor) -> Tensor:
        """(n, C, H, W) in pixel values what inputs differ by from the image."""
        span = self.span
        return (points - self.origin) / span.where(span != 0, torch.ones_like(span))

    def size_of(self, change: Tensor) -> Tensor:
        """(n,) the sizes of changes (n, C, H, W)."""
        flat = change.flatten(1)
        return flat.abs().amax(1) if self.norm == "linf" else flat.norm(dim=1)

    def project(self, change: Tensor, eps: float) -> Tensor:
        """The nearest changes of no more than that size."""
        if self.norm == "linf":
            return change.clamp(-eps, eps)
        size = self.size_of(change).view(-1, 1, 1, 1)
        return change * (eps / size.clamp(min=eps))

    def steepest(self, slope: Tensor) -> Tensor:
        """The changes of size 1 along which something rises most, for its slopes (n, C, H, W) by the inputs; 0 where
        there is no slope."""
        by_pixel = slope * self.span
        if self.norm == "linf":
            return by_pixel.sign()
        # Divided by the largest first, so that squares of tiny slopes do not vanish.
        top = by_pixel.abs().amax((1, 2, 3), keepdim=True)
        unit = by_pixel / top.where(top > 0, torch.ones_like(top))
        size = unit.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        direction: Tensor = unit / size.clamp(min=1)
        return direction

    def random(self, seed: int, count: int) -> Tensor:
        """(count, C, H, W) changes of size 1 at the most, uniform in the ball; each is a draw of its own."""
        shape = tuple(self.origin.shape[1:])
        drawn = []
        for number in range(count):
            if self.norm == "linf":
                one = 2 * uniform(seed, _START_DRAWS + 2 * number, shape).to(self.origin) - 1
            else:
                one = normal(seed, _START_DRAWS + 2 * number, shape).to(self.origin)
                radius = float(uniform(seed, _START_DRAWS + 2 * number + 1, (1,))) ** (1 / one.numel())
                one = one * (radius / one.norm())
            drawn.append(one)
        return torch.stack(drawn)

    def rounded(self, point: Tensor) -> Tensor:
        """An input made of pixels of 8 bits: the nearest."""
        black = self.origin.new_tensor(self.black).view(1, -1, 1, 1)
        span = self.span
        shares = (point - black) / span.where(span != 0, torch.ones_like(span))
        levels = (shares * LEVELS).round().clamp(0, LEVELS)
        return torch.where(span != 0, black + levels / LEVELS * span, point)


@dataclass(frozen=True)
class _Found:
    """An input (1, C, H, W), within which eps it was found, whether it flips the label, by how much (below zero if it
    does), and the (1, K) class scores that say so."""

    point: Tensor
    eps: float
    flipped: bool
    margin: float
    logits: Tensor


def _found(points: Tensor, logits: Tensor, margins: Tensor, at: int, eps: float) -> _Found:
    """One of several inputs that have passed together."""
    margin = float(margins[at])
    return _Found(points[at : at + 1], eps, flipped=margin < 0, margin=margin, logits=logits[at : at + 1])


class _Search:
    """One image that is attacked."""

    def __init__(self, context: PassContext, need: Attack, image: int) -> None:
        self.context, self.need, self.image = context, need, image
        self.ball = Ball(context.batch[image : image + 1], need.norm, need.black, need.white)
        self.targets = context.targets[image : image + 1]
        self.chunk = 1 if context.alone else PARTS
        self.done = self._within = 0
        self.gradient = Gradient(of=need.objective)
        self.slopes, self.scores = Plan.of([self.gradient]), Plan.of([])
        self.before = self.logits(self.ball.origin)

    def run(self) -> _Found:
        """The smallest change found that flips the label; or of those of the whole budget the one that came nearest."""
        first = float(self.margins(self.before)[0])
        if first < 0:  # it is another class already
            return _Found(self.ball.origin, 0.0, flipped=True, margin=first, logits=self.before)
        return self._along_one_direction() if self.need.is_straight else self._by_walks()

    def _along_one_direction(self) -> _Found:
        need, origin = self.need, self.ball.origin
        direction = self.ball.steepest(self._slope(origin)[1]) * need.step
        low, high = 0.0, need.eps
        best: _Found | None = None
        for cut in range(CUTS):
            if high - low <= CUT_FINE * high:
                break
            # The far end of a later cut is known to flip.
            parts = range(1, PARTS + 1 if cut == 0 else PARTS)
            sizes = [low + (high - low) * part / PARTS for part in parts]
            points = self.ball.within(torch.cat([size * direction for size in sizes]))
            logits = self.logits(points)
            margins = self.margins(logits)
            flips = [at for at, margin in enumerate(margins.tolist()) if margin < 0]
            if flips:
                first = flips[0]
                best = _found(points, logits, margins, first, sizes[first])
                low, high = (sizes[first - 1] if first else low), sizes[first]
            elif best is None:
                return _found(points, logits, margins, len(points) - 1, need.eps)
            else:
                low = sizes[-1]
        assert best is not None  # or it would have returned
        return best

    def _by_walks(self) -> _Found:
        best = self._walk(self.need.eps)
        if not best.flipped:
            return best
        low = 0.0
        for _ in range(HALVINGS):
            if best.eps - low <= HALF_FINE * best.eps:
                break
            tried = self._walk((low + best.eps) / 2)
            if tried.flipped:
                best = tried
            else:
                low = tried.eps
        return best

    def _walk(self, eps: float) -> _Found:
        """Projected steps within a ball, from all starts at once, until one flips the label."""
        need, ball = self.need, self.ball
        count = max(need.starts, 1)
        change = torch.zeros_like(ball.origin).expand(count, -1, -1, -1)
        if need.starts:
            seed = int(self.context.evidence.only((Seeds(),))[Seeds()][self.image])
            change = eps * ball.random(seed, need.starts)
        best: _Found | None = None
        for step in range(need.length + 1):
            points = ball.within(change)
            last = step == need.length
            logits, slope = (self.logits(points), None) if last else self._slope(points)
            margins = self.margins(logits)
            lowest = int(margins.argmin())
            if best is None or float(margins[lowest]) < best.margin:
                best = _found(points, logits, margins, lowest, eps)
            if best.flipped:
                # On its way it may not have gone as far as it could.
                size = float(ball.size_of(ball.change_of(best.point).double())[0])
                return replace(best, eps=min(eps, size))
            if slope is not None:
                moved = ball.change_of(points) + need.step * eps * ball.steepest(slope)
                change = ball.project(moved, eps)
        assert best is not None  # of at least one step
        return best

    def tick(self, done: int, total: int) -> None:
        """So many variants of a stream of an explanation have passed, of so many; streams follow one another."""
        self.done += done - self._within if done > self._within else done
        self._within = 0 if done == total else done
        self.context.tick(min(self.done, self.need.variants), self.need.variants)

    def margins(self, logits: Tensor) -> Tensor:
        """(n,) how far the label is from being flipped; below zero if it is, by more than rounding."""
        need = self.need
        counted = self.targets[:, need.rank if need.wanted is None else need.wanted].expand(len(logits))[:, None]
        score = logits.gather(1, counted).squeeze(1)
        others = torch.zeros_like(score)
        if not need.sigmoid:
            others = logits.scatter(1, counted, float("-inf")).amax(1)
        ahead = score - others if need.wanted is None else others - score
        return ahead + resolution(logits) * score.abs().maximum(others.abs())

    def logits(self, points: Tensor) -> Tensor:
        """(n, K) class scores of inputs."""
        return torch.cat([one.logits for one in self._passes(points, self.scores)])

    def _slope(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """(n, K) class scores, and (n, C, H, W) along what the label comes nearer to being flipped."""
        passes = self._passes(points, self.slopes)
        slope = torch.cat([one.answers[self.gradient] for one in passes])
        return torch.cat([one.logits for one in passes]), -slope if self.need.wanted is None else slope

    def _passes(self, points: Tensor, plan: Plan) -> list[Pass]:
        """The network on inputs, as many at a time as fit."""
        found: list[Pass] = []
        start = 0
        while start < len(points):
            part = points[start : start + self.chunk]
            try:
                with explain_memory_errors(1):
                    found.append(self._run(part, plan))
            except MemoryShortError:
                if len(part) == 1:
                    raise
                self.chunk = len(part) // 2
                continue
            start += len(part)
            self.done += len(part)
            self.context.tick(min(self.done, self.need.variants), self.need.variants)
        return found

    def _run(self, points: Tensor, plan: Plan) -> Pass:
        context = self.context
        inputs = match_memory_format(points.to(context.batch), context.batch)

        def run(net: nn.Module) -> Pass:
            return run_pass(
                net,
                net,
                inputs,
                plan,
                context.targets_for(self.image, len(points)),
                context.execution,
                readout=context.readout,
                anchor=context.anchor_of(self.image, len(points)),
            )

        return run_on_twin(context.net, inputs, plan.layers, run, fold=context.folds)


def _facts(search: _Search, made: _Found) -> dict[Need, Tensor]:
    """(1,) float64 each."""
    need, ball = search.need, search.ball
    before, after = search.before, made.logits
    change = ball.change_of(made.point).double()
    kind: Score = "sigmoid" if need.sigmoid else "softmax"
    shares = [class_scores(logits.double(), kind)[0] for logits in (before, after)]
    labels = [_likeliest(logits) for logits in (before, after)]
    counted = int(search.targets[0, need.rank if need.wanted is None else need.wanted])
    told: dict[Fact, float] = {
        "flipped": float(made.flipped),
        "eps": made.eps,
        "linf": float(change.abs().max()),
        "l2": float(change.norm()),
        "changed": float((change != 0).any(1).double().mean()),
        "in_8_bits": float(search.margins(search.logits(ball.rounded(made.point)))[0] < 0),
        "label": labels[0],
        "probability": float(shares[0][labels[0]]),
        "label_after": labels[1],
        "probability_after": float(shares[1][labels[1]]),
        "score_before": float(shares[0][counted]),
        "score_after": float(shares[1][counted]),
    }
    return {AttackFact(need, fact): torch.tensor([told[fact]], dtype=torch.float64, device="cpu") for fact in FACTS}


def _likeliest(logits: Tensor) -> int:
    """Of equal scores the lower index, as everywhere."""
    return int(logits.sort(dim=1, descending=True, stable=True).indices[0, 0])


def _explained(search: _Search, made: _Found) -> dict[Need, Tensor]:
    """What is asked of the image at each moment."""
    context, need = search.context, search.need
    if not need.explained:
        return {}
    plan = Plan.of(need.explained)
    evidence = context.evidence.only(need.sources)
    given = {one.name: evidence[one][search.image : search.image + 1] for one in need.sources if isinstance(one, Given)}

    def ask(point: Tensor, targets: Tensor) -> Evidence:
        for module in context.net.modules():
            if module.training:  # a forward of its own may have switched it back
                module.training = False
        return observe(
            context.net,
            match_memory_format(point, context.batch),
            plan,
            lambda _scores: targets,
            readout=context.readout,
            given=given,
            execution=context.execution,
            memory=context.memory,
            tick=search.tick,
            alone=context.alone,
        ).evidence

    after = search.targets.clone()
    after[:, need.rank] = _likeliest(made.logits)
    asked: Mapping[Moment, tuple[Tensor, Tensor]] = {
        "before": (search.ball.origin, search.targets),
        "after": (made.point, after),
        "still": (made.point, search.targets),
    }
    found: dict[Need, Tensor] = {}
    for moment in MOMENTS:
        point, targets = asked[moment]
        seen = ask(point, targets)
        found |= {SeenByAttack(need, one, moment): seen[one] for one in need.explained}
    return found
