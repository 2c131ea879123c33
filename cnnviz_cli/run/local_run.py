"""A run on this machine: one pipeline with workers beside it, or a replica of it on each core."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from cnnviz_cli.config.settings import Settings
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.engine.device import use_threads
from cnnviz_cli.files.inputs.search import Source
from cnnviz_cli.files.output.shards import SINGLE_SHARD, Shard
from cnnviz_cli.files.output.sink import Sink
from cnnviz_cli.run.explain import Explainer
from cnnviz_cli.run.judging import prepare_judged
from cnnviz_cli.run.lifecycle import Backend, Outcome, execute_on
from cnnviz_cli.run.pipeline import LocalBackend
from cnnviz_cli.run.replica_plan import check_threads, plan_replicas, running_threads
from cnnviz_cli.run.replicas import ReplicaPool
from cnnviz_cli.run.stage_timer import StageTimer
from cnnviz_cli.run.workers import WorkerPool, worker_count


def execute(
    command: str,
    settings: Settings,
    sources: Sequence[Source],
    reporter: Reporter,
    *,
    shard: Shard = SINGLE_SHARD,
    force: bool = False,
    local_rank: int | None = None,
) -> Outcome:
    """Explain `sources` and write everything below the output folder; what an earlier run has done is left as it is.

    An image that cannot be read is a ``failed`` record. After Ctrl-C or SIGTERM the manifest holds what was finished.

    Args:
        sources: those of all shards.
        force: do everything again, whatever an earlier run has done.
        local_rank: the number of this process on this machine, if it is one of several: its GPU.

    Raises:
        OutputError, ModelError, DeviceError, UsageError: see there; what was finished stays, with its journal.
    """

    plan = plan_replicas(settings, sources, local_rank)

    def load(threads: int | None = None) -> Explainer:
        return prepare_judged(command, settings, reporter, local_rank, threads)

    @contextmanager
    def replicas(sink: Sink, timer: StageTimer) -> Iterator[Backend]:
        assert plan is not None
        threads, earlier = torch.get_num_threads(), running_threads()
        with timer.measure("load"):
            # With one thread: a fork of a process whose OpenMP has started some could start none of its own.
            explainer = load(1)
        if why := check_threads(plan, earlier):
            reporter.say(why)
            torch.set_num_threads(threads)
            use_threads(settings.threads)
            with one_pipeline(sink, timer, explainer) as backend:
                yield backend
            return
        with ReplicaPool(lambda: explainer, plan, shard, settings, sink, reporter, timer) as pool:
            yield pool

    @contextmanager
    def one_pipeline(sink: Sink, timer: StageTimer, loaded: Explainer | None = None) -> Iterator[Backend]:
        # Processes that read and draw start up while the model is loaded.
        workers = WorkerPool(worker_count(settings.workers, len(sources)))
        try:
            with workers:
                yield LocalBackend(
                    lambda: loaded or load(plan.threads if plan else None), workers, shard, sink, reporter, timer
                )
        finally:
            for _, folder in workers.interrupted:
                sink.sweep(folder)

    open_backend = replicas if plan and plan.count > 1 else one_pipeline
    return execute_on(open_backend, command, settings, sources, reporter, shard=shard, force=force)
