"""Evidence added up over all images, by one process or by several."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar, Generic, Self, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Fold(ABC, Generic[Item, Result]):
    """One pass over all images that adds something up, such as the widest range of values or the basis of a concept.

    A new instance has seen nothing. A process calls `add` for each of its images. If the images are divided among
    processes, `merge` takes in what each of them has found, and `finish` gives the result for all images.

    `merge` has to be associative and commutative to the last bit: processes finish in any order, and their figures have
    to be the same bytes. Minima, maxima, counts and sums of whole numbers are; sums of floats are not.
    """

    name: ClassVar[str]
    """What it adds up, in one word."""

    @abstractmethod
    def add(self, item: Item) -> None:
        """Add the evidence of one image."""

    @abstractmethod
    def merge(self, other: Self) -> None:
        """Add another process's fold, which is left unchanged."""

    @classmethod
    def merge_all(cls, folds: Iterable[Self]) -> Self:
        """The folds of several processes, merged."""
        whole = cls()
        for fold in folds:
            whole.merge(fold)
        return whole

    @abstractmethod
    def finish(self) -> Result:
        """The result."""

    @abstractmethod
    def to_state(self) -> Any:
        """Everything that was added up, as plain JSON; the same state for the same images in whatever order."""

    @classmethod
    @abstractmethod
    def from_state(cls, state: Any) -> Self:
        """The fold from a `to_state` result of untrusted origin. Raises ValueError if it is malformed."""
