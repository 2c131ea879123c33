"""A run whose images are shared out among the processes of a cluster; `run.local_run` is its counterpart."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cnnviz_cli.cluster.connection import FolderToken, connect_ray
from cnnviz_cli.cluster.pool import ActorPool
from cnnviz_cli.cluster.worker import WorkerJob
from cnnviz_cli.config.settings import Settings
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.files.inputs.remote import is_url
from cnnviz_cli.files.inputs.search import Source
from cnnviz_cli.files.output.shards import SINGLE_SHARD, Shard
from cnnviz_cli.files.output.sink import Sink
from cnnviz_cli.run.lifecycle import Backend, Outcome, execute_on
from cnnviz_cli.run.stage_timer import StageTimer


def execute(
    command: str,
    settings: Settings,
    sources: Sequence[Source],
    reporter: Reporter,
    *,
    shard: Shard = SINGLE_SHARD,
    force: bool = False,
) -> Outcome:
    """What `run.execute` does, or for pictures `run.dream_run.execute_dreams`, with the images shared out among the
    processes of a cluster.

    The journal is written here, by one process, when an image's files are in place; so resuming, shards and
    interruptions work as on one machine. Batches are cut as on one machine, so with as many threads the figures are the
    same bytes.

    Raises:
        OutputError, ModelError, DeviceError, UsageError: see there; what was finished stays, with its journal.
    """

    @contextmanager
    def this_cluster(sink: Sink, timer: StageTimer) -> Iterator[Backend]:
        token = FolderToken(sink)
        example = next((source.path for source in sources if not is_url(source.folder)), None)
        job = WorkerJob(
            command=command,
            settings=settings.model_dump_json(exclude_unset=True),
            shard=shard,
            folder=str(Path.cwd()),
            token=(str(token.path), token.text),
            example=os.fspath(example) if example else "",
            images=bool(sources),
            force=force,
        )
        with connect_ray() as ray:
            pool = ActorPool(ray, job, token, settings, reporter, timer)
            try:
                token.write()
                yield pool
            finally:
                pool.shut_down()
                token.remove()

    return execute_on(this_cluster, command, settings, sources, reporter, shard=shard, force=force)
