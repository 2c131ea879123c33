"""How a run ends, on one machine or on many: its manifest, its report, and what is told of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cnnviz_cli.core.accuracy import Mistake
from cnnviz_cli.core.errors import Terminated
from cnnviz_cli.core.records import ImageRecord, Summary
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.files.resume import Ledger, Status
from cnnviz_cli.files.runreport import RunReport, write_run_report
from cnnviz_cli.files.shards import Shard
from cnnviz_cli.files.sink import Sink
from cnnviz_cli.run.clock import Clock

SHOWN = 20
"""How many records an outcome keeps for the closing summary; a run may have millions."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        status: interrupted after Ctrl-C or SIGTERM; partial if some image failed.
        first: the records of the first images, at most `SHOWN`.
        done_before: how many of the images an earlier run had done.
        terminated: whether it was SIGTERM.
        mistakes: the first images of which the network says something else than is true.
    """

    status: Status
    summary: Summary
    manifest: Path
    first: list[ImageRecord]
    done_before: int
    seconds: float
    terminated: bool
    mistakes: Sequence[Mistake] = ()


def kept(
    records: Iterable[ImageRecord],
    ledger: Ledger,
    reporter: Reporter,
    late: Callable[[], Iterable[ImageRecord]] = tuple,
) -> BaseException | None:
    """Take the records into the ledger as they come; returns the signal that ended them early.

    Args:
        late: gives what was finished meanwhile, when a signal has arrived.
    """
    reporter.begin(ledger.remaining)
    try:
        _take(records, ledger, reporter)
    except (KeyboardInterrupt, Terminated) as signal:
        _take(late(), ledger, reporter)
        return signal
    finally:
        reporter.end()
    return None


def _take(records: Iterable[ImageRecord], ledger: Ledger, reporter: Reporter) -> None:
    for record in records:
        ledger.append(record)
        reporter.done(record)


def concluded(
    ledger: Ledger,
    sink: Sink,
    shard: Shard,
    stopped: BaseException | None,
    *,
    started: datetime,
    done_before: int,
    clock: Clock,
    device: str,
    batch: int,
    smallest_batch: int | None = None,
    memory_beside: int = 0,
) -> Outcome:
    """Write the manifest and the report, and say how it went.

    Args:
        stopped: the signal that ended the run early, if one did.
    """
    ended = ledger.finish(interrupted=stopped is not None)
    first = ledger.first(SHOWN)
    finished = datetime.now(UTC)
    report = RunReport(
        started=started,
        finished=finished,
        images=ended.summary.images,
        resumed=done_before,
        seconds=clock.seconds,
        core_seconds=clock.core_seconds,
        device=device,
        batch=batch,
        smallest_batch=smallest_batch,
        memory_beside=memory_beside,
    )
    write_run_report(sink, report, shard.report)
    return Outcome(
        status=ended.status,
        summary=ended.summary,
        manifest=sink.root / shard.manifest,
        first=first,
        done_before=done_before,
        seconds=(finished - started).total_seconds(),
        terminated=isinstance(stopped, Terminated),
        mistakes=ended.mistakes,
    )
