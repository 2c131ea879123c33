"""What each shard of a run has added up over its images, in a file beside its journal."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from cnnviz_cli.core.file_reading import MEBIBYTE, read_regular
from cnnviz_cli.core.fold import Fold
from cnnviz_cli.files.output.file_lock import is_locked
from cnnviz_cli.files.output.file_names import FOLD_STATE_PREFIX, KEPT_FOLD
from cnnviz_cli.files.output.foreign_files import refuse_foreign_results
from cnnviz_cli.files.output.journal import has_duplicate_keys, is_count, parse_json, to_compact_json
from cnnviz_cli.files.output.shards import Shard
from cnnviz_cli.files.output.sink import Sink, explain_write_errors

AnyFold = TypeVar("AnyFold", bound=Fold[Any, Any])

_MAX_BYTES = 64 * MEBIBYTE


def state_digest(fold: Fold[Any, Any]) -> str:
    """The digest of what a fold has added up."""
    return hashlib.sha256(to_compact_json(fold.to_state())).hexdigest()


class FoldStates(Generic[AnyFold]):
    """The states that the shards of one division have left.

    A state counts if it is about the same list and the same settings, in batches of the same size, and has the digest
    that it says it has. Any other is as good as none.
    """

    def __init__(
        self, sink: Sink, shard: Shard, kind: type[AnyFold], *, identity: Mapping[str, Any], digest: str, batch: int
    ) -> None:
        """Of this shard and its peers; `digest` is that of the inputs of every shard."""
        self.shard = shard
        self._sink, self._kind = sink, kind
        about = {"batch": batch, "fold": kind.name, "identity": dict(identity), "inputs": digest}
        self._run = hashlib.sha256(to_compact_json(about)).hexdigest()

    def write(self, fold: AnyFold) -> None:
        """Leave this shard's state. Raises OutputError if the disk refuses."""
        self._sink.write(self.shard.fold_state, self._encode(self.shard, fold.to_state()))

    def read(self, index: int) -> AnyFold | None:
        """What the shard of this number has left, if it counts."""
        shard = Shard(index, self.shard.count)
        try:
            data = read_regular(self._sink.root / shard.fold_state, _MAX_BYTES, follow=False)
            state = parse_json(data)["state"]
            # All else is known, so that only what this version would have written can be the same bytes.
            same = not has_duplicate_keys(data) and self._encode(shard, state) == data
            return self._kind.from_state(state) if same else None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def merge(self) -> AnyFold | None:
        """What the shards have found together; None if a state is missing."""
        found = [fold for index in range(self.shard.count) if (fold := self.read(index)) is not None]
        return self._kind.merge_all(found) if len(found) == self.shard.count else None

    def is_busy(self, index: int) -> bool:
        """Whether a process is working on the shard of this number and may still leave its state.

        One that has left a state since this shard wrote its own leaves no other: if that does not count, it is of
        another list or other settings, and each would wait for the other. Raises OutputError if that cannot be seen.
        """
        shard = Shard(index, self.shard.count)
        path = self._sink.root / shard.journal
        with explain_write_errors(path):
            return path.exists() and is_locked(path) and self._written_at(shard) < self._written_at(self.shard)

    def _written_at(self, shard: Shard) -> int:
        try:
            return os.lstat(self._sink.root / shard.fold_state).st_mtime_ns
        except FileNotFoundError:
            return -1

    def _encode(self, shard: Shard, state: Any) -> bytes:
        return _encode({"run": self._run, "shard": [shard.index, shard.count], "state": state})


class KeptFold(Generic[AnyFold]):
    """What was added up beside a run's inputs, or over all of them, kept for a later run that asks the same."""

    def __init__(self, sink: Sink, kind: type[AnyFold], about: Mapping[str, Any], name: str = KEPT_FOLD) -> None:
        """`about`: all that the fold depends on, its images with it, as plain JSON; `name`: of the file."""
        self._sink, self._kind, self._name = sink, kind, name
        self._about = hashlib.sha256(to_compact_json({"fold": kind.name, **about})).hexdigest()

    def write(self, fold: AnyFold) -> None:
        """Keep a fold. Raises OutputError if the disk refuses, or a file of others is in the way."""
        refuse_foreign_results(self._sink.root, (), states=(self._name,))
        self._sink.write(self._name, _encode({"about": self._about, "state": fold.to_state()}))

    def read(self) -> AnyFold | None:
        """The fold that was kept, if it is about the same."""
        try:
            data = read_regular(self._sink.root / self._name, _MAX_BYTES, follow=False)
            state = parse_json(data)["state"]
            same = not has_duplicate_keys(data) and _encode({"about": self._about, "state": state}) == data
            return self._kind.from_state(state) if same else None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None


class PartFold(Generic[AnyFold]):
    """What a shard has added up so far of its part of a list, and how far its index of that part went then."""

    def __init__(self, sink: Sink, name: str, kind: type[AnyFold], about: str, shard: Shard) -> None:
        """`name` of the store whose index it goes with, `about` that store's own digest."""
        self._sink, self._kind = sink, kind
        self._about = hashlib.sha256(to_compact_json({"fold": kind.name, "store": about})).hexdigest()
        self._file = f"run.{name}.{shard.label or 'whole'}.json"

    def forget(self) -> None:
        """Nothing is kept. Raises as `write` does."""
        refuse_foreign_results(self._sink.root, (), states=(self._file,))
        with explain_write_errors(self._sink.root / self._file):
            self._sink.place(self._file).unlink(missing_ok=True)

    def write(self, fold: AnyFold, upto: int) -> None:
        """Keep a fold of all that the first `upto` bytes of the index tell of. Raises OutputError if the disk refuses,
        or a file of others is in the way."""
        refuse_foreign_results(self._sink.root, (), states=(self._file,))
        self._sink.write(self._file, _encode({"about": self._about, "state": fold.to_state(), "upto": upto}))

    def read(self) -> tuple[AnyFold, int] | None:
        """The fold and how far it goes, if it is about the same."""
        try:
            data = read_regular(self._sink.root / self._file, _MAX_BYTES, follow=False)
            said = parse_json(data)
            state, upto = said["state"], said["upto"]
            same = not has_duplicate_keys(data) and is_count(upto)
            same = same and _encode({"about": self._about, "state": state, "upto": upto}) == data
            return (self._kind.from_state(state), upto) if same else None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None


def _encode(about: Mapping[str, Any]) -> bytes:
    sha256 = hashlib.sha256(to_compact_json(about)).hexdigest()
    return FOLD_STATE_PREFIX + to_compact_json({**about, "sha256": sha256})[1:] + b"\n"
