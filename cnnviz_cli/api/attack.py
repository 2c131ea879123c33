"""Attacks from Python: how little flips a network's label, and what it looks at before and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal, cast
from warnings import warn

import numpy as np

from cnnviz_cli.api.arguments import INPUT, NETWORK, OUTPUT, PIXELS, RENDERING, rephrase_for_python
from cnnviz_cli.api.explain import (
    Networks,
    Pictures,
    WarningCollector,
    explain_images,
    open_session,
    with_input_size,
)
from cnnviz_cli.api.images import as_image_list
from cnnviz_cli.api.network import network_device
from cnnviz_cli.api.results import Array, Explanation
from cnnviz_cli.config.attack_fields import check_attack
from cnnviz_cli.config.load import load_settings
from cnnviz_cli.config.settings import Settings
from cnnviz_cli.core.errors import CnnvizError, UsageError
from cnnviz_cli.core.families import ATTACK, SELECTOR
from cnnviz_cli.core.method import methods
from cnnviz_cli.core.panels import Attacked
from cnnviz_cli.core.text import did_you_mean, escape_text
from cnnviz_cli.models.input.preprocessing import Preprocessing
from cnnviz_cli.run.explain import Explainer

SETTINGS = (*NETWORK, *INPUT, *PIXELS, *OUTPUT, *(set(RENDERING) - {"scale"}), "multilabel", "max_memory", "fold")
"""What `explain` takes beside the methods' options and means something here."""


@dataclass(frozen=True, eq=False, repr=False)
class Attack(Explanation):
    """One attack on one image. In a notebook it shows itself.

    `statistics` has its numbers: ``linf``, ``l2``, ``changed``, ``in_8_bits``, ``map_similarity`` and others, which
    docs/attack.md describes.
    """

    source: str

    @property
    def flipped(self) -> bool:
        """Whether a change within the budget flips the label."""
        return self.statistics["flipped"] == 1

    @property
    def eps(self) -> float | None:
        """The smallest size of a change found that flips the label, in pixel values from 0 to 1; None if none was."""
        return self.statistics["eps"] if self.flipped else None

    @property
    def label(self) -> str:
        """What the network takes the image for."""
        return self._name(0)

    @property
    def label_after(self) -> str:
        """What it takes the attacked image for."""
        return self._name(1)

    @property
    def attacked(self) -> Array:
        """(C, H, W) float32, read-only: what the network was given in the end, normalised."""
        return self.arrays["attacked"]

    @property
    def change(self) -> Array:
        """(C, H, W) float32, read-only: what was added, in pixel values from 0 to 1."""
        return self.arrays["change"]

    @cached_property
    def maps(self) -> tuple[Array, Array]:
        """The explanation before, for the class that was attacked, and after, for what the network then says."""
        before, after = np.array(self._panel.before.values), np.array(self._panel.after.values)
        return before, after

    @property
    def _panel(self) -> Attacked:
        return cast("Attacked", self._drawn.panel)

    def _name(self, place: int) -> str:
        return self._drawn.caption.classes[int(np.asarray(self._panel.classes)[place])]


def attack(
    model: Networks,
    images: Pictures,
    *,
    eps: float | str | None = None,
    to: str | int | None = None,
    norm: Literal["linf", "l2"] = "linf",
    method: str | Sequence[str] = ATTACK.default,
    target: str | int | Sequence[str | int] = "top1",
    explain_by: str = "auto",
    preprocessing: Preprocessing | Any | None = None,
    labels: Sequence[str] | Literal["imagenet"] | None = None,
    device: str | None = None,
    precision: Literal["fp32", "bf16", "fp16"] = "fp32",
    batch_size: int | Literal["auto"] = "auto",
    seed: int = 0,
    **options: Any,
) -> tuple[Attack, ...]:
    """Find the smallest change of each image that flips its label. Nothing is written, and nothing of the caller's is
    changed, as by `explain`.

    Args:
        model: as of `explain`; a classifier.
        images: as of `explain`.
        eps: the largest change allowed, in pixel values from 0 to 1, also as ``"4/255"``; by default 4/255, or 1 for
            l2.
        to: the class that the image is to be taken for, by index or name; by default any other.
        norm: how a change is measured: the largest change of any channel of any pixel, or the Euclidean length.
        method: names of ``cnnviz methods --family attack``.
        target: the class that is attacked; by default the likeliest.
        explain_by: the method that explains the image before and after; ``auto`` is gradcam where that applies, and
            gradient elsewhere.
        preprocessing, labels, device, precision, batch_size, seed: as of `explain`.
        options: ``steps`` and ``restarts`` of pgd, and those settings of `explain` that are about the network, its
            input and the figures.

    Returns:
        The attacks, by image, method and target.

    Raises:
        UsageError: the network is no classifier, there is no such class, or an argument does not fit.
        ModelError: the network or its weights cannot be had, or cannot be copied, or its scores are not finite.
        ImageError: an image cannot be read.
        DeviceError: the device is not there, or its memory does not suffice.
    """
    collector = WarningCollector()
    try:
        image_batch = as_image_list(images)
        given = {"eps": eps, "to": to, "norm": norm, "explain_by": explain_by, SELECTOR: _listed(method)}
        usual = "auto" if isinstance(model, str) else network_device(model)
        plain = {"device": device or usual, "precision": precision, "batch_size": batch_size, "seed": seed}
        plain |= {"target": _listed(target)} if target != "top1" else {}
        plain |= {"model": model} if isinstance(model, str) else {}
        settings = _settings(given, plain, with_input_size(options, image_batch))
        with open_session(ATTACK.name, model, settings, preprocessing, labels, collector) as session:
            explainer = Explainer.of(session, (ATTACK.name,), collector)
            found = tuple(
                Attack(**{item.name: getattr(one, item.name) for item in fields(Explanation)}, source=image.name)
                for image in explain_images(explainer, image_batch, collector)
                for one in image.explanations
            )
    except CnnvizError as error:
        rephrase_for_python(error, {})
        raise
    for text in collector.warnings:
        warn(text, stacklevel=2)
    return found


def _settings(given: dict[str, Any], plain: dict[str, Any], options: dict[str, Any]) -> Settings:
    flags: dict[tuple[str, ...], Any] = {(ATTACK.name, name): value for name, value in given.items()}
    flags |= {(name,): value for name, value in plain.items()}
    known = {item.name for one in methods(ATTACK.name) for item in fields(one.options)}
    for name, value in options.items():
        if name not in known and name not in SETTINGS:
            shown = escape_text(name, 60)
            fix = did_you_mean(name, [*known, *SETTINGS]) or "See: help(cnnviz_cli.attack)"
            raise UsageError(f"there is no option '{shown}'", where=shown, fix=fix)
        path = (ATTACK.name, name) if name in known else (name,)
        flags[path] = tuple(value) if isinstance(value, list) else value
    settings = load_settings(ATTACK.name, flags, None, {})
    check_attack(settings)
    return settings


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str | int) else tuple(value)
