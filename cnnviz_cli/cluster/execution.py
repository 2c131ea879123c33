"""One run on a cluster, from sources to manifest; `run.execution` is its counterpart for one machine."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from cnnviz_cli.cluster.connection import FolderToken, connect_ray
from cnnviz_cli.cluster.pool import ActorPool
from cnnviz_cli.cluster.worker import Job
from cnnviz_cli.config.settings import Settings
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.figure_settings import BY_RUN
from cnnviz_cli.core.process import save_on_interrupt
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.files.inputs.search import Source
from cnnviz_cli.files.inputs.urls import is_url
from cnnviz_cli.files.output.resume import Ledger
from cnnviz_cli.files.output.shards import SINGLE_SHARD, Shard
from cnnviz_cli.files.output.sink import Sink
from cnnviz_cli.run.ground_truth import GroundTruth
from cnnviz_cli.run.identity import request_digest, run_seal
from cnnviz_cli.run.lifecycle import (
    Outcome,
    StageTimer,
    assign_folders,
    collect_records,
    conclude_run,
    report_earlier_run,
    report_shard,
)


def execute(
    command: str,
    settings: Settings,
    sources: Sequence[Source],
    reporter: Reporter,
    *,
    shard: Shard = SINGLE_SHARD,
    force: bool = False,
) -> Outcome:
    """What `run.execute` does, with the pictures shared out among the processes of a cluster.

    The journal is written here, by one process, when a picture's files are in place; so going on, dividing and
    interrupting are as ever. Batches are cut as on one machine, so the pictures are the same bytes.

    Raises:
        OutputError, ModelError, DeviceError, UsageError: see there; what was finished stays, with its journal.
    """
    started, clock = datetime.now(UTC), StageTimer()
    seal = run_seal(command, settings)
    if settings.scale == BY_RUN:
        raise UsageError(
            "a scale for the whole run is not known to the processes of a cluster",
            where="--scale",
            fix="Give a range: --scale fixed:LO,HI",
        )
    sink = Sink(settings.output, shard.label)
    sink.open()
    with Ledger(sink, shard, force=force) as ledger, save_on_interrupt(ledger.checkpoint):
        with _running_pool(command, settings, sources, shard, sink, reporter, clock) as pool:
            with clock.measure("load"):
                pool.start()
            if settings.truth is not None:
                labels = pool.ready.labels
                GroundTruth(settings.truth, labels.names, labels.also).check(sources, reporter)
            places = assign_folders(sources)
            batch = pool.ready.batch_size
            mine = [places[at] for at in shard.positions(len(places), batch)]
            report_shard(shard, len(mine), len(places), batch, reporter)
            header = replace(pool.ready.header, asked=request_digest(command, settings), seal=seal)
            found = ledger.begin(header, [source.name for source in sources], mine, whole=False)
            report_earlier_run(found, len(mine), settings.output, reporter, batch)
            stopped = collect_records(pool.records(mine, ledger), ledger, reporter)
        return conclude_run(
            ledger,
            sink,
            shard,
            stopped,
            started=started,
            done_before=found.done,
            timer=clock,
            device=pool.device,
            batch=batch,
        )


@contextmanager
def _running_pool(
    command: str,
    settings: Settings,
    sources: Sequence[Source],
    shard: Shard,
    sink: Sink,
    reporter: Reporter,
    clock: StageTimer,
) -> Iterator[ActorPool]:
    """The processes, which are gone afterwards, however the block ends."""
    token = FolderToken(sink)
    example = next((source.path for source in sources if not is_url(source.folder)), None)
    job = Job(
        command=command,
        settings=settings.model_dump_json(exclude_unset=True),
        shard=shard,
        folder=str(Path.cwd()),
        token=(str(token.path), token.text),
        example=os.fspath(example) if example else "",
    )
    with connect_ray() as ray:
        pool = ActorPool(ray, job, token, settings.device, reporter, clock)
        try:
            token.write()
            yield pool
        finally:
            pool.shut_down()
            token.remove()
