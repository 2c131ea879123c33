"""The command that this process runs: its words, and whether it ends to wait for other shards.

This imports nothing, since every start has it.
"""

from collections.abc import Sequence

_words: list[str] = []
_state = {"waits": False}


def remember_command(arguments: Sequence[str]) -> None:
    """The words after the program's name, for advice on how to go on."""
    _words[:] = arguments
    _state["waits"] = False


def remembered_words() -> list[str]:
    """The words after the program's name."""
    return list(_words)


def wait_for_shards() -> None:
    """Say that the command ends because other shards have to be run first, and not by a signal."""
    _state["waits"] = True


def waits_for_shards() -> bool:
    """Whether it does."""
    return _state["waits"]
