"""Concepts of images from Python."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cnnviz_cli.api.explain import Networks
from cnnviz_cli.api.images import ImageLike
from cnnviz_cli.api.study import StudyResult, carry_out_study
from cnnviz_cli.config.concepts_fields import CONCEPTS
from cnnviz_cli.core.concept_records import Concept, ConceptsFound, ConceptsOfImage
from cnnviz_cli.files.tables.concept_file import CONCEPT_FILE
from cnnviz_cli.models.input.preprocessing import Preprocessing

_READABLE = ("multilabel", "target", "task", "head", "returns")


@dataclass(frozen=True, eq=False, repr=False)
class Concepts(StudyResult):
    """What recurs in images, where it is, and what it adds to the score of a class."""

    @property
    def found(self) -> ConceptsFound:
        """Of all images: the layer, errors, and what each concept adds to each class."""
        assert self.findings.concepts is not None
        return self.findings.concepts

    def __iter__(self) -> Iterator[Concept]:
        return iter(self.found.concepts)

    def __len__(self) -> int:
        return len(self.found.concepts)

    def __getitem__(self, number: int) -> Concept:
        """A concept by its number, counted from 1."""
        if not 1 <= number <= len(self):
            raise KeyError(number)
        return self.found.concepts[number - 1]

    @cached_property
    def basis(self) -> NDArray[np.float32]:
        """(k, C) a direction of the layer's channels for each concept, in the order of their numbers."""
        return self.arrays(CONCEPT_FILE)["basis"]

    @cached_property
    def answers(self) -> Mapping[str, ConceptsOfImage]:
        """By an image's name what the concepts add to its score: ``answers["cat.png"].adds``."""
        return {
            record.source: record.findings.concepts
            for record in self.records
            if record.findings is not None and record.findings.concepts is not None
        }


def concepts(
    model: Networks,
    images: ImageLike | Sequence[ImageLike],
    *,
    concepts: int | Literal["auto"] = 10,
    layer: str | None = None,
    crops: float | Literal["none"] | None = None,
    dictionary: Literal["nmf", "sae"] | None = None,
    basis: str | PathLike[str] | None = None,
    concept_names: str | PathLike[str] | None = None,
    target: str | int | None = None,
    preprocessing: Preprocessing | Any | None = None,
    labels: Sequence[str] | Literal["imagenet"] | None = None,
    device: str | None = None,
    precision: Literal["fp32", "bf16", "fp16"] = "fp32",
    seed: int = 0,
    **options: Any,
) -> Concepts:
    """Find what recurs in images as a layer of a network has it, where it is, and what each of it adds to the score of
    a class (CRAFT, Fel et al. 2023). Nothing is kept on the disk, and nothing of the caller's is changed.

    Args:
        model: as of `explain`, a classifier.
        images: files, folders, images of Pillow's or arrays; one or several.
        concepts: how many, or ``auto`` for the knee of the error.
        layer: whose maps are factorised; by default the last convolution's.
        crops: the share of the input's shorter side that crops have, 0.42 by default; ``none`` factorises positions.
        dictionary: ``nmf``, or ``sae`` for a top-k sparse autoencoder.
        basis: the concepts.npz of an earlier run, whose concepts are looked for.
        concept_names: a file with a name for each concept, a line each.
        target: the class that is explained in every image; by default each one's likeliest.
        preprocessing, labels, device, precision, seed: as of `explain`.
        options: further settings of the command by their flags' names with underscores (``multilabel=True``).

    Raises:
        UsageError: the layer has values below zero, there are fewer crops than concepts, a basis is of another network,
            or an argument does not fit.
        ModelError, DeviceError: as of `explain`. An image that cannot be read is left out with a warning.
    """
    section: dict[str, Any] = {
        "concepts": None if basis is not None and concepts == 10 else concepts,
        "layer": layer,
        "crops": crops,
        "dictionary": dictionary,
        "basis": None if basis is None else Path(basis),
        "concept_names": None if concept_names is None else Path(concept_names),
    }
    given = dict(options)
    if target is not None:
        given["target"] = (target,)
    found = carry_out_study(
        CONCEPTS, CONCEPTS, model, images, section, given, readable=_READABLE, preprocessing=preprocessing,
        labels=labels, device=device, precision=precision, seed=seed,
    )  # fmt: skip
    return Concepts(**{item.name: getattr(found, item.name) for item in fields(found)})
