"""The sheet of all images, concepts.npz and concepts.csv: made of the kit and of the records, without a network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnviz_cli.core.concept_records import (
    Concept,
    ConceptFacts,
    ConceptImportance,
    ConceptsFound,
    ConceptsOfImage,
)
from cnnviz_cli.core.geometry import View
from cnnviz_cli.core.records import ImageRecord
from cnnviz_cli.core.text import harmless_cell
from cnnviz_cli.files.output.manifest import NOTHING_CONCLUDED, Conclusion
from cnnviz_cli.files.tables.concept_file import CONCEPT_FILE, ConceptFile
from cnnviz_cli.render.concepts import compose_concepts
from cnnviz_cli.render.figures import fit_block
from cnnviz_cli.run.evaluation_files import target_words
from cnnviz_cli.run.study_end import Concluding
from cnnviz_cli.studies.concepts.boards import ImageMaps, Picture, density_of, folder_board

CONCEPTS = "concepts"
TABLE = "concepts.csv"
TABLE_HEAD = ("image", "class", "part", "number", "name", "adds")
"""A line for each concept in each image, and for the bias and what no concept explains."""

_FILE = "file."


@dataclass
class _Sums:
    """Sums over the images of one class, or of all."""

    index: int
    label: str
    images: int = 0
    adds: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    score: float = 0.0
    bias: float = 0.0
    rest: float = 0.0

    def add(self, told: ConceptsOfImage) -> None:
        values = np.asarray(told.adds)
        self.adds = values if not self.images else self.adds + values
        self.images += 1
        self.score += told.score
        self.bias += told.bias or 0.0
        self.rest += told.rest or 0.0

    def mean(self, total: float) -> float:
        return _six(total / self.images)

    @property
    def means(self) -> list[float]:
        return [_six(value / self.images) for value in self.adds.tolist()]


def conclude_concepts(given: Concluding) -> Conclusion:
    """What is made of all records. Nothing where no image could be seen."""
    kit = given.kit
    told = _Told.of(given.records())
    if not kit.values or not told.whole.images:
        return NOTHING_CONCLUDED
    values: Mapping[str, Any] = kit.values
    facts = ConceptFacts.model_validate(values["facts"], strict=False)
    arrays = {name.removeprefix(_FILE): one for name, one in kit.arrays.items() if name.startswith(_FILE)}
    written = given.write_arrays(CONCEPT_FILE, ConceptFile(facts, arrays).to_arrays())
    found = _found_of(values, facts, told, written.sha256)
    columns = _columns_of(values, kit.arrays, told)
    crops = {one.number: _crops_of(kit.arrays, one.number, len(one.examples)) for one in found.concepts}
    crops[0] = _crops_of(kit.arrays, 0, len(found.unexplained))
    board = folder_board(
        found, given.model_words, int(values["images"]), crops, columns, target_words(given.run.config)
    )
    size = given.size
    figure = fit_block(partial(compose_concepts, board, density=density_of(size)), size)
    sheet = given.write_sheet(CONCEPTS, figure, layer=found.layer)
    table = given.write_table(TABLE, TABLE_HEAD, _rows(given.records(), found.concepts))
    return Conclusion([sheet], [written, table], given.findings(concepts=found))


@dataclass
class _Told:
    """What the records say, summed up."""

    whole: _Sums
    classes: dict[int, _Sums]
    images: dict[str, ConceptsOfImage]

    @classmethod
    def of(cls, records: Iterator[ImageRecord]) -> _Told:
        made = cls(_Sums(-1, ""), {}, {})
        for record in records:
            told = record.findings and record.findings.concepts
            if told:
                made.whole.add(told)
                made.classes.setdefault(told.index, _Sums(told.index, told.label)).add(told)
                made.images[record.source] = told
        return made


def _found_of(values: Mapping[str, Any], facts: ConceptFacts, told: _Told, sha256: str) -> ConceptsFound:
    known = dict(values["found"])
    shares, examples = known.pop("shares"), known.pop("examples")
    whole, exact = told.whole, known["how"] == "exact"
    means = whole.means
    concepts = [
        Concept(
            number=at + 1,
            color=facts.colors[at],
            name=facts.names[at],
            classes=facts.classes[at],
            importance=means[at],
            share=shares[at],
            examples=examples[at],
        )
        for at in range(len(shares))
    ]
    by_class = [
        ConceptImportance(
            index=one.index,
            label=one.label,
            images=one.images,
            adds=one.means,
            rest=one.mean(one.rest) if exact else None,
        )
        for one in sorted(told.classes.values(), key=lambda one: (-one.images, one.index))
    ]
    return ConceptsFound(
        **known,
        sha256=sha256,
        explained=whole.images,
        score=whole.mean(whole.score),
        bias=whole.mean(whole.bias) if exact else None,
        rest=whole.mean(whole.rest) if exact else None,
        concepts=concepts,
        by_class=by_class,
    )


def _columns_of(
    values: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], told: _Told
) -> list[tuple[Picture, ImageMaps, ConceptsOfImage]]:
    found = []
    for number, about in enumerate(values["columns"]):
        if about["source"] not in told.images:
            continue  # its record failed
        image = Image.fromarray(np.ascontiguousarray(arrays[f"column.{number}.picture"]))
        left, top, right, bottom = about["box"]
        view = View(image.size, (about["size"][0], about["size"][1]), (left, top, right, bottom))
        concepts = arrays[f"column.{number}.concepts"]
        maps = ImageMaps(concepts, concepts, arrays[f"column.{number}.rest"])
        found.append((Picture(image, image.size, view, about["source"]), maps, told.images[about["source"]]))
    return found


def _crops_of(arrays: Mapping[str, NDArray[Any]], number: int, count: int) -> list[Image.Image]:
    """The pictures of the examples of a concept, none where it does not stand on the sheet."""
    names = [f"crop.{number}.{at}" for at in range(count)]
    return [Image.fromarray(np.ascontiguousarray(arrays[name])) for name in names if name in arrays]


def _rows(records: Iterator[ImageRecord], concepts: Sequence[Concept]) -> Iterator[tuple[str, ...]]:
    for record in records:
        told = record.findings and record.findings.concepts
        if not told:
            continue
        head = harmless_cell(record.source), harmless_cell(told.label)
        for one, adds in zip(concepts, told.adds, strict=True):
            yield *head, "concept", str(one.number), harmless_cell(one.title), repr(adds)
        if told.bias is not None and told.rest is not None:
            yield *head, "bias", "", "", repr(told.bias)
            yield *head, "not explained", "", "", repr(told.rest)
        yield *head, "score", "", "", repr(told.score)


def _six(value: float) -> float:
    return float(f"{float(value):.6g}") + 0.0
