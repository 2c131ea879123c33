"""Studies: what is found out of all images of a folder together. Their base, and the run that carries one out."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from importlib import import_module
from typing import Any, ClassVar

from cnnviz_cli.config.settings import Settings
from cnnviz_cli.core.errors import ImageError, UsageError
from cnnviz_cli.core.families import STUDIES
from cnnviz_cli.core.network import NetworkError
from cnnviz_cli.core.records import Cost, ImageRecord, ModelRecord, Output, Prediction, Run, Subject
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.text import escape_text, list_some
from cnnviz_cli.files.inputs.image_source import Source
from cnnviz_cli.files.output.file_names import THUMBNAIL, file_name
from cnnviz_cli.files.output.foreign_files import refuse_foreign_results
from cnnviz_cli.files.output.manifest import NOTHING_CONCLUDED, Conclusion
from cnnviz_cli.files.output.resume import Input, Ledger
from cnnviz_cli.files.output.shards import SINGLE_SHARD, Shard
from cnnviz_cli.files.output.sink import Sink
from cnnviz_cli.files.output.small_pictures import write_thumbnail
from cnnviz_cli.files.output.store_files import remove_stores
from cnnviz_cli.files.output.study_kit import Kit, kit_digest, read_kit, refuse_foreign_kit, write_kit
from cnnviz_cli.render import SUFFIXES
from cnnviz_cli.render.figures import Figure
from cnnviz_cli.run.feature_pass import reading_spec
from cnnviz_cli.run.image_data import LoadedImage, failed_record, load_image
from cnnviz_cli.run.lifecycle import Backend, Outcome, RunSetup, execute_on
from cnnviz_cli.run.looking import Looking
from cnnviz_cli.run.manifest_header import build_header, device_name, model_record, run_record
from cnnviz_cli.run.present import window_of
from cnnviz_cli.run.session import Session
from cnnviz_cli.run.stage_timer import StageTimer
from cnnviz_cli.run.study_end import conclude_study, images_digest
from cnnviz_cli.run.study_files import write_study_figure


class Study(ABC):
    """One study of some images, with one network.

    It is made before an image is read, and raises UsageError then. `look` comes first, once, then `kit`, then `record`
    for each image or unit that is due; what is made of all of them together is a function of kit and records alone, in
    a file without torch (`core.families.STUDIES`).

    Attributes:
        name: as `STUDIES` has it.
        session: the network, and what is asked of it.
        sources: the images that were named, of every shard.
        shown_digest: of the bytes that the network was shown of an image; None before that, and where records are about
            units.
    """

    name: ClassVar[str]

    def __init__(self, session: Session, sources: Sequence[Source], sink: Sink, reporter: Reporter) -> None:
        self.session, self.sources, self.sink, self.reporter = session, sources, sink, reporter
        self.shown_digest: Callable[[Source], str | None] = lambda _source: None

    @property
    def settings(self) -> Settings:
        return self.session.settings

    @property
    def subjects(self) -> Sequence[Subject] | None:
        """What records are about; None where they are about the images."""
        return None

    @property
    def identity(self) -> Mapping[str, Any]:
        """What else the answer depends on, by what it is called in a message: digests of files and of other folders."""
        return {}

    @property
    @abstractmethod
    def cost(self) -> Cost:
        """Passes of the network for each batch of images."""

    @abstractmethod
    def look(self, looking: Looking) -> None:
        """Show the images to the network, by `Looking.gather`, and find out what all records need."""

    @abstractmethod
    def kit(self) -> Kit:
        """All that is drawn of all images together, beside what the records say; after `look`."""

    @abstractmethod
    def record(self, source: Input, folder: str) -> ImageRecord:
        """The record of an image that was seen, or of a unit, its files in place below `folder`. An ImageError or a
        NetworkError makes it a failed one."""

    @property
    def lines(self) -> list[str]:
        """What it would do, for a dry run: a line for each pass and each figure."""
        return []

    def number_of(self, source: Source) -> int:
        """Where an image stands in the list, as stores count."""
        return self._numbers[source.name]

    @cached_property
    def _numbers(self) -> Mapping[str, int]:
        return {source.name: at for at, source in enumerate(self.sources)}

    def write_figure(self, folder: str, stem: str, figure: Figure, **more: Any) -> Output:
        """Write a figure of an image or a unit into its folder; see `run.study_files.write_study_figure`."""
        run, model = self._about
        return write_study_figure(self.sink, run, model, self.name, stem, figure, folder, **more)

    def image_record(
        self,
        source: Source,
        loaded: LoadedImage,
        outputs: Sequence[Output],
        predictions: Sequence[Prediction],
        **more: Any,
    ) -> ImageRecord:
        """The record of an image with its figures; `more` are members of its own."""
        original = loaded.original
        return ImageRecord(
            source=source.name,
            sha256=original.sha256,
            width=original.size[0],
            height=original.size[1],
            status="ok",
            error=None,
            predictions=list(predictions),
            seen=window_of(loaded.view),
            value_range=(original.shown.low, original.shown.high) if original.shown else None,
            outputs=list(outputs),
            **more,
        )

    @cached_property
    def _about(self) -> tuple[Run, ModelRecord]:
        return run_record(self.session, self.cost), model_record(self.session)

    def read(self, source: Source, folder: str) -> LoadedImage:
        """An image, and what the network sees of it. Raises ImageError."""
        found = load_image(reading_spec(self.session), (source, folder), lambda _note: None)
        if isinstance(found, ImageRecord):
            raise ImageError(found.error or "it cannot be read", sha256=found.sha256)
        shown = self.shown_digest(source)
        if shown is not None and found.original.sha256 != shown:
            raise ImageError("it changed after it was shown to the network", sha256=found.original.sha256)
        return found


MakeStudy = Callable[[Session, Sequence[Source], Sink, Reporter], Study]


def study_class(name: str) -> MakeStudy:
    """The class of a registered study."""
    module, _, member = STUDIES[name].made_by.partition(":")
    found: MakeStudy = getattr(import_module(module), member)
    return found


def execute_study(
    name: str,
    command: str,
    settings: Settings,
    sources: Sequence[Source],
    reporter: Reporter,
    *,
    shard: Shard = SINGLE_SHARD,
    force: bool = False,
    local_rank: int | None = None,
    load: Callable[[], Session] | None = None,
) -> Outcome:
    """Carry out a study of `sources`, and write everything below the output folder; what an earlier run has done is
    left as it is.

    Args:
        name: of the study.
        load: the session, where it is not loaded by the settings.

    Raises:
        what `run.execute` does.
    """
    if settings.engine == "ray":
        raise UsageError(
            "a study looks at all images together, which processes of a Ray cluster do not",
            where="--engine",
            fix="Leave it out; several machines share the work with --shard I/N and one output folder.",
        )

    def load_session() -> Session:
        return load() if load else Session.load(command, settings, reporter, local_rank)

    @contextmanager
    def this_machine(sink: Sink, timer: StageTimer) -> Iterator[Backend]:
        with StudyBackend(name, load_session, sources, shard, sink, reporter, timer, force=force) as backend:
            yield backend

    return execute_on(this_machine, command, settings, sources, reporter, shard=shard, force=force)


class StudyBackend(Backend):
    """Carries out a study in this process. A context manager, in which what the study has gathered stays open."""

    def __init__(
        self,
        name: str,
        load: Callable[[], Session],
        sources: Sequence[Source],
        shard: Shard,
        sink: Sink,
        reporter: Reporter,
        timer: StageTimer,
        *,
        force: bool,
    ) -> None:
        self._name, self._load, self._sources, self._shard = name, load, sources, shard
        self._sink, self._reporter, self._timer, self._force = sink, reporter, timer, force
        self._looking: Looking | None = None
        self._kit: Kit | None = None

    def start(self) -> RunSetup:
        refuse_foreign_kit(self._sink)
        stamps = images_digest(self._sources)
        session = self._load()
        suffix = SUFFIXES[session.settings.format]
        refuse_foreign_results(self._sink.root, [file_name(stem, suffix) for stem in STUDIES[self._name].sheets])
        self._study = study = study_class(self._name)(session, self._sources, self._sink, self._reporter)
        header = build_header(session, study.cost)
        subjects = study.subjects
        told = None if subjects is None else [one.model_dump(mode="json") for one in subjects]
        self._header = header = replace(
            header,
            identity={**header.identity, "study": self._name, **study.identity},
            batch=header.batch if subjects is None else 1,
            study={"name": self._name, "subjects": told, "images": stamps, "batch": session.batch_size},
        )
        question = session.question
        truths = question.truths if subjects is None else None
        return RunSetup(header, device_name(session.device), header.batch, truths=truths, subjects=subjects)

    def records(self, slots: Sequence[tuple[Input, str]], ledger: Ledger) -> Iterator[ImageRecord]:
        if self._study.subjects is None and not self._shard.label and ledger.bound_to:
            failed = self._still_failing(slots, ledger)
            if failed is not None and self._kept(ledger.bound_to):
                return iter(failed)
        self._look(ledger)
        return self._records(slots, ledger)

    def _still_failing(self, slots: Sequence[tuple[Input, str]], ledger: Ledger) -> list[ImageRecord] | None:
        """The records of all that is due, where that is nothing but images that cannot be read, as before: then all is
        seen that can be. None where anything else is to be done."""
        found: list[ImageRecord] = []
        for at, (source, folder) in enumerate(slots):
            if not ledger.is_due(at):
                continue
            before = ledger.failed_before(at)
            if before is None or isinstance(source, Subject):
                return None
            try:
                self._study.read(source, folder)
                return None
            except ImageError as error:
                if error.sha256 != before["sha256"]:
                    return None
                found.append(failed_record(source, error.what, sha256=error.sha256))
        return found

    def _kept(self, seen: str) -> Kit | None:
        self._kit = read_kit(self._sink, kit_digest(self._header.identity, seen))
        return self._kit

    def _look(self, ledger: Ledger) -> None:
        identity = json.loads(json.dumps(dict(self._header.identity), default=str))
        self._looking = Looking(self._sink, self._shard, self._reporter, identity, self._sources, again=self._force)
        with self._timer.measure("look"):
            self._study.look(self._looking)
        self._looking.close()
        if self._study.subjects is None:
            self._study.shown_digest = self._looking.digest_of
        if self._shard.label and self._study.subjects is not None:  # whose end says nothing of images
            failed = [f"{escape_text(name)} ({one.why})" for name, one in self._looking.failures.items()]
            if failed:
                self._reporter.warn(f"could not be shown to the network: {list_some(failed, 3)}")
        seen = self._looking.seen
        bound = sha256(":".join(one.sha256 for one in seen).encode()).hexdigest()
        ledger.bind(bound)
        with self._timer.measure("compute"):
            kit = self._study.kit()
        self._kit = replace(kit, seen=tuple(seen))
        write_kit(self._sink, self._kit, kit_digest(self._header.identity, bound))

    def _records(self, slots: Sequence[tuple[Input, str]], ledger: Ledger) -> Iterator[ImageRecord]:
        for at, (source, folder) in enumerate(slots):
            if ledger.is_due(at):
                self._reporter.work([source.name], 1)
                with self._timer.measure("draw and write"):
                    record = self._record(source, folder)
                yield record

    def _record(self, source: Input, folder: str) -> ImageRecord:
        assert self._looking is not None
        if not isinstance(source, Subject) and source.name in self._looking.failures:
            unseen = self._looking.failures[source.name]
            return failed_record(source, unseen.why, sha256=unseen.sha256 or None)
        try:
            record = self._study.record(source, folder)
            if isinstance(source, Subject) or not self._study.settings.report or record.thumbnail:
                return record
            picture = self._study.read(source, folder).original.image
            small = write_thumbnail(self._sink, f"{folder}/{THUMBNAIL}", picture)
            return record.model_copy(update={"thumbnail": small})
        except (ImageError, NetworkError) as error:
            if isinstance(source, Subject):
                raise
            return failed_record(source, error.what, sha256=getattr(error, "sha256", None))

    def conclude(self, ledger: Ledger) -> Conclusion:
        """What is made of all records; a shard does not have them."""
        if self._shard.label or self._kit is None:
            return NOTHING_CONCLUDED
        header = self._header
        with self._timer.measure("draw and write"):
            return conclude_study(
                self._name, self._sink, header.run, header.model, self._kit, ledger.records, self._reporter.warn
            )

    def finished(self) -> None:
        """Every record is there, and the manifest."""
        if not self._shard.label:
            remove_stores(self._sink)

    def __enter__(self) -> StudyBackend:
        return self

    def __exit__(self, *_about: object) -> None:
        if self._looking is not None:
            self._looking.close()


@dataclass(frozen=True)
class StudyPlan:
    """What a run would look at and do: how many images, by which passes, and what records are about."""

    study: str
    images: int
    subjects: list[str]
    plan_lines: list[str]


def describe_study(
    name: str, command: str, settings: Settings, sources: Sequence[Source], reporter: Reporter
) -> StudyPlan:
    """Load the network, find out what would be done, and write nothing; raises what the run itself would."""
    session = Session.load(command, settings, reporter)
    study = study_class(name)(session, sources, Sink(settings.output), reporter)
    subjects = [one.title for one in study.subjects or ()]
    return StudyPlan(name, len(sources), subjects, study.lines)
