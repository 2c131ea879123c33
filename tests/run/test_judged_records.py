"""What records and captions say of judged maps."""

from __future__ import annotations

import pytest

from cnnviz_cli.core.control_maps import CONTROLS as NAMES
from cnnviz_cli.core.evaluation_records import ColumnRecord, EvaluationHead, MeasureRecord
from cnnviz_cli.core.judgements import JudgedControl, JudgedImage, Judgement, MapAgreement
from cnnviz_cli.render import Finding
from cnnviz_cli.run.judged_records import agreement_record, control_records, findings_of, judged_fields


def column(name: str, measure: str, better: str = "high", *, ranked: bool = True) -> ColumnRecord:
    return ColumnRecord(name=name, measure=measure, title=name, better=better, chance=None, ranked=ranked)


HEAD = EvaluationHead(
    measures=[
        MeasureRecord(name=name, title=title, paper="", options={}) for name, title in (("a", "Aa"), ("b", "Bb"))
    ],
    columns=[
        column("a.most", "a", "low", ranked=False),
        column("a", "a", "low"),
        column("b.gain", "b"),
        column("b.other", "b"),
    ],
    methods=[],
    order_by="b.gain",
)


def judged(gain: float, other: float = 0.5) -> Judgement:
    return Judgement({"b.gain": gain, "a": other})


CONTROLS = [
    JudgedControl(NAMES[0], 0, judged(0.1)),
    JudgedControl(NAMES[1], 0, judged(-0.08)),
    JudgedControl("centre", 0, judged(0.3)),
    JudgedControl(NAMES[0], 1, judged(0.7)),
]


def test_the_leading_column_stands_first_beside_what_the_best_control_gets() -> None:
    (found,) = findings_of([(0, judged(0.234))], HEAD, CONTROLS)
    assert found == (Finding("b gain 0.23 (best control 0.30)"), Finding("aa 0.50 (best control 0.50)"))
    assert findings_of([(0, judged(-0.001))], HEAD, [])[0][0] == Finding("b gain 0.00")
    assert findings_of([(0, None), (0, Judgement(undone={"b": "flat"}))], HEAD, CONTROLS) == [(), ()]


def test_the_best_of_those_for_one_target_are_strong() -> None:
    maps = [(0, judged(0.2, 0.1)), (0, judged(0.4, 0.3)), (1, judged(0.1, 0.9)), (1, judged(0.3, 0.8)), (0, None)]
    found = findings_of(maps, HEAD, CONTROLS)
    assert [[one.strong for one in row] for row in found] == [
        [False, True], [True, False], [False, False], [False, False], [],
    ]  # fmt: skip
    unheld = findings_of(maps, HEAD, [])
    assert [[one.strong for one in row] for row in unheld] == [
        [False, True], [True, False], [False, False], [True, True], [],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("gain", "control", "error", "strong"),
    [(0.08, 0.09, 0.0, False), (0.3, 0.1, 0.1, True), (0.3, 0.1, 0.25, False), (0.304, 0.296, 0.0, False)],
)
def test_no_map_is_crowned_that_a_control_equals_or_beats_but_for_its_error(
    gain: float, control: float, error: float, *, strong: bool
) -> None:
    columns = [column("b.gain", "b").model_copy(update={"error": "b.off"}), column("b.off", "b", "low", ranked=False)]
    head = HEAD.model_copy(update={"columns": columns})
    maps = [(0, Judgement({"b.gain": gain, "b.off": error})), (0, Judgement({"b.gain": 0.0, "b.off": 0.0}))]
    found = findings_of(maps, head, [JudgedControl(name, 0, Judgement({"b.gain": control})) for name in NAMES[2:]])
    assert [row[0].strong for row in found] == [strong, False]
    assert all(f"(best control {control:.2f})" in row[0].text for row in found)


def test_records_have_six_digits_and_nothing_empty() -> None:
    assert judged_fields(Judgement({"a": 1 / 3, "b": -1e-320})) == {"measures": {"a": 0.333333, "b": -1e-320}}
    assert judged_fields(Judgement({}, {"a.x": (1 / 3, 1.0)}, {"b": "flat"})) == {
        "measures": {}, "undone": {"b": "flat"}, "curves": {"a.x": [0.333333, 1.0]},
    }  # fmt: skip


@pytest.mark.parametrize(("targets", "count"), [(["cat", "dog"], 4), (["cat", None], 3), ([None], 3), ([], 0)])
def test_controls_are_recorded_for_the_targets_that_are_there(targets: list[str | None], count: int) -> None:
    found = control_records(JudgedImage([], CONTROLS), targets)
    assert len(found or []) == count
    assert all(one.target in targets for one in found or [])


def test_agreement_is_of_the_figures_that_were_drawn() -> None:
    rows = ((1.0, 0.25, None), (0.25, 1.0, None), (None, None, None))
    image = JudgedImage([], [], MapAgreement(((0, 0), (1, 0), (2, 0)), rows))
    found = agreement_record(image, {(0, 0): "a.png", (2, 0): "c.png"})
    assert found is not None
    assert (found.maps, found.rows) == (["a.png", "c.png"], [[1.0, None], [None, None]])
    assert agreement_record(JudgedImage([], []), {}) is None
