"""What export writes as a table is what the manifest says, cell by cell, in CSV and in Parquet."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from exports.saved import CAT, DOG, failed, image, output, save

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.records import DreamRecord, ImageRecord, Prediction, SingleSubject, Subject, Term
from cnnviz_cli.exports.api import export_run
from cnnviz_cli.exports.common.columns import COLUMNS

FORMULA = '=HYPERLINK("http://x","y")'
BOX = Prediction(index=3, label="boat", probability=0.5, box=(1.25, 2.0, 3.0, 4.5), rank=2)
UNIT = Subject(layer="conv", channel=7)


def everything() -> list[ImageRecord]:
    """An image right, one wrong, one whose class is not known, one that failed, one with a box, and a painted one."""
    judged = {"measures": {"removal.gain": 0.1, "drop": -1e-7}, "statistics": {"dead_share": 1 / 3}}
    dream = DreamRecord(objective="channel 7", start="noise", number=1, steps=9, score=2.5, start_score=0.5, rank=None)
    painted = output(
        "conv-channel-7/dream.png", family="dream", method="octaves", target=None, range=None, scale=None, dream=dream
    )
    return [
        image("a/right.png", output("a/right.png/gradcam.png", **judged), output("o.png", method=None), truth=CAT),
        image('wrong, "quoted".png', output("w.png", target=DOG, contrast=CAT, counterfactual=True), truth=DOG),
        image(FORMULA, output("f.png", state="flat", scale=None, layer="-1+1"), predictions=[CAT]),
        failed("gone.png", "line one\nline two\x1b[31m"),
        image("boats.png", output("b.png", target=BOX), predictions=[BOX]),
        image(UNIT.name, painted, subject=UNIT, predictions=[], seen=None),
        image("nothing.png"),
    ]


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return save(tmp_path / "out", *everything())


def test_a_line_is_an_output_and_an_image_without_one_has_a_line(out: Path) -> None:
    export_run(out, "csv")
    rows = read_csv(out.with_name("out.csv"))
    expected = [(one.source, made.path if made else "") for one in everything() for made in one.outputs or [None]]
    found = [(row["source"], row["path"]) for row in rows]
    assert found == [(f"'{name}" if name == FORMULA else name, path) for name, path in expected]
    assert list(rows[0]) == [
        *(one.name for one in COLUMNS),
        "statistic.dead_share",
        "measure.drop",
        "measure.removal.gain",
    ]


def test_cells_are_those_of_the_manifest(out: Path) -> None:
    export_run(out, "csv")
    right, overview, wrong, _, gone, boats, painted, nothing = read_csv(out.with_name("out.csv"))
    assert {name: cell for name, cell in right.items() if cell} == {
        "model": "net", "weights": "of 2024", "source": "a/right.png", "image_sha256": "2" * 64, "image_width": "8",
        "image_height": "6", "seen_left": "0.0", "seen_top": "0.0", "seen_right": "8.0", "seen_bottom": "6.0",
        "status": "ok", "truth": "tiger cat", "truth_index": "282", "truth_probability": "0.625", "right": "true",
        "predicted": "tiger cat", "predicted_index": "282", "predicted_probability": "0.625",
        "predictions": '[{"index":282,"label":"tiger cat","probability":0.625},'
        '{"index":0,"label":"tench","probability":0.25}]',
        "family": "gradcam", "method": "gradcam", "layer": "conv", "target": "tiger cat", "target_index": "282",
        "target_probability": "0.625", "counterfactual": "false", "state": "ok", "range_low": "0.0",
        "range_high": "2.0", "scale_low": "0.0", "scale_high": "2.0", "path": "a/right.png/gradcam.png",
        "sha256": "1" * 64, "width": "20", "height": "10", "statistic.dead_share": "0.3333333333333333",
        "measure.drop": "-1e-07", "measure.removal.gain": "0.1",
    }  # fmt: skip
    assert overview["method"] == ""
    assert overview["measure.drop"] == ""
    assert wrong["source"] == 'wrong, "quoted".png'
    assert wrong["right"] == "false"
    assert (wrong["target_index"], wrong["contrast"], wrong["counterfactual"]) == ("0", "tiger cat", "true")
    assert gone["status"] == "failed"
    assert gone["right"] == ""
    assert gone["family"] == ""
    assert [boats[f"target_{side}"] for side in ("left", "top", "right", "bottom", "rank")] == [
        "1.25", "2.0", "3.0", "4.5", "2",
    ]  # fmt: skip
    assert painted["source"] == "conv channel 7"
    assert painted["dream_score"] == "2.5"
    assert (painted["objective"], painted["dream_start"], painted["dream_rank"]) == ("channel 7", "noise", "")
    assert nothing["status"] == "ok"
    assert nothing["path"] == ""


def test_foreign_text_is_no_formula_and_no_control_character(out: Path) -> None:
    export_run(out, "csv")
    data = out.with_name("out.csv").read_bytes()
    assert not any(byte < 32 for byte in data.replace(b"\n", b""))
    rows = read_csv(out.with_name("out.csv"))
    texts = [row[one.name] for row in rows for one in COLUMNS if one.kind == "text"]
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in texts)
    assert rows[3]["layer"] == "'-1+1"
    assert rows[4]["error"] == "line one\\nline two\\x1b[31m"


def test_parquet_has_the_same_cells_with_their_types(out: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    pa = pytest.importorskip("pyarrow")
    export_run(out, "csv")
    export_run(out, "parquet")
    table = parquet.read_table(out.with_name("out.parquet"))
    kinds: dict[str, Any] = {"text": pa.string(), "whole": pa.int64(), "number": pa.float64(), "yes": pa.bool_()}
    assert [(one.name, one.type) for one in table.schema][: len(COLUMNS)] == [(c.name, kinds[c.kind]) for c in COLUMNS]
    read: Mapping[str, Callable[[str], Any]] = {
        "text": str, "whole": int, "number": float, "yes": {"true": True, "false": False}.__getitem__,
    }  # fmt: skip
    of = {one.name: one.kind for one in COLUMNS}
    rows = read_csv(out.with_name("out.csv"))
    for written, row in zip(table.to_pylist(), rows, strict=True):
        for name, cell in written.items():
            if name in ("source", "layer", "error") and row[name]:
                continue  # escaped in CSV alone
            assert cell == (read[of.get(name, "number")](row[name]) if row[name] else None), name
    assert table.column("source").to_pylist()[3] == FORMULA
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert table.schema.metadata[b"manifest_sha256"].decode() == manifest["sha256"]


@pytest.mark.parametrize("to", ["csv", "parquet"])
def test_the_same_run_gives_the_same_bytes(out: Path, tmp_path: Path, to: str) -> None:
    if to == "parquet":
        pytest.importorskip("pyarrow")
    for name in ("one", "two"):
        export_run(out, to, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_manifest_that_another_program_wrote_anew_gives_the_same_table(out: Path, tmp_path: Path) -> None:
    export_run(out, "csv", tmp_path / "one.csv")
    path = out / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")), indent=4), encoding="utf-8")
    export_run(out, "csv", tmp_path / "two.csv")
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()


def test_with_multilabel_an_image_is_right_if_its_class_has_one_half(tmp_path: Path) -> None:
    out = save(tmp_path / "out", image("a", truth=CAT), image("b", truth=DOG, predictions=[CAT]), multilabel=True)
    export_run(out, "csv")
    assert [row["right"] for row in read_csv(out.with_name("out.csv"))] == ["true", "false"]


def test_a_sum_of_objectives_has_its_name(tmp_path: Path) -> None:
    terms = (Term(weight=1.0, of=SingleSubject(class_index=282, label="tiger cat")),)
    subject = Subject(terms=terms)
    out = save(tmp_path / "out", image("x", output("x.png", subject=subject), subject=subject))
    export_run(out, "csv")
    assert read_csv(out.with_name("out.csv"))[0]["subject"] == subject.name


def test_a_number_beyond_64_bits_is_one_sentence(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    out = save(tmp_path / "out", image("a", output("a.png", width=2**70)))
    with pytest.raises(UsageError, match="64 bits") as error:
        export_run(out, "parquet")
    assert "--to csv" in error.value.fix
    assert sorted(one.name for one in tmp_path.iterdir()) == ["out"]


def test_without_pyarrow_the_sentence_names_the_extra(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnviz_cli.exports.parquet.find_spec", lambda _name: None)
    with pytest.raises(UsageError, match="pyarrow") as error:
        export_run(out, "parquet")
    assert "cnnviz-cli[parquet]" in error.value.fix
