"""Influence of training images from Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from cnnviz_cli.api.explain import Networks
from cnnviz_cli.api.images import ImageLike
from cnnviz_cli.api.study import StudyResult, carry_out_study
from cnnviz_cli.config.influence_fields import INFLUENCE
from cnnviz_cli.core.influence_records import InfluenceRecord, TrainingFindings
from cnnviz_cli.models.input.preprocessing import Preprocessing

_READABLE = ("multilabel", "truth", "target")


@dataclass(frozen=True, eq=False, repr=False)
class Influence(StudyResult):
    """The training images that helped a network with images, and those that harmed."""

    @cached_property
    def answers(self) -> Mapping[str, Sequence[InfluenceRecord]]:
        """By an image's name, for each class that it was asked for: ``answers["cat.png"][0].helpful[0].source``."""
        return {
            record.source: (record.findings.influence if record.findings else None) or []
            for record in self.records
            if record.status == "ok"
        }

    @property
    def training(self) -> TrainingFindings:
        """The training images together: how many there are, and in `suspects` those whose labels may be wrong."""
        assert self.findings.influence is not None
        return self.findings.influence


def influence(
    model: Networks,
    images: ImageLike | Sequence[ImageLike],
    train: str | PathLike[str],
    *,
    train_truth: str | PathLike[str] | None = None,
    target: str | int | Sequence[str | int] | None = None,
    truth: str | PathLike[str] | None = None,
    neighbours: int = 4,
    suspects: int = 24,
    preprocessing: Preprocessing | Any | None = None,
    labels: Sequence[str] | Literal["imagenet"] | None = None,
    device: str | None = None,
    precision: Literal["fp32", "bf16", "fp16"] = "fp32",
    seed: int = 0,
    **options: Any,
) -> Influence:
    """Find the training images that helped a network with images, and those that harmed, by the gradients of its last
    layer (TracIn, Pruthi et al. 2020). Nothing is kept on the disk, and nothing of the caller's is changed.

    Args:
        model: as of `explain`; its class scores have to be what one linear layer returns.
        images: files, folders, images of Pillow's or arrays to be explained; one or several.
        train: the images that the network was trained with: a folder with a folder for each class, or an archive.
        train_truth: a table (file,label) in the place of the folders' names.
        target: classes whose loss is asked about; by default of each image the true one where that is known, else the
            likeliest.
        truth: a table of the images' true classes, or ``folder``.
        neighbours: how many helpful and how many harmful training images are kept of each image.
        suspects: of how many training images it is said how much they move the last layer by themselves.
        preprocessing, labels, device, precision, seed: as of `explain`.
        options: further settings of the command by their flags' names with underscores (``multilabel=True``).

    Raises:
        UsageError: the network ends in no linear layer, there are no training images, no class of them is known or all
            have one, or an argument does not fit.
        ModelError, DeviceError: as of `explain`. An image that cannot be read is left out with a warning.
    """
    section = {
        "train": Path(train),
        "train_truth": None if train_truth is None else Path(train_truth),
        "neighbours": neighbours,
        "suspects": suspects,
    }
    given = dict(options)
    if target is not None:
        given["target"] = (target,) if isinstance(target, str | int) else tuple(target)
    if truth is not None:
        given["truth"] = str(truth)
    found = carry_out_study(
        INFLUENCE, INFLUENCE, model, images, section, given, readable=_READABLE, preprocessing=preprocessing,
        labels=labels, device=device, precision=precision, seed=seed,
    )  # fmt: skip
    return Influence(**{item.name: getattr(found, item.name) for item in fields(found)})
