"""The methods of a run once more, altered as measures ask: of another class, of shuffled weights, of noisy inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cnnviz_cli.core.draws import uniform
from cnnviz_cli.core.errors import CnnvizError
from cnnviz_cli.core.layers import split_run
from cnnviz_cli.core.measures import Again, Noisy, OtherTarget, Scrambled
from cnnviz_cli.core.network import match_memory_format
from cnnviz_cli.core.panels import Panel
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.scores import resolution
from cnnviz_cli.engine.observe import Observation
from cnnviz_cli.engine.scramble import Stage, order_of_weights, scramble, stages_of
from cnnviz_cli.run.explain import Explainer
from cnnviz_cli.run.judge import Batch

Results = Sequence[Sequence[Sequence[Panel]] | str]

NOISE_DRAWS = 1 << 43
"""The number of the first draw of noise: apart from those of variants, methods and ties."""

NO_CLASS = "what is explained is no class of a classifier, so there is no other class"
OTHER_ANSWER = "the noise changes what the network takes the image for"


@dataclass(frozen=True)
class AlteredRuns:
    """Runs an explainer's methods again. Networks with shuffled weights are kept, since every batch asks for them.

    `run.judge.Judge` is given one as its `run_again`.
    """

    explainer: Explainer
    _networks: dict[Scrambled, Explainer | str] = field(default_factory=dict, repr=False, compare=False)

    def __call__(self, how: Again, batch: Batch, reporter: Reporter) -> Results:
        """Of each image the picked panels of each task, or why it has none. Raises what `Explainer.explain_batch`
        does where the network does not take the batch."""
        match how:
            case OtherTarget():
                return self._of_other_target(how, batch, reporter)
            case Scrambled():
                return self._scrambled_run(how, batch, reporter)
            case Noisy():
                return self._noisy(how, batch, reporter)
        raise TypeError(f"nothing says how methods are run again {how}")

    def _of_other_target(self, how: OtherTarget, batch: Batch, reporter: Reporter) -> Results:
        if not self.explainer.session.context.classes:
            return [NO_CLASS] * len(batch.inputs)
        targets, order = batch.observation.targets, batch.observation.order
        others = targets.clone()
        contrast = self.explainer.session.targets.contrast_rank
        for image, scores in enumerate(order):
            ordered = scores.sort(descending=True, stable=True)
            ranked = ordered.indices[ordered.values > -torch.inf].tolist()
            asked = set(targets[image].tolist())
            other = next((one for one in reversed(ranked[: how.among]) if one not in asked), None)
            if other is not None:
                others[image] = other
                if contrast is not None:
                    others[image, contrast] = targets[image, contrast]
        panels = self._of_targets(batch, reporter, others)
        return [
            NO_CLASS if torch.equal(others[image], targets[image]) else _picked(panels, image)
            for image in range(len(batch.inputs))
        ]

    def _of_targets(self, batch: Batch, reporter: Reporter, targets: Tensor) -> list[Sequence[Panel]]:
        """The panels of each task for other targets. Maps that depend on no target are those that are there: the same
        inputs and draws give the same maps."""
        blind = blind_methods(self.explainer, batch.panels)
        names = [one.method.name for one in self.explainer.requests if one.method.name not in blind]
        if not blind:
            return self._explain(self.explainer, batch, batch.inputs, reporter, targets)[1]
        found: Iterator[Sequence[Panel]] = iter(())
        if names:
            found = iter(self._explain(self.explainer.only(names), batch, batch.inputs, reporter, targets)[1])
        tasks = zip(self.explainer.tasks, batch.panels, strict=True)
        return [known if task.method.name in blind else next(found) for task, known in tasks]

    def _scrambled_run(self, how: Scrambled, batch: Batch, reporter: Reporter) -> Results:
        known = self._networks.get(how)
        if known is None:
            known = self._networks[how] = self._scramble(how, batch, reporter)
        if isinstance(known, str):
            return [known] * len(batch.inputs)
        try:
            panels = self._explain(known, batch, batch.inputs, reporter, batch.observation.targets)[1]
        except CnnvizError as error:
            return [f"with shuffled weights: {error.what}"] * len(batch.inputs)
        return [_picked(panels, image) for image in range(len(batch.inputs))]

    def _noisy(self, how: Noisy, batch: Batch, reporter: Reporter) -> Results:
        session = self.explainer.session
        spec, shape = session.context.input_spec, tuple(batch.inputs.shape[1:])
        ends = zip(spec.black, spec.white, strict=True)
        span = batch.inputs.new_tensor([1.0 if how.normalized else high - low for low, high in ends])
        reach = how.share * span.view(1, -1, 1, 1)
        drawn = [uniform(seed, NOISE_DRAWS + how.draw, shape) for seed in session.seeds_of(batch.digests)]
        noise = torch.stack(drawn).to(batch.inputs) * 2 - 1
        changed = match_memory_format(batch.inputs + reach * noise, batch.inputs)
        seen, panels = self._explain(self.explainer, batch, changed, reporter, batch.observation.targets)
        same = seen.order.argmax(1) == batch.observation.order.argmax(1)
        return [_picked(panels, image) if same[image] else OTHER_ANSWER for image in range(len(batch.inputs))]

    def stages(self, count: int, batch: Batch) -> tuple[Stage, ...]:
        """How far down weights are shuffled in a cascade of so many stages."""
        session = self.explainer.session
        ends = [split_run(name)[0] for name in session.context.layers.resolve(("stages",))]
        return stages_of(order_of_weights(session.net, batch.inputs[:1]), ends, count)

    def _scramble(self, how: Scrambled, batch: Batch, reporter: Reporter) -> Explainer | str:
        session = self.explainer.session
        stages = self.stages(how.stages, batch)
        if not stages:
            return "the network has no weights that could be shuffled"
        modules = stages[min(how.stage, len(stages) - 1)].modules
        try:
            net = scramble(session.net, modules, session.settings.seed)
        except Exception as error:  # whatever a module keeps that does not let itself be copied
            return f"the network cannot be copied: {type(error).__name__}"
        try:
            found = self.explainer.with_net(net)
        except CnnvizError as error:
            return f"with shuffled weights: {error.what}"
        if how.stage == how.stages - 1 and len(batch.inputs) > 1:
            self._warn_of_one_answer(found, batch, reporter)
        return found

    def _warn_of_one_answer(self, found: Explainer, batch: Batch, reporter: Reporter) -> None:
        session = found.at_size(batch.size).session
        logits = session.observe(batch.inputs, (), digests=batch.digests, masks=batch.masks).logits
        spread = (logits - logits[:1]).abs().amax()
        if spread <= 4 * resolution(logits) * logits.abs().amax():
            reporter.warn("with shuffled weights the network answers all images alike: its maps there are rounding")

    def _explain(
        self, explainer: Explainer, batch: Batch, inputs: Tensor, reporter: Reporter, targets: Tensor
    ) -> tuple[Observation, list[Sequence[Panel]]]:
        return explainer.explain_batch(inputs, batch.digests, reporter, masks=batch.masks, targets=targets)


def blind_methods(explainer: Explainer, panels: Sequence[Sequence[Panel]]) -> set[str]:
    """The methods of which no map depends on a target, of the panels of each of an explainer's tasks."""
    asked = {
        task.method.name
        for task, several in zip(explainer.tasks, panels, strict=True)
        if any(panel.target is not None for panel in several)
    }
    return {task.method.name for task in explainer.tasks} - asked


def _picked(panels: Sequence[Sequence[Panel]], image: int) -> list[list[Panel]]:
    return [[panel.pick(image) for panel in several] for several in panels]
