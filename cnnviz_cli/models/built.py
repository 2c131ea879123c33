"""What every kind of ``--model`` comes down to before anything is asked of it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.text import visible
from cnnviz_cli.models.checkpoint import Checkpoint
from cnnviz_cli.models.fitting import Fitted
from cnnviz_cli.models.preprocessing import Preprocessing


@dataclass(frozen=True, slots=True)
class Built:
    """A network with its weights.

    Attributes:
        net: on the CPU.
        weights: what ``--weights`` would reproduce it; of a file only the name, since its place says nothing.
        weights_sha256: of the weights' file; of weights without one over the tensors.
        labels: one for each class score; None where nobody said, and a number stands for each.
        preset: what the weights were trained with, as far as that is known.
    """

    net: nn.Module
    weights: str
    weights_sha256: str
    labels: tuple[str, ...] | None
    preset: Preprocessing


def usual() -> Preprocessing:
    """What most networks were trained with, and torchvision's classifiers by default."""
    return Preprocessing(256, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def tell(name: str, checkpoint: Checkpoint, fitted: Fitted, reporter: Reporter) -> None:
    """Say what was chosen in a file of weights that somebody might have chosen otherwise."""
    shown = visible(name, 100)
    if checkpoint.others:
        others = ", ".join(f"'{visible(nest, 60)}'" for nest in checkpoint.others[:3])
        reporter.say(f"{shown}: '{visible(checkpoint.nest, 60)}' is taken, not {others} (--weights-key chooses)")
    if fitted.left_out:
        first = visible(fitted.left_out[0], 80)
        reporter.say(
            f"{shown}: {len(fitted.left_out)} tensors outside of '{visible(fitted.prefix, 60)}' are left out, "
            f"first '{first}'"
        )
    if fitted.head:
        reporter.say(
            f"{shown}: '{visible(fitted.head, 60)}' is taken for the layer that gives the scores, by its shape"
        )
    if fitted.classes is not None:
        count = "1 class" if fitted.classes == 1 else f"{fitted.classes} classes"
        reporter.say(f"{shown}: of {count}, by the shape of its last layer")
