"""What studies learn from the images of a folder, kept as it comes, by one process or by the shards of a run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from types import MappingProxyType
from typing import Any

from numpy.typing import NDArray

from cnnviz_cli.core.errors import MissingShardsError, UsageError
from cnnviz_cli.core.findings import Seen, UnseenImage
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.text import escape_text, list_some
from cnnviz_cli.files.inputs.image_source import Source, Stamp
from cnnviz_cli.files.output.feature_store import UNSEEN, FeatureStore, SeenImage
from cnnviz_cli.files.output.file_lock import is_locked
from cnnviz_cli.files.output.fold_states import AnyFold, PartFold
from cnnviz_cli.files.output.input_list import list_digest
from cnnviz_cli.files.output.previous_runs import find_previous_runs
from cnnviz_cli.files.output.resume import is_unchanged, read_stamp
from cnnviz_cli.files.output.shards import Shard
from cnnviz_cli.files.output.sink import Sink, explain_write_errors
from cnnviz_cli.run.feature_pass import FeaturePass, SeenBatch, Unseen

MAX_NAMED = 10
"""Unseen images that the manifest names; a warning names three."""

_POLL_SECONDS = 1.0
_START_SECONDS = 10.0
"""Seconds that a shard may be late where all are started together."""

_KEEP_SECONDS = 5.0
"""How often a sum over images is kept while they are shown."""

_RECENT = 2 * 10**9

_MISSING = (
    "nothing was drawn yet: {} not been shown to the network for the same list and settings, and every figure needs "
    "that; what this shard has shown is kept"
)

Take = Callable[[SeenBatch], Sequence[Mapping[str, NDArray[Any]]]]
"""Of a batch, for each image by table its rows, (n, columns), or (columns,) for one."""


class Looking:
    """Shows images to the network for a study, and keeps what it gives. A context manager.

    Attributes:
        seen: what was shown, in the order in which it was asked for.
        failures: by name, of the images that the run is about, why they could not be seen.
    """

    def __init__(
        self,
        sink: Sink,
        shard: Shard,
        reporter: Reporter,
        identity: Mapping[str, Any],
        images: Sequence[Source],
        *,
        again: bool = False,
    ) -> None:
        """`identity` of the run; `images` that it is about; `again`: whatever is kept."""
        self._sink, self._shard, self._reporter = sink, shard, reporter
        self._identity, self._images, self._again = dict(identity), images, again
        self._began = time.time_ns()
        self._stack = ExitStack()
        self.seen: list[Seen] = []
        self.failures: dict[str, SeenImage] = {}
        self._own: FeatureStore | None = None
        self._numbers: dict[str, int] = {}

    def gather(
        self,
        name: str,
        shown: FeaturePass,
        sources: Sequence[Source],
        columns: Mapping[str, int],
        take: Take,
        *,
        called: str = "",
    ) -> FeatureStore:
        """The rows of all images that could be seen. What earlier processes have kept of the same is not done again;
        a shard shows its own images, and waits for the others'.

        Args:
            name: of the store, in small letters; another for each list of images.
            columns: by table how many numbers a row has; an image may have any number of rows.
            take: of a batch the rows of each image.
            called: what the images are called together; of those that the run is about nothing.

        Raises:
            MissingShardsError: a shard has not shown its images, and no process is about to.
            MemoryShortError: one image is too large for the network.
            OutputError: the disk refuses.
        """
        names = [source.name for source in sources]
        about = self._about(shown, names)
        again = self._again
        store = FeatureStore(self._sink, name, about, columns, len(sources), self._shard, again=again, divided=again)
        self._stack.callback(store.close)
        mine = self._shard.positions(len(sources), shown.batch)
        due, _ = _due(store, mine, sources)
        count = sum(due)
        if count:
            self._announce(count, len(mine), called)
            for one in shown.over(sources, self._reporter, only=lambda at: bool(due[at])):
                self._keep(store, one, take)
            store.sync()
        self._await_peers(store, shown.batch)
        self._take_note(store, sources, names, called)
        return store

    def fold(
        self,
        name: str,
        kind: type[AnyFold],
        shown: FeaturePass,
        sources: Sequence[Source],
        add: Callable[[AnyFold, SeenBatch], None],
        *,
        about: Mapping[str, Any] = MappingProxyType({}),
        called: str = "",
    ) -> AnyFold:
        """What is added up over all images that could be seen, see `core.fold`: kept every few seconds, so that a pass
        goes on where it was; a shard adds its own images, waits for the others, and merges what they have found.

        Args:
            add: adds a batch.
            about: what else the sum depends on, as plain JSON.
            name, called: as of `gather`; raises as that does.
        """
        names = [source.name for source in sources]
        told = {**self._about(shown, names), "fold": kind.name, "asked": dict(about)}
        store = FeatureStore(self._sink, name, told, {}, len(sources), self._shard, divided=True)
        self._stack.callback(store.close)
        mine = self._shard.positions(len(sources), shown.batch)
        part = PartFold(self._sink, name, kind, store.digest_of_about, self._shard)
        fold, upto = (None if self._again else part.read()) or (kind(), 0)
        whole = store.rewind(upto)
        due, changed = _due(store, mine, sources)
        if not whole or changed:  # nothing can be taken away again of an image that has changed
            part.forget()
            store.rewind(0)
            fold, (due, _) = kind(), _due(store, mine, sources)
        count, kept_at, pause = sum(due), time.monotonic(), _KEEP_SECONDS
        if count:
            self._announce(count, len(mine), called)
        for one in shown.over(sources, self._reporter, only=lambda at: bool(due[at])) if count else ():
            if isinstance(one, SeenBatch):
                add(fold, one)
            self._keep(store, one, lambda seen: [{}] * len(seen.at))
            if time.monotonic() - kept_at > pause:
                begun = time.monotonic()
                part.write(fold, store.mark())
                kept_at = time.monotonic()
                pause = max(_KEEP_SECONDS, 20 * (kept_at - begun))
        part.write(fold, store.mark())
        folds = self._await_folds(store, name, kind, shown.batch) if self._shard.label else [fold]
        self._take_note(store, sources, names, called)
        return kind.merge_all(folds)

    def _await_folds(self, store: FeatureStore, name: str, kind: type[AnyFold], batch: int) -> list[AnyFold]:
        """What each shard has added up, once all of them have come to the end of their images."""
        self._await_peers(store, batch)
        found: list[AnyFold] = []
        for index in range(self._shard.count):
            peer = Shard(index, self._shard.count)
            until = time.monotonic() + _START_SECONDS
            while True:
                kept = PartFold(self._sink, name, kind, store.digest_of_about, peer).read()
                if kept is not None and kept[1] == store.size_of(peer):
                    found.append(kept[0])
                    break
                if store.size_of(peer) < 0:
                    break  # a shard without images
                if time.monotonic() > until:
                    raise MissingShardsError(
                        f"nothing was drawn yet: shard {index} of {peer.count} has not come to the end of its images; "
                        "what this one has shown is kept",
                        [index],
                        self._finished([index]),
                    )
                time.sleep(_POLL_SECONDS / 5)
        return found

    def _about(self, shown: FeaturePass, names: Sequence[str]) -> dict[str, Any]:
        """All that the answer of a pass depends on."""
        return {
            "identity": self._identity,
            "list": list_digest(names),
            "batch": shown.batch,
            "layers": list(shown.layers),
            "scores": shown.scores,
            "crops": repr(shown.crops),
        }

    def _announce(self, due: int, mine: int, called: str) -> None:
        images = f"image{'s' * (mine != 1)}{called and f' of {escape_text(called, 60)}'}"
        before = f" ({mine - due} of {mine} were before)" if due < mine else ""
        self._reporter.say(f"{due} {images}: shown to the network{before}")
        self._reporter.begin(due)

    def _keep(self, store: FeatureStore, one: SeenBatch | Unseen, take: Take) -> None:
        shown = [one.source] if isinstance(one, Unseen) else one.sources
        if isinstance(one, Unseen):
            store.fail(one.at, SeenImage(one.sha256 or "", stamp=self._stamp(one.source), why=one.why))
        else:
            for at, source, digest, view, size, values in zip(
                one.at, one.sources, one.digests, one.views, one.sizes, take(one), strict=True
            ):
                store.write(at, values, SeenImage(digest, size, view.box, self._stamp(source)))
        self._reporter.work([source.name for source in shown], len(shown), "images")
        self._reporter.tick(len(shown), len(shown))

    def _stamp(self, source: Source) -> Stamp | None:
        """Unless the image was changed so lately that it may have been while it was read."""
        found = read_stamp(source)
        return None if found is None or found[1] > self._began - _RECENT else found[0]

    def _await_peers(self, store: FeatureStore, batch: int) -> None:
        """Wait until all images are there, as long as processes are working on those that are missing."""
        if not self._shard.label:
            return
        opened, idle_since, awaited = time.time_ns(), time.monotonic(), -1
        while True:
            # Looked at before the stores are, since a shard writes before it gives up its lock.
            busy = any(self._is_busy(index, store, opened) for index in range(self._shard.count))
            store.refresh()
            missing = store.missing
            if not missing:
                return
            if busy:
                idle_since = time.monotonic()
            elif time.monotonic() - idle_since >= _START_SECONDS:
                count = self._shard.count
                peers = [Shard(index, count) for index in range(count)]
                lacking = [
                    peer.index for peer in peers if not all(map(store.is_done, peer.positions(store.count, batch)))
                ]
                which = f"shard{'s' * (len(lacking) > 1)} {list_some(list(map(str, lacking)), 10)} of {count}"
                images = f"{missing} image{'s' * (missing != 1)} of {which} {'has' if missing == 1 else 'have'}"
                raise MissingShardsError(_MISSING.format(images), lacking, self._finished(lacking))
            if awaited < 0:
                self._reporter.say(f"waiting for {missing} images of other shards, which every figure needs")
            awaited = missing
            time.sleep(_POLL_SECONDS)

    def _finished(self, lacking: Sequence[int]) -> list[int]:
        """Those whose journal is complete: they would show nothing."""
        runs = [run for run in find_previous_runs(self._sink.root) if run.shard.count == self._shard.count]
        return [run.shard.index for run in runs if run.shard.index in lacking and all(run.progress())]

    def _is_busy(self, index: int, store: FeatureStore, opened: int) -> bool:
        """Whether a shard may still show images: a process has its lock, and has not begun with other settings."""
        peer = Shard(index, self._shard.count)
        if index == self._shard.index or store.differs_since(peer, opened):
            return False
        path = self._sink.root / peer.journal
        with explain_write_errors(path):
            return path.exists() and is_locked(path)

    def _take_note(self, store: FeatureStore, sources: Sequence[Source], names: Sequence[str], called: str) -> None:
        failed: list[UnseenImage] = []
        count = store.states.count(UNSEEN)
        own = sources is self._images
        if own:
            self._own, self._numbers = store, {name: at for at, name in enumerate(names)}
        if count:
            for at, about in store.all_about():
                if about.why:
                    if own:
                        self.failures[names[at]] = about
                    if len(failed) < MAX_NAMED:
                        failed.append(UnseenImage(source=escape_text(names[at]), why=escape_text(about.why)))
            if not own:
                named = list_some([f"{one.source} ({one.why})" for one in failed], 3)
                self._reporter.warn(f"not among the images of {escape_text(called, 60)}: {named}")
        self.seen.append(
            Seen(
                name=escape_text(called),
                images=store.count - count,
                unseen=count,
                examples=failed or None,
                sha256=store.digest(names),
            )
        )

    def refuse_none(self) -> None:
        """Raise UsageError where not one of the images that the run is about could be seen, and says why."""
        if self._own is not None and not len(self._own.seen):
            named = [f"{escape_text(name, 60)} ({one.why})" for name, one in self.failures.items()]
            count = len(named)
            what = "the image" if count == 1 else f"none of the {count} images"
            raise UsageError(
                f"{what} {'cannot' if count == 1 else 'can'} be shown to the network: {list_some(named, 3)}"
            )

    def digest_of(self, source: Source) -> str | None:
        """Of the bytes that were shown of an image that the run is about; None where it was not seen."""
        at = self._numbers.get(source.name)
        if self._own is None or at is None or not self._own.is_done(at):
            return None
        if self._images[at] is not source:  # an image of another folder may have the same name
            return None
        return self._own.about(at).sha256

    def close(self) -> None:
        """Nothing more is shown."""
        self._stack.close()

    def __enter__(self) -> Looking:
        return self

    def __exit__(self, *_about: object) -> None:
        self.close()


def _due(store: FeatureStore, mine: Sequence[int], sources: Sequence[Source]) -> tuple[bytes, bool]:
    """For each image 1 where a process has to show it: it is one of `mine`, and is not kept, or has changed since; and
    whether one has.

    A failure is tried again, since a limit may be wider now.
    """
    own, changed = bytearray(len(sources)), False
    for at in mine:
        own[at] = 1
    for at, about in store.all_about():
        if own[at] and (about.why or not is_unchanged(sources[at], about.stamp, about.sha256)):
            store.drop(at)
            changed = changed or not about.why
    return bytes(one and not store.is_done(at) for at, one in enumerate(own)), changed
