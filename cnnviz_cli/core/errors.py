"""Everything that can go wrong on purpose, and the exit code it ends in."""

from collections.abc import Collection, Sequence
from enum import IntEnum


class ExitCode(IntEnum):
    """What the process returns; documented in the README and stable."""

    OK = 0
    BUG = 1
    USAGE = 2
    PARTIAL = 3
    MODEL = 4
    OUTPUT = 5
    DEVICE = 6
    NO_INPUTS = 7
    INTERRUPTED = 130
    TERMINATED = 143


class CnnvizError(Exception):
    """A failure the user can mend: what happened in one sentence, where, and what to do about it.

    Args:
        where: the place, for instance ``cnnviz.yaml:3:8`` or ``--layer``.
        fix: a command or a choice that mends it, in one or more lines.
        excerpt: the offending line with a marker below it.
    """

    code = ExitCode.BUG

    def __init__(self, what: str, *, where: str = "", fix: str = "", excerpt: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.fix = fix
        self.excerpt = excerpt


class UsageError(CnnvizError):
    """A flag, a key, a name or a value that does not exist or does not fit. Nothing was done."""

    code = ExitCode.USAGE


class EvidenceError(UsageError):
    """The network does not give what a method needs; a method that needs something else may do. `at`: the layer or
    `INPUT` at which a gradient was asked for and none arrives, if that is the reason."""

    def __init__(self, what: str, *, where: str = "", fix: str = "", excerpt: str = "", at: str | None = None) -> None:
        super().__init__(what, where=where, fix=fix, excerpt=excerpt)
        self.at = at


class ModelError(CnnvizError):
    """The model or its weights are unavailable or were rejected."""

    code = ExitCode.MODEL


class OutputError(CnnvizError):
    """The output folder cannot be written: permissions, a full disk."""

    code = ExitCode.OUTPUT


class DeviceError(CnnvizError):
    """The device is absent, or its memory does not suffice."""

    code = ExitCode.DEVICE


class MemoryShortError(DeviceError):
    """The device's memory did not suffice for one batch; a smaller one may pass."""


class NoInputsError(CnnvizError):
    """No images matched."""

    code = ExitCode.NO_INPUTS


class ImageError(CnnvizError):
    """One image cannot be read: a ``failed`` record, and the run goes on. `what` goes into the manifest, so it names no
    path; `sha256` is of the file's bytes."""

    code = ExitCode.PARTIAL

    def __init__(
        self, what: str, *, where: str = "", fix: str = "", excerpt: str = "", sha256: str | None = None
    ) -> None:
        super().__init__(what, where=where, fix=fix, excerpt=excerpt)
        self.sha256 = sha256


class MissingShardsError(Exception):
    """What other shards find is needed to go on, and no process is working on some of them; the text says which.

    Args:
        missing: their numbers.
        again: of those, the ones that would find nothing to do unless they are told to do it again.
    """

    def __init__(self, text: str, missing: Sequence[int], again: Collection[int] = ()) -> None:
        super().__init__(text)
        self.missing, self.again = tuple(missing), frozenset(again)


class Terminated(BaseException):
    """SIGTERM arrived. Like KeyboardInterrupt no Exception, so that nothing but the run itself catches it."""


def system_reason(error: BaseException) -> str:
    """What the system says of a failure ("Permission denied"); of what it says nothing of, the kind of error."""
    return (isinstance(error, OSError) and error.strerror) or type(error).__name__
