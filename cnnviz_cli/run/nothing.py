"""A run that finds everything done: it says so without loading a network, or torch."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic import ValidationError

from cnnviz_cli.config.settings import Settings
from cnnviz_cli.core.records import ModelRecord, Run, Tool
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.scales import BY_RUN
from cnnviz_cli.files.earlier import Earlier, earlier_runs
from cnnviz_cli.files.resume import Header, Ledger
from cnnviz_cli.files.shards import ALONE, Shard
from cnnviz_cli.files.sink import Sink
from cnnviz_cli.files.sources import Source
from cnnviz_cli.run.asked import seal_of
from cnnviz_cli.run.beginning import places_of, tell
from cnnviz_cli.run.clock import Clock
from cnnviz_cli.run.ending import Outcome, concluded


def nothing_to_do(
    command: str, settings: Settings, sources: Sequence[Source], reporter: Reporter, *, shard: Shard = ALONE
) -> Outcome | None:
    """The end of a run whose images are all explained by an earlier one; None if something may be left to do.

    The earlier run's journal has what is written again: the manifest is the same, byte for byte.

    Raises:
        OutputError: another process works on the folder, or the disk refuses.
    """
    started, root = datetime.now(UTC), settings.output
    if not os.path.lexists(root / shard.journal):
        return None
    seal = seal_of(command, settings)
    own = next((run for run in earlier_runs(root) if run.shard == shard), None)
    if own is None or seal is None or own.header.get("seal") != seal:
        return None
    if settings.batch_size not in ("auto", own.batch):
        return None
    header = _header(own)
    if header is None:
        return None
    sink = Sink(root, shard.label)
    sink.open()
    with Ledger(sink, shard) as ledger:
        places = places_of(sources)
        mine = [places[at] for at in shard.positions(len(places), own.batch)]
        names = [source.name for source in sources]
        found = ledger.look(header, names, mine, whole=settings.scale == BY_RUN)
        if ledger.remaining or found.damaged:
            return None
        ledger.make_ready()
        tell(found, len(mine), root, reporter, own.batch)
        return concluded(
            ledger,
            sink,
            shard,
            None,
            started=started,
            done_before=found.done,
            clock=Clock(),
            device=header.run.device,
            batch=own.batch,
            smallest_batch=None,
        )


def _header(run: Earlier) -> Header | None:
    """What the journal says is being made; None if that is not what this version writes."""
    about = run.header
    try:
        return Header(
            identity=run.identity,
            tool=Tool.model_validate_json(json.dumps(about["tool"])),
            run=Run.model_validate_json(json.dumps(about["run"])),
            model=ModelRecord.model_validate_json(json.dumps(about["model"])),
            batch=run.batch,
            asked=run.asked,
            seal=str(about["seal"]),
        )
    except ValidationError:
        return None
