"""What is made once all images of a judged run have passed: mosaics of them, and figures that need the network again.

It is kept in a file beside the journal, so that a run that has nothing to do computes none of it twice. No torch here.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

from cnnviz_cli.config.dream_fields import dream_fields
from cnnviz_cli.config.settings import Settings
from cnnviz_cli.core.errors import OutputError
from cnnviz_cli.core.evaluation_fold import EvaluationTally
from cnnviz_cli.core.evaluation_records import Evaluation, EvaluationHead, MosaicRecord, MosaicsFound
from cnnviz_cli.core.families import DREAM, EVALUATE
from cnnviz_cli.core.file_reading import GIBIBYTE, read_regular
from cnnviz_cli.core.fold import Fold
from cnnviz_cli.core.mosaic_sets import MosaicSet, MosaicSets, sets_of
from cnnviz_cli.core.records import Output, Run
from cnnviz_cli.files.output.file_names import KEPT_FOLD, KEPT_MOSAICS, TABLE, file_name
from cnnviz_cli.files.output.fold_states import KeptFold
from cnnviz_cli.files.output.foreign_files import refuse_foreign_results
from cnnviz_cli.files.output.resume import RunHeader
from cnnviz_cli.files.output.shards import Shard
from cnnviz_cli.files.output.sink import Sink
from cnnviz_cli.render import SUFFIXES

Records = Callable[[], Iterable[bytes]]
"""Gives the records of a run, in the order of its images, as often as it is called."""

_AT_ONCE = 1 << 16
"""Packed bytes that are unpacked at a time."""

STEM = "evaluation"
"""What the files about all images are called, and the family of their figures."""

MOSAICS = "mosaics"
"""What the sheet of mosaics is called."""


COMPARE, PAGES = "compare", "units"
"""What sheets of several pictures and of several units are called, behind the family's name."""


@dataclass(frozen=True)
class AfterRun:
    """What was made of all images together; `mosaics` is None where no process has tried."""

    mosaics: MosaicsFound | None = None
    sheets: tuple[Output, ...] = ()


NOTHING_AFTER = AfterRun()


class PackedRecords:
    """The records of a run as few bytes, for a process that does not have its journal. Calling it gives them."""

    def __init__(self, records: Iterable[bytes]) -> None:
        packer = zlib.compressobj(1)
        parts = [packer.compress(record + b"\n") for record in records]
        self._packed = b"".join([*parts, packer.flush()])

    def __call__(self) -> Iterator[bytes]:
        unpacker, rest = zlib.decompressobj(), b""
        for start in range(0, len(self._packed), _AT_ONCE):
            *lines, rest = (rest + unpacker.decompress(self._packed[start : start + _AT_ONCE])).split(b"\n")
            yield from lines


class Afterwork(Fold[tuple[str, MosaicRecord], "Mapping[str, MosaicRecord]"]):
    """What was found of mosaics, by the digest of their images, and the sheets that were drawn, by name.

    Attributes:
        sheets: of each the digest of what it was made of, and its record; None if it cannot be drawn.
    """

    name = "mosaics"

    def __init__(self) -> None:
        self._found: dict[str, MosaicRecord] = {}
        self.sheets: dict[str, tuple[str, Output | None]] = {}

    def add(self, item: tuple[str, MosaicRecord]) -> None:
        self._found[item[0]] = item[1]

    def merge(self, other: Self) -> None:
        self._found |= other._found
        self.sheets |= other.sheets

    def finish(self) -> Mapping[str, MosaicRecord]:
        return self._found

    def to_state(self) -> dict[str, Any]:
        return {
            "mosaics": {key: self._found[key].model_dump(mode="json") for key in sorted(self._found)},
            "sheets": {
                name: [made_of, sheet and sheet.model_dump(mode="json")]
                for name, (made_of, sheet) in sorted(self.sheets.items())
            },
        }

    @classmethod
    def from_state(cls, state: Any) -> Self:
        made = cls()
        for key, found in state["mosaics"].items():
            made.add((key, MosaicRecord.model_validate_json(json.dumps(found))))
        for name, (made_of, sheet) in state["sheets"].items():
            made.sheets[name] = (made_of, sheet and Output.model_validate_json(json.dumps(sheet)))
        return made


def set_key(images: MosaicSet) -> str:
    """The digest of a mosaic's images and of the classes that are asked for."""
    return sha256(":".join(f"{one.source} {one.sha256} {one.index} {one.label}" for one in images).encode()).hexdigest()


