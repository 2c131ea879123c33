"""Which entries the page has, in which order, and the numbers by which it filters and sorts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.text import did_you_mean
from cnnviz_cli.report.page import to_base64
from cnnviz_cli.report.survey import FAILED, NONE, RIGHT, STATES, UNKNOWN, UNTOLD, WRONG, RunTable, Survey

Order = Literal["run", "name", "sure", "unsure", "mistake", "class"]
ORDERS: tuple[Order, ...] = get_args(Order)
"""run: as the first run has them. sure, unsure: by the probability of what it says. mistake: the gravest first, those
that are most surely wrong. class: by what it says."""

OUTCOMES = {"right": RIGHT, "wrong": WRONG, "unknown": UNKNOWN, "failed": FAILED}

Numbers = NDArray[Any]


class Columns:
    """The survey's numbers by entry."""

    def __init__(self, survey: Survey) -> None:
        self.survey = survey
        places = np.asarray([*survey.labels.places, NONE], dtype=np.int64)  # the last stands for none
        self.predicted = [
            self._by_entry(run, places[np.asarray(t.predicted, dtype=np.int64)], NONE) for run, t in self._tables()
        ]
        self.probability = [
            self._by_entry(run, np.asarray(t.probability, np.float64), np.nan) for run, t in self._tables()
        ]
        truths = [self._by_entry(run, places[np.asarray(t.truth, dtype=np.int64)], NONE) for run, t in self._tables()]
        self.truth = truths[0].copy()
        for other in truths[1:]:
            self.truth = np.where(self.truth == NONE, other, self.truth)
        self.truths = [np.where(own == NONE, self.truth, own) for own in truths]
        self.truth_probability = [
            self._by_entry(run, np.asarray(t.truth_probability, np.float64), np.nan) for run, t in self._tables()
        ]
        self.state = [self._by_entry(run, np.asarray(t.state, np.uint8), 0) for run, t in self._tables()]
        self.outcome = [self._outcome(run, table) for run, table in self._tables()]
        self.width, self.height = (
            self._first([getattr(t, side) for _, t in self._tables()]) for side in ("width", "height")
        )

    def _tables(self) -> list[tuple[int, RunTable]]:
        return list(enumerate(self.survey.tables))

    def _positions(self, run: int) -> Numbers:
        return np.asarray(self.survey.positions[run], dtype=np.int64)

    def _by_entry(self, run: int, values: Numbers, none: float) -> Numbers:
        """A number for each entry from one for each record."""
        return np.append(values, np.asarray([none], values.dtype))[self._positions(run)]

    def _first(self, tables: Sequence[Any]) -> Numbers:
        found = np.zeros(len(self.survey), np.int64)
        for run, values in enumerate(tables):
            found = np.where(found == 0, self._by_entry(run, np.asarray(values, np.int64), 0), found)
        return found

    def _outcome(self, run: int, table: RunTable) -> Numbers:
        found = self._by_entry(run, np.asarray(table.outcome, np.uint8), UNKNOWN)
        # What this run was not told, another may know.
        told = np.where(self.predicted[run] == self.truth, RIGHT, WRONG)
        return np.where(found == UNTOLD, np.where(self.truth == NONE, UNKNOWN, told), found)

    def present(self) -> list[Numbers]:
        """Of each run, whether it has each entry."""
        return [self._positions(run) != NONE for run, _ in self._tables()]

    def measures(self) -> list[tuple[tuple[Any, str], Numbers]]:
        """By view, or None, and column."""
        found = []
        for run, table in self._tables():
            for key, kept in table.measures.items():
                values = np.full(len(table.state), np.nan, np.float32)
                values[: len(kept)] = kept
                found.append((key, self._by_entry(run, values, np.nan)))
        return found

    def select(self, *, only: str = "", order: Order = "run", limit: int = 0) -> Numbers:
        """The entries that the page has, in its order. Raises UsageError where `only` is nothing that there is."""
        chosen = np.flatnonzero(self._wanted(only)) if only else np.arange(len(self.survey))
        names = self.survey.sources
        if order == "name":
            chosen = np.asarray(sorted(chosen, key=lambda entry: (names[entry].casefold(), names[entry])), np.int64)
        elif order != "run":
            chosen = chosen[np.argsort(self._sort_key(order)[chosen], kind="stable")]
        return chosen[:limit] if limit else chosen

    def _sort_key(self, order: Order) -> Numbers:
        sure = np.where(np.isfinite(self.probability[0]), self.probability[0], -1)
        if order == "sure":
            return np.negative(sure)
        if order == "unsure":
            return np.where(sure < 0, 2, sure)
        if order == "class":
            return np.asarray(self.predicted[0] + np.where(self.predicted[0] == NONE, 1 << 40, 0) - sure.clip(0) / 2)
        margin = sure - np.nan_to_num(self.truth_probability[0])
        return np.where(self.outcome[0] == WRONG, -margin, np.where(self.outcome[0] == RIGHT, 2, 3))

    def _wanted(self, only: str) -> Numbers:
        if only in OUTCOMES:
            return np.asarray(self.outcome[0] == OUTCOMES[only])
        if only in STATES:
            return np.asarray(np.logical_or.reduce([state == STATES.index(only) for state in self.state]))
        names = self.survey.labels.names
        if only not in names:
            words = [*OUTCOMES, *STATES, *names]
            raise UsageError(
                f"'{only}' is no outcome, no state and no class of these runs",
                where="--only",
                fix=did_you_mean(only, words) or f"Outcomes: {', '.join(OUTCOMES)}. States: {', '.join(STATES)}.",
            )
        place = names.index(only)
        named = [*(truth == place for truth in self.truths), *(said == place for said in self.predicted)]
        return np.asarray(np.logical_or.reduce(named))


def encode_columns(columns: Columns, order: Numbers, others: Mapping[str, Numbers]) -> dict[str, Any]:
    """All columns of the page by name, as typed arrays in base64; `others` are in the page's order already."""
    whole: dict[str, Any] = {
        "truth": _whole(columns.truth[order]),
        "width": _whole(columns.width[order]),
        "height": _whole(columns.height[order]),
    }
    for run in range(len(columns.outcome)):
        if (columns.truths[run] != columns.truth)[order].any():
            whole[f"truth.{run}"] = _whole(columns.truths[run][order])
        whole[f"predicted.{run}"] = _whole(columns.predicted[run][order])
        # In double precision, since what is almost 1 is not 1: the figures say > 99.9 %.
        whole[f"probability.{run}"] = _real(columns.probability[run][order], "f8")
        whole[f"truth_probability.{run}"] = _real(columns.truth_probability[run][order], "f8")
        whole[f"outcome.{run}"] = _whole(columns.outcome[run][order])
        whole[f"state.{run}"] = _whole(columns.state[run][order])
    return whole | {name: _real(values) for name, values in others.items()}


def _whole(values: Numbers) -> dict[str, str]:
    """Numbers from 0 on in as few bytes as will do; none is the highest that these hold."""
    most = int(values.max(initial=0))
    kind = next(kind for kind, size in (("u1", 8), ("u2", 16), ("u4", 32)) if most < (1 << size) - 1)
    wanted = np.dtype(f"<{kind}")
    return {
        "kind": kind,
        "data": to_base64(np.where(values < 0, np.iinfo(wanted).max, values).astype(wanted).tobytes()),
    }


def _real(values: Numbers, kind: str = "f4") -> dict[str, str]:
    return {"kind": kind, "data": to_base64(values.astype(f"<{kind}").tobytes())}
