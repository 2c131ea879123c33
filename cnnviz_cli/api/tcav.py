"""Concepts that are named, from Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.tcav_records import ConceptInImage, ConceptScore
from cnnviz_cli.models.input.preprocessing import Preprocessing

Folder = str | PathLike[str]

_READABLE = ("target", "contrast", "counterfactual", "multilabel", "task")
_RENAMED = {"concept": "concepts"}


@dataclass(frozen=True, eq=False, repr=False)
class Tcav(StudyResult):
    """How far a class depends on concepts."""

    @property
    def scores(self) -> Sequence[ConceptScore]:
        """By concept, then by layer: ``scores[0].share.value``; `share` and `mean` are None of a concept whose images
        cannot be told apart, which `refused` says."""
        assert self.findings.tcav is not None
        return self.findings.tcav.scores

    @cached_property
    def vectors(self) -> Mapping[str, NDArray[np.float32]]:
        """By concept and layer, ``"striped, stages.4"``, the direction in the space of the layer's channels."""
        return self.arrays("tcav.npz")

    @cached_property
    def images(self) -> Mapping[str, Sequence[ConceptInImage]]:
        """By an image's name, how its score moves along each concept."""
        found = {record.source: record.findings for record in self.records if record.status == "ok"}
        return {name: (one.tcav if one else None) or [] for name, one in found.items()}


def tcav(
    model: Networks,
    images: ImageLike | Sequence[ImageLike],
    concepts: Folder | Sequence[Folder],
    against: Folder,
    target: str | int,
    *,
    layer: str | Sequence[str] | None = None,
    rather_than: Folder | None = None,
    pool: Literal["mean", "none"] = "mean",
    cav: Literal["ridge", "logistic"] = "ridge",
    penalty: float = 0.1,
    cuts: int = 1000,
    preprocessing: Preprocessing | Any | None = None,
    labels: Sequence[str] | Literal["imagenet"] | None = None,
    device: str | None = None,
    precision: Literal["fp32", "bf16", "fp16"] = "fp32",
    seed: int = 0,
    **options: Any,
) -> Tcav:
    """Find out how far a class depends on concepts that are named by folders of images (TCAV, Kim et al. 2018). Nothing
    is kept on the disk, and nothing of the caller's is changed.

    Args:
        model: as of `explain`.
        images: the class's images: files, folders, images of Pillow's or arrays; one or several.
        concepts: a folder of images, or an archive, for each concept; 10 images at the least.
        against: images without any of them.
        target: the class, by index or name.
        layer: layers whose activations are looked at; by default the one whose maps have a sixteenth of the input's
            side.
        rather_than: what the concepts are told apart from in the place of `against`.
        pool: activations are averaged over positions, or each position counts by itself.
        cav: which regression finds a direction.
        penalty: how much long directions cost, as a share of the activations' variance.
        cuts: how often `against` is cut into halves, and how often all images are drawn again.
        preprocessing, labels, device, precision, seed: as of `explain`.
        options: further settings of the command by their flags' names with underscores (``score="probability"``).

    Raises:
        UsageError: a folder is not there or has too few images, an image is on both sides, a layer has no maps, or an
            argument does not fit.
        ModelError, DeviceError: as of `explain`. An image that cannot be read is left out with a warning.
    """
    named = (concepts,) if isinstance(concepts, str | PathLike) else tuple(concepts)
    if not named:
        raise UsageError("there are no concepts", where="concepts", fix="Pass a folder of images for each.")
    section = {
        "concept": tuple(map(Path, named)),
        "against": Path(against),
        "rather_than": None if rather_than is None else Path(rather_than),
        "layer": layer if layer is None or isinstance(layer, str) else ",".join(layer),
        "pool": pool,
        "cav": cav,
        "penalty": float(penalty),
        "cuts": cuts,
    }
    given = {**options, "target": (target,)}
    found = carry_out_study(
        "tcav", CONCEPTS, model, images, section, given, readable=_READABLE, preprocessing=preprocessing, labels=labels,
        device=device, precision=precision, seed=seed, renamed=_RENAMED,
    )  # fmt: skip
    return Tcav(**{item.name: getattr(found, item.name) for item in fields(found)})
