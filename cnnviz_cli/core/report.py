"""How a run tells what it is doing, without knowing who listens."""

from typing import Protocol

from cnnviz_cli.core.records import ImageRecord


class Reporter(Protocol):
    """Everything a run says while it works. All of it goes to stderr or nowhere; results are returned."""

    def say(self, text: str) -> None:
        """One plain line of progress, for instance before a slow import."""
        ...

    def warn(self, text: str) -> None:
        """One line the user should act on; shown under ``-q`` too."""
        ...

    def begin(self, images: int) -> None:
        """The images start."""
        ...

    def done(self, record: ImageRecord) -> None:
        """One image is finished, its files in place."""
        ...

    def tick(self, done: int, total: int) -> None:
        """Inside one long image: so many of its altered inputs have passed the network."""
        ...

    def transfer(self, name: str, received: int, total: int | None) -> None:
        """A download's progress in bytes; `received` is a running sum, `total` None where unknown."""
        ...

    def end(self) -> None:
        """The images are over, one way or another."""
        ...
