"""A run that paints: subjects or images in, pictures, records and sheets out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from cnnviz_cli.config.dream_fields import dream_fields
from cnnviz_cli.config.settings import Settings
from cnnviz_cli.core.families import DREAM
from cnnviz_cli.core.records import ImageRecord
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.files.inputs.image_source import Source
from cnnviz_cli.files.output.manifest import NOTHING_CONCLUDED, Conclusion
from cnnviz_cli.files.output.resume import Input, Ledger
from cnnviz_cli.files.output.shards import SINGLE_SHARD, Shard
from cnnviz_cli.files.output.sink import Sink
from cnnviz_cli.run.against import Folder, asked_of
from cnnviz_cli.run.dream_files import DreamPresenter, numbered
from cnnviz_cli.run.dream_painter import DreamPainter, load_dreamer
from cnnviz_cli.run.dream_sheets import MAX_ON_SHEETS
from cnnviz_cli.run.earlier_records import remember_earlier
from cnnviz_cli.run.lifecycle import Backend, Outcome, RunSetup, execute_on
from cnnviz_cli.run.manifest_header import device_name
from cnnviz_cli.run.stage_timer import StageTimer
from cnnviz_cli.run.unit_sheets import unit_sheet


def execute_dreams(
    settings: Settings,
    sources: Sequence[Source],
    reporter: Reporter,
    *,
    shard: Shard = SINGLE_SHARD,
    force: bool = False,
    local_rank: int | None = None,
) -> Outcome:
    """Paint into `sources`, or from noise where there are none; what an earlier run has done is left as it is. Raises
    what `run.execute` does."""

    @contextmanager
    def this_machine(sink: Sink, timer: StageTimer) -> Iterator[Backend]:
        yield DreamBackend(
            settings, bool(sources), sink, reporter, timer, local_rank, alone=not shard.label, force=force
        )

    return execute_on(this_machine, DREAM.name, settings, sources, reporter, shard=shard, force=force)


@dataclass(eq=False)
class DreamBackend(Backend):
    """Paints one picture after the other, in this process."""

    settings: Settings
    images: bool
    sink: Sink
    reporter: Reporter
    timer: StageTimer
    local_rank: int | None = None
    alone: bool = True
    force: bool = False

    def start(self) -> RunSetup:
        self._painter = painter = DreamPainter(
            self.settings, self.images, self.sink, self.reporter, local_rank=self.local_rank, force=self.force
        )
        painter.timer = self.timer
        header, self._earlier = remember_earlier(painter.header, thumbnails=self.settings.report)
        return RunSetup(header, device_name(painter.dreamer.session.device), 1, subjects=painter.subjects)

    def records(self, slots: Sequence[tuple[Input, str]], ledger: Ledger) -> Iterator[ImageRecord]:
        if ledger.remaining:
            count = ledger.remaining * self._painter.per_record
            if count > 1:
                self.reporter.say(f"{count} dreams")
            self._painter.compare()
        if len(self._earlier):
            self.reporter.say(self._earlier.words)
        for at, (source, folder) in enumerate(slots):
            if ledger.is_due(at):
                yield self._painter.record(source, folder, self._earlier.take(source))

    def conclude(self, ledger: Ledger) -> Conclusion:
        """The sheets of all pictures from noise; a shard has not all of them."""
        if self.images or not self.alone:
            return NOTHING_CONCLUDED
        return Conclusion(self._painter.sheets(ledger.first_records(MAX_ON_SHEETS)))


@dataclass(frozen=True)
class DreamPlan:
    """What a run would paint: of what, by which passes, into which files (of the first record)."""

    subjects: list[str]
    plan_lines: list[str]
    steps: int
    outputs: list[str]


def describe_dreams(settings: Settings, sources: Sequence[Source], reporter: Reporter) -> DreamPlan:
    """Load the network, find out what would be painted, and write nothing; raises what the run itself would."""
    dreamer = load_dreamer(DREAM.name, settings, reporter, images=bool(sources))
    fields = dream_fields(settings)
    lines = [
        f"{escape_text(task.wish.subject.title)}, {task.method.name}: {task.ascent.label()}" for task in dreamer.tasks
    ]
    lines += [f"each picture is shown to {escape_text(judge.name, 60)}: 1 forward" for judge in dreamer.judges]
    names = [source.name for source in sources] or [
        numbered(wish.subject, number).name for wish in dreamer.wishes for number in range(1, fields.number + 1)
    ]
    presenter = DreamPresenter(dreamer, Sink(settings.output), reporter.warn)
    steps = sum(task.ascent.steps for task in dreamer.tasks)
    outputs = presenter.names(names[0], of_image=bool(sources))
    if fields.against is not None:
        folder = Folder.open(fields.against, settings)
        asked = asked_of(dreamer.asked, weakest=fields.minimize)
        far = "to its end" if asked.needs_scores else f"as far as {asked.layers[-1]}"
        count = len(folder.sources)
        lines.insert(0, f"{count} image{'s' * (count != 1)} of {folder.name}: a forward each, {far}")
        if asked.channels and not sources:
            outputs.append(unit_sheet(outputs[0].rpartition("/")[0], settings.format))
    return DreamPlan(names, lines, steps, outputs)
