"""What all dream methods share: their options, the need, and the panel that is made of the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnnviz_cli.core.ascent import (
    OPEN_STEPS,
    Ascent,
    Asked,
    Canvas,
    Course,
    Opened,
    Picture,
    Rule,
    StepScores,
    Views,
)
from cnnviz_cli.core.dream_facts import changed_share, saturated_share, spectrum_slope, to_bytes
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.method import MethodContext, Recipe, option
from cnnviz_cli.core.needs import Evidence
from cnnviz_cli.core.objectives import Objective
from cnnviz_cli.core.panels import Dreamed
from cnnviz_cli.core.unit_objectives import OfLayer
from cnnviz_cli.core.value import value

if TYPE_CHECKING:
    from torch import Tensor

STEP = 1.5 / 255
"""DeepDream's, a mean step of one and a half of 255 levels."""


@value
class DreamOptions:
    steps: int = option(0, "Steps at each size; 0 takes as many as the method needs.", at_least=0)
    open_rectifiers: int = option(
        OPEN_STEPS,
        "In how many steps a unit that nothing switches on may be reached through rectifiers that are off.",
        at_least=0,
    )


@value
class NoiseOptions(DreamOptions):
    views: int = option(1, "How many turned and scaled views the network sees at each step.", at_least=1)
    grain: float = option(
        0.03, "Noise on the views, which keeps the picture smooth; it falls as the picture settles.", at_least=0
    )


def dream_recipe(
    options: DreamOptions,
    context: MethodContext,
    canvas: Canvas,
    views: Views,
    rule: Rule,
    *,
    steps: int,
    of: Objective | None = None,
    transparency: bool = False,
    from_noise: bool = False,
) -> Recipe:
    """The recipe of a method that paints one picture.

    Args:
        steps: at each size, where the user names no number.
        of: what is climbed; the target or subject if not given.
        transparency: whether where the network asked for something is part of the picture.
        from_noise: whether it starts from noise though it is of a photograph.
    """
    course = Course(options.steps or steps, rule, options.open_rectifiers)
    spec = context.input_spec
    need = Ascent(canvas, views, course, of or context.target, spec.black, spec.white, mapped=transparency)
    told = (StepScores(need), Opened(need), *((Asked(need),) if transparency else ()))
    starts = Picture() in canvas.needs

    def explain(evidence: Evidence) -> list[Dreamed]:
        values = evidence[need]
        start = evidence[Picture()] if starts and not from_noise else None
        panel = Dreamed(
            values,
            evidence[StepScores(need)],
            start,
            evidence[Asked(need)] if transparency else None,
            target=context.rank if context.subject is None else None,
            layer=(of or context.target).layers()[-1] if (of or context.target).layers() else None,
            statistics={"opened": evidence[Opened(need)], **_appearance(values, start)},
        )
        return [panel]

    return Recipe((need, *told, *((Picture(),) if starts else ())), explain)


def _appearance(values: Tensor, start: Tensor | None) -> dict[str, Tensor]:
    """(B,) what pictures look like in numbers, by name."""
    written = [to_bytes(one.cpu().numpy()) for one in values]
    found = {
        "slope": [spectrum_slope(one) for one in written],
        "saturated": [saturated_share(one) for one in written],
    }
    if start is not None:
        before = [to_bytes(one.cpu().numpy()) for one in start]
        found["changed"] = [changed_share(*pair) for pair in zip(written, before, strict=True)]
    return {name: values.new_tensor(numbers) for name, numbers in found.items()}


def canvas_size(context: MethodContext) -> tuple[int, int]:
    """Height and width of a picture that is painted from noise."""
    return context.canvas or context.input_spec.size


def require_subject_of_layer(context: MethodContext, what: str) -> str:
    """The layer that the subject is about. Raises UsageError where it is a class, or a sum."""
    if not isinstance(context.subject, OfLayer):
        raise UsageError(what, where="--layer", fix="Name one: --layer high")
    return context.subject.layer
