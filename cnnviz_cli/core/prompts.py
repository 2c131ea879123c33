"""Classes that are described by sentences, for networks that know both images and text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from cnnviz_cli.core.value import value

if TYPE_CHECKING:
    from torch import Tensor


@value
class Prompts:
    """Classes, and the sentences that describe each.

    Attributes:
        names: of the classes, all different, in the order of the file.
        sentences: of each class at least one; an image is compared with the mean of their embeddings.
        sha256: of the file.
    """

    names: tuple[str, ...]
    sentences: tuple[tuple[str, ...], ...]
    sha256: str


class TextEncoder(Protocol):
    """The half of an image-text network that reads sentences."""

    def __call__(self, sentences: Sequence[str], /) -> Tensor:
        """(n, D) float32, on the CPU, the sentences' embeddings, not normalised. Raises UsageError for a sentence that
        is too long, ModelError where the tokenizer's files cannot be had."""
