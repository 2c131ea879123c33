"""All images' judgements, added up one record at a time: what is kept does not grow with the number of images."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from math import ceil, isfinite, sqrt
from statistics import median
from typing import Any

from cnnviz_cli.core.evaluation import margin
from cnnviz_cli.core.evaluation_records import (
    AgreementOfMethods,
    CellRecord,
    ColumnRecord,
    ControlDifference,
    Evaluation,
    EvaluationHead,
    MarkedSummary,
    MethodRecord,
    MosaicRecord,
    MosaicsFound,
    RowRecord,
)
from cnnviz_cli.core.mosaic_sets import IMAGES

MOST_KEPT = 1000
"""Numbers of a cell that are kept for its median; of more there is none."""

MOST_LABELS = 100
"""Labels of annotations that are named."""

NO_MOSAICS = (
    "mosaics need all images and the network in one process, so that there are none of shards or of a run that was "
    "interrupted; the same command again, with --shard none, adds them, and does nothing else"
)
"""Why nothing is known of mosaics where no process has made any."""

Key = tuple[str, str, str]
"""Family, method and layer, empty where there is none; of a control the family is empty."""

RowKey = tuple[str, str, str, str]
"""The same, and of several finished runs the name of one; empty where there is one run."""


def six_digits(number: float) -> float:
    """A number as records have it; 0 has no sign."""
    return float(f"{number:.6g}") + 0.0


class Moments:
    """Count, mean and spread of numbers that come cluster by cluster, in one pass (Welford's way, which loses no
    digits).

    Numbers of one cluster are not independent: of several targets of one image, of the images of one mosaic. So the
    error of the mean is the cluster-robust one: of g clusters it is the root of g / (g - 1) times the sum over them of
    (sum of the cluster's numbers - mean * their count)^2, over the count of all numbers. With one number in each it is
    the usual standard error (Cameron and Miller, A Practitioner's Guide to Cluster-Robust Inference, 2015).
    """

    __slots__ = ("_cross", "_sizes", "_squares", "clusters", "count", "mean")

    def __init__(self) -> None:
        self.clusters, self.count, self.mean = 0, 0, 0.0
        # Over the clusters, with r the sum of its numbers less their mean, and n their count: r^2, r n and n^2.
        self._squares = self._cross = self._sizes = 0.0

    def add(self, *cluster: float) -> None:
        """Take in the numbers of one cluster; none is no cluster."""
        if not cluster:
            return
        size, before = len(cluster), self.mean
        self.clusters += 1
        self.count += size
        self.mean += sum(number - before for number in cluster) / self.count
        step = self.mean - before
        self._squares += step * (step * self._sizes - 2 * self._cross)
        self._cross -= step * self._sizes
        rest = sum(number - self.mean for number in cluster)
        self._squares += rest**2
        self._cross += rest * size
        self._sizes += size**2

    @property
    def error(self) -> float | None:
        """One standard error of the mean; None of one cluster."""
        if self.clusters < 2:
            return None
        return sqrt(max(self._squares, 0.0) * self.clusters / (self.clusters - 1)) / self.count

    @property
    def clusters_to_tell(self) -> int | None:
        """How many clusters would tell their mean from 0 at two standard errors, at least 2: (2 s / d)^2, where s is
        the error of the mean times the root of the count of clusters."""
        if self.error is None or self.mean == 0:
            return None
        needed = self.clusters * (2 * self.error / self.mean) ** 2
        return max(2, ceil(needed * (1 - 1e-9))) if needed < 1e9 else None


class _Cell(Moments):
    __slots__ = ("kept",)

    def __init__(self) -> None:
        super().__init__()
        self.kept = array("d")

    def add(self, *cluster: float) -> None:
        super().add(*cluster)
        self.kept.extend(cluster[: MOST_KEPT + 1 - len(self.kept)])


class _Ranks:
    """Krippendorff's alpha of images as raters of methods, from sums: see `rank_statistics.agreement_of_ranks`.

    A rank is twice a mid-rank less 1 over twice the number of ranked methods, in whole numbers over a common divisor
    as far as floats go: sums of some thousand of them are exact to the digits that are shown.
    """

    def __init__(self) -> None:
        self._sums: dict[RowKey, list[float]] = {}

    def add(self, numbers: Mapping[RowKey, float]) -> None:
        if len(numbers) < 2:
            return
        for key, share in zip(numbers, _rank_shares(list(numbers.values())), strict=True):
            one = self._sums.setdefault(key, [0.0, 0.0, 0.0])
            centred = share - 0.5
            one[0] += 1
            one[1] += centred
            one[2] += centred**2

    @property
    def alpha(self) -> float | None:
        """None if no two images rank at least two methods, or all ranks are equal."""
        units = [one for one in self._sums.values() if one[0] > 1]
        total = sum(one[0] for one in units)
        if len(units) < 2:
            return None
        observed = sum(2 * (n * squares - sums**2) / (n - 1) for n, sums, squares in units) / total
        squares, sums = sum(one[2] for one in units), sum(one[1] for one in units)
        expected = 2 * (total * squares - sums**2) / (total * (total - 1))
        found = 1 - observed / expected if expected > 1e-12 else float("nan")
        return found if isfinite(found) else None


def _rank_shares(numbers: Sequence[float]) -> list[float]:
    """(mid-rank - 1/2) / n of each, the lowest first."""
    order = sorted(range(len(numbers)), key=numbers.__getitem__)
    shares = [0.0] * len(numbers)
    start = 0
    while start < len(order):
        stop = start
        while stop < len(order) and numbers[order[stop]] == numbers[order[start]]:
            stop += 1
        for at in order[start:stop]:
            shares[at] = (start + stop) / 2 / len(numbers)
        start = stop
    return shares


class _Row:
    def __init__(self) -> None:
        self.cells: dict[str, _Cell] = {}
        self.curves: dict[str, list[Moments]] = {}
        self.undone: dict[str, str] = {}
        # By column and control, what the row has more than that in the same image.
        self.over: dict[str, dict[str, Moments]] = {}

    def add(self, cluster: Sequence[Mapping[str, Any]]) -> None:
        """Take in what was judged of an image's targets, or of a mosaic's images."""
        for name, numbers in _by_name(cluster, "measures").items():
            self.cells.setdefault(name, _Cell()).add(*numbers)
        for name, curves in _by_name(cluster, "curves").items():
            known = self.curves.setdefault(name, [Moments() for _ in curves[0]])
            fitting = [points for points in curves if len(points) == len(known)]
            for at, moments in enumerate(known):
                moments.add(*(points[at] for points in fitting))
        for judged in cluster:
            for name, why in (judged.get("undone") or {}).items():
                self.undone.setdefault(name, why)

    def add_differences(self, cluster: Sequence[tuple[Mapping[str, float], Mapping[str, Mapping[str, float]]]]) -> None:
        """Take in by how much the row's numbers exceed those of each control, of pairs of both."""
        found: dict[tuple[str, str], list[float]] = {}
        for numbers, controls in cluster:
            for name, number in numbers.items():
                for control, known in controls.items():
                    if name in known:
                        found.setdefault((name, control), []).append(number - known[name])
        for (name, control), steps in found.items():
            self.over.setdefault(name, {}).setdefault(control, Moments()).add(*steps)


def _by_name(cluster: Sequence[Mapping[str, Any]], field: str) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for judged in cluster:
        for name, value in (judged.get(field) or {}).items():
            found.setdefault(name, []).append(value)
    return found


class EvaluationTally:
    """Add the records of a run one by one, in the order of its images, then ask for `evaluation`."""

    def __init__(self, head: EvaluationHead) -> None:
        self._head = head
        self._images = self._cases = 0
        self._rows: dict[RowKey, _Row] = {}
        self._controls: dict[RowKey, _Row] = {}
        self._ranks = {column.name: _Ranks() for column in head.columns if column.better != "none"}
        self._apart: dict[tuple[RowKey, RowKey], Moments] = {}
        self._alike: dict[tuple[RowKey, RowKey], Moments] = {}
        self._mosaics: list[MosaicRecord] | None = None
        self._marked = dict.fromkeys(("of_class", "of_all", "none"), 0)
        self._marked_labels: dict[str, None] = {}
        # Of networks that differ, each has controls of its own.
        self._controls_of = {one.name: one.controls for one in head.runs or ()}
        self._one_kind = len(set(self._controls_of.values())) < 2

    def add(self, record: Mapping[str, Any]) -> None:
        """Take in an image's record, as the manifest has it; one without judged maps does not count."""
        cases = list(judged_cases(record))
        if not cases:
            return
        self._images += 1
        self._cases += len(cases)
        self._add_cluster(cases)
        self._add_agreement(record)
        self._add_marked(record.get("marked") or (), len(cases))

    def add_mosaics(self, found: MosaicsFound | None) -> None:
        """Take in what was found of mosaics, after all records; None where none were made."""
        plan = self._head.mosaics
        if plan is None:
            return
        self._mosaics = list(found.mosaics) if found else []
        for mosaic in self._mosaics:
            self._add_cluster(list(mosaic_cases([mosaic])))
        why = (found.undone if found else NO_MOSAICS) if not self._mosaics else ""
        for row in (*self._rows.values(), *self._controls.values()) if why else ():
            row.undone.setdefault(plan.measure, why)

    def _add_cluster(self, cases: Sequence[Mapping[RowKey, Mapping[str, Any]]]) -> None:
        """Take in the targets of one image, or the images of one mosaic: cases that are not independent."""
        judged: dict[RowKey, list[Mapping[str, Any]]] = {}
        over: dict[RowKey, list[tuple[Mapping[str, float], Mapping[str, Mapping[str, float]]]]] = {}
        apart: dict[tuple[RowKey, RowKey], list[float]] = {}
        for case in cases:
            numbers = {key: one.get("measures") or {} for key, one in case.items()}
            controls: dict[str, dict[str, Mapping[str, float]]] = {}
            for key, known in numbers.items():
                if not key[0]:
                    controls.setdefault(key[3], {})[key[1]] = known
            methods = {key: known for key, known in numbers.items() if key[0]}
            for key, one in case.items():
                judged.setdefault(key, []).append(one)
            for key, known in methods.items():
                over.setdefault(key, []).append((known, controls.get(self._controls_of.get(key[3], ""), {})))
            for name, ranks in self._ranks.items():
                ranks.add({key: known[name] for key, known in methods.items() if name in known})
            for pair, step in self._steps(methods):
                apart.setdefault(pair, []).append(step)
        for key, cluster in judged.items():
            rows = self._rows if key[0] else self._controls
            rows.setdefault(key, _Row()).add(cluster)
        for key, pairs in over.items():
            self._rows[key].add_differences(pairs)
        for two, steps in apart.items():
            self._apart.setdefault(two, Moments()).add(*steps)

    def _steps(self, numbers: Mapping[RowKey, Mapping[str, float]]) -> Iterator[tuple[tuple[RowKey, RowKey], float]]:
        """Of each two rows the difference in the leading column, in one order, whichever comes first in an image."""
        leading = [(key, known[self._head.order_by]) for key, known in numbers.items() if self._head.order_by in known]
        for at, (key, number) in enumerate(leading):
            for other, second in leading[at + 1 :]:
                yield ((key, other), number - second) if key < other else ((other, key), second - number)

    def _add_marked(self, marked: Sequence[Mapping[str, Any]], cases: int) -> None:
        of_class = [one for one in marked if one["of_class"]]
        self._marked["of_class"] += len(of_class)
        self._marked["of_all"] += len(marked) - len(of_class)
        self._marked["none"] += max(0, cases - len(marked))
        for label in (label for one in of_class for label in one["labels"]):
            if len(self._marked_labels) < MOST_LABELS:
                self._marked_labels[label] = None

    @property
    def _marked_summary(self) -> MarkedSummary | None:
        """By what maps were judged; None where nothing is marked anywhere."""
        if not self._marked["of_class"] + self._marked["of_all"]:
            return None
        return MarkedSummary(**self._marked, labels=sorted(self._marked_labels))

    def _add_agreement(self, record: Mapping[str, Any]) -> None:
        agreement = record.get("agreement")
        if not agreement:
            return
        keys = {output["path"]: _key_of(output) for output in record["outputs"] if output.get("method")}
        maps = [keys.get(path) for path in agreement["maps"]]
        for at, key in enumerate(maps):
            for other, number in zip(maps, agreement["rows"][at], strict=True):
                if key and other and number is not None and key <= other:
                    self._alike.setdefault((key, other), Moments()).add(number)

    @property
    def evaluation(self) -> Evaluation:
        """What came of all records."""
        head = self._head
        bands = {column.name: self._band(column.name) for column in head.columns}
        keys = self._order()
        return Evaluation(
            images=self._images,
            cases=self._cases,
            measures=head.measures,
            columns=[
                column.model_copy(update={"alpha": self._alpha(column), "controls": bands[column.name]})
                for column in head.columns
            ],
            methods=[self._row(key, self._rows[key]) for key in keys],
            controls=[self._row(key, row) for key, row in self._controls.items()],
            agreement=self._agreement(keys),
            order_by=head.order_by,
            tell_apart=self._tell_apart(keys),
            left_out=head.left_out,
            mosaics=self._mosaics,
            runs=head.runs,
            marked=self._marked_summary,
        )

    def _alpha(self, column: ColumnRecord) -> float | None:
        found = self._ranks[column.name].alpha if column.name in self._ranks else None
        return None if found is None else six_digits(found)

    def _band(self, column: str) -> tuple[float, float] | None:
        means = [row.cells[column].mean for row in self._controls.values() if column in row.cells]
        return (six_digits(min(means)), six_digits(max(means))) if means else None

    def _order(self) -> list[RowKey]:
        """The rows, the best first; those without a number last, otherwise as the run has them."""
        head = self._head
        places = {(method.method, method.run or ""): at for at, method in enumerate(head.methods)}
        keys = sorted(self._rows, key=lambda key: places.get((key[1], key[3]), len(places)))
        column = next((one for one in head.columns if one.name == head.order_by), None)
        if column is None:
            return keys
        sign = -1 if column.better == "high" else 1

        def place(key: RowKey) -> tuple[bool, float]:
            cell = self._rows[key].cells.get(column.name)
            return cell is None, 0.0 if cell is None else sign * cell.mean

        return sorted(keys, key=place)

    def _row(self, key: RowKey, row: _Row) -> RowRecord:
        family, method, layer, run = key
        known = self._method_of(key) if family else None
        return RowRecord(
            family=family or None,
            method=method,
            title=known.title if known else method,
            layer=layer or None,
            passes=known.passes if known else None,
            measures={
                column.name: _cell_record(row.cells[column.name], column, row.over.get(column.name) or {})
                for column in self._head.columns
                if column.name in row.cells
            },
            curves={
                name: [six_digits(one.mean) for one in points] for name, points in row.curves.items() if points[0].count
            },
            undone={name: why for name, why in row.undone.items() if name not in row.cells},
            marks=(known and self._marks(known, row)) or None,
            run=(run or None) if family or not self._one_kind else None,
        )

    def _method_of(self, key: RowKey) -> MethodRecord | None:
        return next((one for one in self._head.methods if (one.method, one.run or "") == (key[1], key[3])), None)

    def _marks(self, method: MethodRecord, row: _Row) -> list[str]:
        """What a reader has to know of a method's numbers, in sentences."""
        found = []
        judged = {one.measure for one in self._head.columns if one.name in row.cells}
        alike = [
            one.title for one in self._head.measures if one.name in (method.own_means or ()) and one.name in judged
        ]
        if alike:
            found.append(f"{', '.join(alike)}: judged by its own means, it fills what it hides as the measure does.")
        for column in self._head.columns:
            cell = row.cells.get(column.name)
            if cell is None or column.limit is None or column.mark is None:
                continue
            if (
                six_digits(cell.mean) > column.limit
                if column.better == "low"
                else six_digits(cell.mean) <= column.limit
            ):
                found.append(column.mark)
        return found

    def _tell_apart(self, keys: Sequence[RowKey]) -> int | None:
        if len(keys) < 2:
            return None
        found = self._apart.get((min(keys[:2]), max(keys[:2])))
        needed = found.clusters_to_tell if found else None
        plan, leading = self._head.mosaics, self._head.order_by
        in_mosaics = plan is not None and any(
            one.name == leading and one.measure == plan.measure for one in self._head.columns
        )
        return needed if needed is None or not in_mosaics else IMAGES * needed

    def _agreement(self, keys: Sequence[RowKey]) -> AgreementOfMethods | None:
        known = [key for key in keys if (key, key) in self._alike]
        if len(known) < 2:
            return None
        pairs = [[self._alike.get((min(a, b), max(a, b))) for b in known] for a in known]
        rows = [[None if pair is None else six_digits(pair.mean) for pair in row] for row in pairs]
        return AgreementOfMethods(names=[self._name_of(key) for key in known], rows=rows)

    def _name_of(self, key: RowKey) -> str:
        known = self._method_of(key)
        title = known.title if known else key[1]
        several = sum(other[:2] == key[:2] for other in self._rows) > 1
        return f"{title} {key[2]}" if several else title


def _cell_record(cell: _Cell, column: ColumnRecord, over: Mapping[str, Moments]) -> CellRecord:
    ranks = column.ranked and column.better != "none"
    differences = [_difference(control, moments) for control, moments in over.items()] if ranks else []
    nearest = min(differences, key=lambda one: margin(one.mean, one.error, column.better), default=None)
    return CellRecord(
        mean=six_digits(cell.mean),
        error=None if cell.error is None else six_digits(cell.error),
        median=six_digits(median(cell.kept)) if cell.count <= MOST_KEPT else None,
        count=cell.count,
        clusters=None if cell.clusters == cell.count else cell.clusters,
        nearest_control=nearest,
        beats_controls=None if nearest is None else margin(nearest.mean, nearest.error, column.better) > 0,
    )


def _difference(control: str, moments: Moments) -> ControlDifference:
    error = None if moments.error is None else six_digits(moments.error)
    return ControlDifference(control=control, mean=six_digits(moments.mean), error=error)


def _key_of(output: Mapping[str, Any]) -> RowKey:
    return output["family"], output["method"], output.get("layer") or "", output.get("run") or ""


def judged_cases(record: Mapping[str, Any]) -> Iterator[dict[RowKey, Mapping[str, Any]]]:
    """Of an image's record what was judged for its first target, its second and so on: by method and layer, or by
    control, what has measures, curves and reasons."""
    cases: list[dict[RowKey, Mapping[str, Any]]] = []
    seen: dict[RowKey, int] = {}
    outputs = [(_key_of(one), one) for one in record.get("outputs") or () if one.get("method")]
    controls = [(("", one["name"], "", one.get("run") or ""), one) for one in record.get("controls") or ()]
    for key, judged in (*outputs, *controls):
        if judged.get("measures") is None and judged.get("undone") is None:
            continue
        at = seen[key] = seen.get(key, -1) + 1
        cases += [{} for _ in range(at + 1 - len(cases))]
        cases[at][key] = judged
    yield from cases


def mosaic_cases(mosaics: Sequence[MosaicRecord]) -> Iterator[dict[RowKey, Mapping[str, Any]]]:
    """Of each image of each mosaic, as `judged_cases` has it, what was found of its class."""
    for mosaic in mosaics:
        for image in range(len(mosaic.of)):
            yield {
                (one.family or "", one.method, one.layer or "", ""): {
                    "target": mosaic.labels[image],
                    "measures": {
                        name: number for name, numbers in one.measures.items() if (number := numbers[image]) is not None
                    },
                    "undone": one.undone or {},
                }
                for one in mosaic.maps
            }