@dataclass
class Afterwards:
    """What is to be made of the records of a run, and what of it is kept from an earlier one.

    Attributes:
        wanted: the mosaics.
    """

    sink: Sink
    header: RunHeader
    head: EvaluationHead
    records: Records
    wanted: MosaicSets
    work: Afterwork = field(default_factory=Afterwork)

    @classmethod
    def of(cls, sink: Sink, header: RunHeader, records: Records, *, again: bool = False) -> Afterwards | None:
        """Of a run's records; None where nothing is made of them. `again`: whatever is kept."""
        head = header.evaluation
        if head is None or not (head.mosaics or head.cascade):
            return None
        wanted = MosaicSets(())
        if head.mosaics:
            wanted = sets_of(head.mosaics, seed_of(header.run), map(json.loads, records()))
        made = cls(sink, header, head, records, wanted)
        made.work = (None if again else made._kept.read()) or Afterwork()
        return made

    @property
    def _kept(self) -> KeptFold[Afterwork]:
        identity = json.loads(json.dumps(dict(self.header.identity), default=str))
        return KeptFold(self.sink, Afterwork, {"identity": identity}, KEPT_MOSAICS)

    @property
    def missing(self) -> list[MosaicSet]:
        """The mosaics of which nothing is known yet."""
        found = self.work.finish()
        return [one for one in self.wanted.sets if set_key(one) not in found]

    def keep(self) -> None:
        """Write down what there is, of the mosaics that are still wanted."""
        known, kept = self.work.finish(), Afterwork()
        for one in self.wanted.sets:
            if (found := known.get(set_key(one))) is not None:
                kept.add((set_key(one), found))
        kept.sheets = self.work.sheets
        self._kept.write(kept)

    def mosaics(self, why: str = "") -> MosaicsFound | None:
        """What was found of all mosaics; `why` there is nothing, if that is no fault of the images."""
        if self.head.mosaics is None:
            return None
        known = self.work.finish()
        found = [known[set_key(one)] for one in self.wanted.sets if set_key(one) in known]
        drawn = self.work.sheets.get(MOSAICS, ("", None))[1]
        if drawn:
            found = [
                one.model_copy(update={"path": drawn.path if at < SHOWN else None}) for at, one in enumerate(found)
            ]
        return MosaicsFound(mosaics=found, undone="" if found else self.wanted.undone or why)

    def evaluation(self) -> Evaluation:
        """What came of all records and mosaics."""
        tally = EvaluationTally(self.head)
        for record in self.records():
            tally.add(json.loads(record))
        tally.add_mosaics(self.mosaics())
        return tally.evaluation

    def sheet_names(self) -> list[str]:
        """The sheets that this run draws."""
        if self.header.run.command != EVALUATE:
            return []
        names = [MOSAICS] if self.head.mosaics and self.wanted.sets else []
        return [*names, *([self.head.cascade.measure] if self.head.cascade else [])]

    def made_of(self, evaluation: Evaluation) -> str:
        """The digest of all that sheets show."""
        plain = evaluation.model_dump(mode="json")
        for one in plain.get("mosaics") or ():
            one.pop("path", None)
        return sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()

    def missing_sheets(self, made_of: str) -> list[str]:
        """The sheets that are not there, or show something else."""
        return [name for name in self.sheet_names() if not self._is_there(name, made_of)]

    def _is_there(self, name: str, made_of: str) -> bool:
        known, sheet = self.work.sheets.get(name, ("", None))
        if known != made_of:
            return False
        try:
            return (
                sheet is None or sha256(read_regular(self.sink.place(sheet.path), GIBIBYTE)).hexdigest() == sheet.sha256
            )
        except (OSError, ValueError, OutputError):
            return False

    def result(self, why: str = "") -> AfterRun:
        """What goes into the manifest."""
        sheets = [self.work.sheets[name][1] for name in self.sheet_names() if name in self.work.sheets]
        return AfterRun(self.mosaics(why), tuple(one for one in sheets if one))


SHOWN = 3
"""Mosaics on their sheet."""


def seed_of(run: Run) -> int:
    """The seed of a run."""
    return int(str(run.config.get("seed", 0)))


def kept_after_run(sink: Sink, header: RunHeader, records: Records) -> AfterRun | None:
    """What an earlier run has made of the same records; None if something is missing."""
    found = Afterwards.of(sink, header, records)
    if found is None:
        return AfterRun()
    if found.missing:
        return None
    if found.sheet_names() and found.missing_sheets(found.made_of(found.evaluation())):
        return None
    return found.result()


def refuse_results_in_the_way(root: Path, settings: Settings, header: RunHeader, shard: Shard) -> None:
    """Raise OutputError if a file of others lies where a run writes what it makes of all images together."""
    suffix = SUFFIXES[settings.format]
    head, alone = header.evaluation, not shard.label
    stems: list[str] = []
    tables, states = list[str](), list[str]()
    if head and alone:
        stems = [name for name, drawn in ((STEM, True), (MOSAICS, head.mosaics)) if drawn]
        stems += [head.cascade.measure] if head.cascade else []
        states = [KEPT_MOSAICS] if head.mosaics or head.cascade else []
        tables = [TABLE]
        if header.run.command != EVALUATE:  # which has the numbers, and draws nothing of all images
            stems, tables = [], []
    if settings.command == DREAM.name:
        stems = [f"{DREAM.name}.{sheet}" for sheet in (COMPARE, f"{PAGES}-1")] if alone else []
        states = [KEPT_FOLD] if dream_fields(settings).against is not None else []
    refuse_foreign_results(root, [file_name(stem, suffix) for stem in stems], tables, states)
