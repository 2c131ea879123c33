"""What of all records decides filters, orders and names: read once, a few numbers of each kept."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import nan
from typing import Any, NamedTuple

from cnnviz_cli.core.panels import ADVICE
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.files.output.saved_run import SavedRun

RIGHT, WRONG, UNKNOWN, FAILED, UNTOLD = range(5)
"""Outcomes; `UNTOLD` would be right or wrong if this run knew what is true."""

NONE = -1
_PRESENT_FROM = 0.5  # as `core.accuracy` counts classes that do not exclude each other

STATES = (
    "ok", "unmoved", "unreached", "incomplete", "unstable", "negative", "flat", "silent", "nonfinite", "failed",
)  # fmt: skip
"""Of maps, from what can be read to what cannot, and of images that could not be explained."""

assert set(ADVICE) == {*STATES} - {"failed"}

_INSTEAD = {"share": "share of the image", "similarity": "similarity", "value": "value"}
"""Numbers that a prediction has in the place of a probability, and what they are called."""


class Labels:
    """Collect the classes of all runs, then ask for `names` and for a class's place in them.

    Two classes of one run may have one name (of ImageNet's, "crane" and "maillot"): their numbers then tell them apart.
    """

    def __init__(self) -> None:
        self._met: dict[tuple[int, int, str], int] = {}
        self._places: list[int] = []
        self.names: list[str] = []

    def collect(self, run: int, index: int, label: str) -> int:
        """Remember a class of a run; returns a number for `place`."""
        return self._met.setdefault((run, index, label), len(self._met))

    def finish(self) -> None:
        """Give all that were met their names and places, in the order of the names."""
        of_one_run: dict[tuple[int, str], set[int]] = {}
        for run, index, label in self._met:
            of_one_run.setdefault((run, label), set()).add(index)
        twice = {label for (_, label), numbers in of_one_run.items() if len(numbers) > 1}
        shown = [f"{label} ({index})" if label in twice else label for _, index, label in self._met]
        self.names = [escape_text(name) for name in sorted(set(shown))]
        order = {name: place for place, name in enumerate(sorted(set(shown)))}
        self._places = [order[name] for name in shown]

    def place(self, number: int) -> int:
        """Where in `names` the class is that `collect` gave this number."""
        return self._places[number]

    def find(self, run: int, index: int, label: str) -> int:
        """The place of a class that was collected."""
        return self._places[self._met[run, index, label]]

    @property
    def places(self) -> list[int]:
        """The place of every class, by its number."""
        return self._places


class ViewKey(NamedTuple):
    """A way of looking at an image: what one method of one run says."""

    run: int
    family: str
    method: str
    layer: str
    contrasted: bool
    counterfactual: bool

    @classmethod
    def of(cls, run: int, output: Mapping[str, Any]) -> ViewKey | None:
        """That of an output; None for a figure of several maps."""
        if output["method"] is None:
            return None
        contrast, counter = output.get("contrast") is not None, bool(output.get("counterfactual"))
        return cls(run, output["family"], output["method"], output["layer"] or "", contrast, counter)


@dataclass
class RunTable:
    """Of one run, a number for each record in its order."""

    predicted: array[int] = field(default_factory=lambda: array("l"))
    probability: array[float] = field(default_factory=lambda: array("d"))
    truth: array[int] = field(default_factory=lambda: array("l"))
    truth_probability: array[float] = field(default_factory=lambda: array("d"))
    outcome: array[int] = field(default_factory=lambda: array("B"))
    state: array[int] = field(default_factory=lambda: array("B"))
    width: array[int] = field(default_factory=lambda: array("L"))
    height: array[int] = field(default_factory=lambda: array("L"))
    measures: dict[tuple[ViewKey | None, str], array[float]] = field(default_factory=dict)

    def measure(self, key: tuple[ViewKey | None, str], value: float) -> None:
        """The number of the record that was added last, by a view and a column; the first of several counts."""
        kept = self.measures.setdefault(key, array("f"))
        if len(kept) < len(self.state):
            kept.extend([nan] * (len(self.state) - 1 - len(kept)))
            kept.append(value)


class _Unmatched:
    """The entries of earlier runs with one file's bytes, of which a run has not named each yet."""

    def __init__(self, entries: Sequence[int], sources: Sequence[str]) -> None:
        self._order, self._by_name = deque(entries), {sources[entry]: entry for entry in entries}
        self._taken: set[int] = set()

    def take(self, source: str) -> int | None:
        """The entry of this name, or the first that is left; None where none is."""
        entry = self._by_name.get(source)
        if entry is None or entry in self._taken:
            while self._order and self._order[0] in self._taken:
                self._order.popleft()
            if not self._order:
                return None
            entry = self._order[0]
        self._taken.add(entry)
        return entry


class Survey:
    """All runs' records, joined: an *entry* is an image, whichever runs have explained it.

    Attributes:
        sources: of each entry, a name that no other has.
        positions: of each run, the number of an entry's record, `NONE` where it has none.
        units: of each run, the numbers of records that are about a unit of the network, not an image.
        views: what there is to look at, in the order in which it was met.
        unshared: of each run but the first, how many of its images the first does not have.
    """

    def __init__(self, runs: Sequence[SavedRun], names: Sequence[str]) -> None:
        self.labels = Labels()
        self.sources: list[str] = []
        self.positions: list[array[int]] = []
        self.tables: list[RunTable] = []
        self.units: list[list[int]] = []
        self.views: dict[ViewKey, int] = {}
        self.unshared: list[int] = []
        self._names = names
        self._taken: set[str] = set()
        self._by_digest: dict[str, dict[int, None]] = {}  # of each file's bytes the entries, in their order
        for number, run in enumerate(runs):
            self._read(number, run, more=len(runs) > 1)
        self.labels.finish()

    def __len__(self) -> int:
        return len(self.sources)

    def _read(self, number: int, run: SavedRun, *, more: bool) -> None:
        table, positions, units = RunTable(), array("q", [NONE] * len(self.sources)), list[int]()
        before, unmatched = len(self.sources), dict[str, _Unmatched]()
        for at, record in enumerate(run):
            add_to_table(table, record, number, self.labels, multilabel=_is_multilabel(run))
            if record.get("subject") is not None:
                units.append(at)
                continue
            for output in _outputs(record):
                key = ViewKey.of(number, output)
                if key is not None:
                    self.views.setdefault(key, len(self.views))
            entry = self._entry_of(record, unmatched) if before else None
            if entry is None:
                entry = self._new_entry(str(record["source"]), number)
                positions.append(NONE)
            if more:
                self._remember(record, entry)
            positions[entry] = at
        for others in self.positions:
            others.extend([NONE] * (len(self.sources) - len(others)))
        self.positions.append(positions)
        self.tables.append(table)
        self.units.append(units)
        self.unshared.append(len(self.sources) - before)

    def _entry_of(self, record: Mapping[str, Any], unmatched: dict[str, _Unmatched]) -> int | None:
        """The entry with the same bytes, if there are several that of the same name; or None."""
        key = _key(record)
        if key not in unmatched:  # before this run adds entries of its own
            unmatched[key] = _Unmatched(list(self._by_digest.get(key, ())), self.sources)
        return unmatched[key].take(record["source"])

    def _remember(self, record: Mapping[str, Any], entry: int) -> None:
        self._by_digest.setdefault(_key(record), {})[entry] = None

    def _new_entry(self, source: str, run: int) -> int:
        name, tries = source, 1
        # As the page writes it: what is not printable is escaped there, and may then be another's name.
        while escape_text(name) in self._taken:
            tries += 1
            name = f"{source} ({self._names[run]})" if tries == 2 else f"{source} ({self._names[run]}, {tries - 1})"
        self._taken.add(escape_text(name))
        self.sources.append(name)
        return len(self.sources) - 1


def add_to_table(table: RunTable, record: Mapping[str, Any], run: int, labels: Labels, *, multilabel: bool) -> None:
    """Add a record's numbers to its run's table, and its classes to `labels`."""
    predictions, truth = record["predictions"], record.get("truth")
    first = predictions[0] if predictions else None
    for one in predictions:
        labels.collect(run, one["index"], one["label"])
    outputs = list(_outputs(record))
    for output in outputs:
        if output["target"] is not None:
            labels.collect(run, output["target"]["index"], output["target"]["label"])
    table.predicted.append(NONE if first is None else labels.collect(run, first["index"], first["label"]))
    table.probability.append(_probability(first))
    table.truth.append(NONE if truth is None else labels.collect(run, truth["index"], truth["label"]))
    table.truth_probability.append(_probability(truth))
    table.outcome.append(_outcome(record, first, truth, multilabel=multilabel))
    table.width.append(_side(record["width"]))
    table.height.append(_side(record["height"]))
    failed = record["status"] != "ok"
    table.state.append(
        STATES.index("failed" if failed else max((o["state"] for o in outputs), key=STATES.index, default="ok"))
    )
    for field_name, title in _INSTEAD.items():
        if first is not None and first.get(field_name) is not None:
            table.measure((None, title), first[field_name])
    for output in outputs:
        for column, value in (output.get("measures") or {}).items():
            table.measure((ViewKey.of(run, output), column), value)


def _outputs(record: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    return (output for output in record["outputs"] if output["method"] is not None)


def _side(said: int | None) -> int:
    """The pixels of a side; 0 where there are none, or no image has as many."""
    return said if said is not None and 0 < said < 1 << 31 else 0


def _probability(one: Mapping[str, Any] | None) -> float:
    found = None if one is None else one.get("probability")
    return nan if found is None else float(found)


def _outcome(record: Mapping[str, Any], first: Any, truth: Any, *, multilabel: bool) -> int:
    """As `core.accuracy.AccuracyCounter` counts."""
    if record["status"] != "ok":
        return FAILED
    if first is None or any(
        one.get("probability") is None or one.get("box") or one.get("share") for one in filter(None, (truth, first))
    ):
        return UNKNOWN
    if truth is None:
        return UNKNOWN if multilabel else UNTOLD
    right = truth["probability"] >= _PRESENT_FROM if multilabel else first["index"] == truth["index"]
    return RIGHT if right else WRONG


def _is_multilabel(run: SavedRun) -> bool:
    return run.setting("multilabel") is True


def _key(record: Mapping[str, Any]) -> str:
    """By which records of several runs are one image: the file's bytes; its name where they could not be read."""
    digest: str | None = record["sha256"]
    return digest or f"/{record['source']}"
