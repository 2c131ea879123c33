"""What each shard of a run has added up over its images, in a file beside its journal."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from cnnviz_cli.core.file_reading import MEBIBYTE, read_regular
from cnnviz_cli.core.fold import Fold
from cnnviz_cli.files.output.file_lock import is_locked
from cnnviz_cli.files.output.file_names import FOLD_STATE_PREFIX
from cnnviz_cli.files.output.journal import has_duplicate_keys, parse_json, to_compact_json
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
        self,
        sink: Sink,
        shard: Shard,
        kind: type[AnyFold],
        *,
        identity: Mapping[str, Any],
        digest: str,
        batch: int,
    ) -> None:
        """Of this shard and its peers.

        Args:
            kind: of the fold.
            identity: everything that changes figures.
            digest: of the inputs of every shard.
            batch: how many images pass the network together.
        """
        self.shard = shard
        self._sink, self._kind = sink, kind
        about = {"batch": batch, "fold": kind.name, "identity": dict(identity), "inputs": digest}
        self._run = hashlib.sha256(to_compact_json(about)).hexdigest()

    def write(self, fold: AnyFold) -> None:
        """Leave this shard's state.

        Raises:
            OutputError: the disk refuses.
        """
        self._sink.write(self.shard.fold_state, self._encode(self.shard, fold.to_state()))

    def read(self) -> dict[int, AnyFold]:
        """The states that count, by the shards' numbers."""
        found = ((index, self._read(Shard(index, self.shard.count))) for index in range(self.shard.count))
        return {index: fold for index, fold in found if fold is not None}

    def merged(self) -> AnyFold | None:
        """What the shards have found together; None if a state is missing."""
        found = self.read()
        return self._kind.merge_all(found.values()) if len(found) == self.shard.count else None

    def busy_peers(self) -> set[int]:
        """The numbers of the other shards that a process is working on.

        Raises:
            OutputError: their journals cannot be looked at.
        """
        peers = (Shard(index, self.shard.count) for index in range(self.shard.count) if index != self.shard.index)
        return {peer.index for peer in peers if self._is_busy(peer)}

    def _is_busy(self, peer: Shard) -> bool:
        path = self._sink.root / peer.journal
        with explain_write_errors(path):
            return path.exists() and is_locked(path)

    def _encode(self, shard: Shard, state: Any) -> bytes:
        about = {"run": self._run, "shard": [shard.index, shard.count], "state": state}
        sha256 = hashlib.sha256(to_compact_json(about)).hexdigest()
        return FOLD_STATE_PREFIX + to_compact_json({**about, "sha256": sha256})[1:] + b"\n"

    def _read(self, shard: Shard) -> AnyFold | None:
        path = self._sink.root / shard.fold_state
        try:
            data = read_regular(path, _MAX_BYTES, follow=False)
            state = parse_json(data)["state"]
            # All else is known, so that only what this version would have written can be the same bytes.
            same = not has_duplicate_keys(data) and self._encode(shard, state) == data
            return self._kind.from_state(state) if same else None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
