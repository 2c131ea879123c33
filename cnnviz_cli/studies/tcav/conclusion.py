"""What a run over named concepts ends with: the sheet, the table and the directions. No torch here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from PIL import Image

from cnnviz_cli.core.tcav_records import ConceptScore, Estimate, TcavFound
from cnnviz_cli.core.text import harmless_cell
from cnnviz_cli.files.output.manifest import Conclusion
from cnnviz_cli.render.figures import fit_block
from cnnviz_cli.render.tcav import ConceptRow, LayerScore, Measured, TcavFigure, compose_tcav
from cnnviz_cli.run.study_end import Concluding

_OF_EACH = ("", "_low", "_high", "_random_low", "_random_high", "_p", "_corrected_p")
HEAD = (
    *("concept", "layer", "accuracy"),
    *(name + part for name in ("share", "mean") for part in _OF_EACH),
    *("magnitude", "refused"),
)

FEW = 10
"""Images of a class that are few."""


def conclude(about: Concluding) -> Conclusion:
    """The figure of all concepts, a table of their scores, and their directions as arrays."""
    found = TcavFound.model_validate(about.kit.values["found"])
    figure = tcav_figure(found, about.kit.values, about.kit.arrays, about.model_words)
    sheet = about.write_sheet("tcav", fit_block(lambda room: compose_tcav(figure, room), about.size))
    table = about.write_table("tcav.csv", HEAD, map(_cells, found.scores))
    vectors = {
        name.removeprefix("vector "): one for name, one in about.kit.arrays.items() if name.startswith("vector ")
    }
    arrays = about.write_arrays("tcav.npz", vectors)
    return Conclusion([sheet], [table, arrays], about.findings(tcav=found))


def _cells(score: ConceptScore) -> list[str]:
    found = [harmless_cell(score.concept), harmless_cell(score.layer), repr(score.accuracy)]
    for one in (score.share, score.mean):
        found += [""] * 7 if one is None else [repr(number) for number in _numbers(one)]
    return [*found, "" if score.magnitude is None else repr(score.magnitude), harmless_cell(score.refused or "")]


def _numbers(one: Estimate) -> Iterator[float]:
    yield from (one.value, *one.interval, *one.random, one.p, one.corrected_p)


def tcav_figure(found: TcavFound, values: Mapping[str, Any], arrays: Mapping[str, Any], model: str) -> TcavFigure:
    """The figure as plain values."""
    counts, named = values["counts"], values["layers"]
    names = list(dict.fromkeys(score.concept for score in found.scores))
    concepts = []
    for number, name in enumerate(names):
        pictures = [Image.fromarray(one) for one in arrays[f"examples {number}"]]
        own = [_score(score, named) for score in found.scores if score.concept == name]
        concepts.append(ConceptRow(name, f"{counts[number]} images", pictures, own))
    other = found.against if found.rather_than is None else found.rather_than
    facts = [
        f"{found.images} image{'s' * (found.images != 1)} of the class",
        f"{counts[len(names)]} images of {found.against}",
        *([] if found.rather_than is None else [f"concepts told from {counts[len(names) + 1]} of {found.rather_than}"]),
        f"directions by {found.cav} regression",
        model,
    ]
    title = f'Does the class "{found.label}" depend on these concepts?'
    return TcavFigure(title, facts, other, concepts, _foot(found, values))


def _score(score: ConceptScore, named: Mapping[str, str]) -> LayerScore:
    refused = f"No bar: {score.refused}." if score.refused else ""
    layer = named.get(score.layer, score.layer)
    return LayerScore(layer, score.accuracy, _measured(score.share), _measured(score.mean), refused)


def _measured(one: Estimate | None) -> Measured | None:
    return None if one is None else Measured(one.value, one.interval, one.random, one.corrected_p)


def _foot(found: TcavFound, values: Mapping[str, Any]) -> list[str]:
    asked = sum(score.share is not None for score in found.scores)
    lines = []
    if asked:
        many = f", corrected for {asked} concepts and layers (Holm)" if asked > 1 else ""
        lines.append(
            f"p: how many of the directions between halves of {found.against} are as far from one half, or from 0"
            f"{many}. Intervals: all images drawn again, and that so many images are of the class."
        )
    if values["steady"]:
        steady = ", ".join(values["layers"].get(layer, layer) for layer in values["steady"])
        same = f"At {steady} all images have one gradient, so that the score rises in all or in none of them"
        lines.append(f"{same}: there the mean says more.")
    if found.images < FEW:
        lines.append(f"{found.images} images of a class are few: 50 or more make intervals narrow.")
    return lines
