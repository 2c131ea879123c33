"""How a run reports its progress, independent of where it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cnnviz_cli.core.records import ImageRecord


class Reporter:
    """What a run says on stderr or nowhere; this one says nothing, and others override what they pass on."""

    def say(self, text: str) -> None:
        """One plain line of progress, for instance before a slow import."""

    def warn(self, text: str) -> None:
        """One line the user should act on; shown under ``-q`` too."""

    def begin(self, images: int, of: str = "images") -> None:
        """The images start, or what else records are `of`."""

    def done(self, record: ImageRecord) -> None:
        """One image is finished, its files in place."""

    def work(self, names: Sequence[str], variants: int, unit: str = "variants") -> None:
        """The network starts on these images together, with so many altered inputs in all, or steps by that
        `unit`; no names where the steps are those of all images together."""

    def tick(self, done: int, total: int) -> None:
        """Inside one long image: so many of the altered inputs of one kind have passed the network."""

    def transfer(self, name: str, received: int, total: int | None) -> None:
        """A download's progress in bytes; `received` is a running sum, `total` None where unknown."""

    def end(self) -> None:
        """No more images follow, whether the run succeeded or not."""
