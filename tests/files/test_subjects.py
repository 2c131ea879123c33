"""Records of units of the network: journal, manifest, resuming, merging and verifying take them like any other."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from files.test_manifest import MODEL, RUN, TOOL, record

from cnnviz_cli.core.records import ImageRecord, Manifest, Output, Subject
from cnnviz_cli.files.output.journal import parse_record, to_compact_json
from cnnviz_cli.files.output.merge_shards import merge_shards
from cnnviz_cli.files.output.resume import Ledger, RunHeader
from cnnviz_cli.files.output.shards import SINGLE_SHARD, Shard
from cnnviz_cli.files.output.sink import Sink
from cnnviz_cli.files.output.verify import verify

UNITS = [
    Subject(layer="features.0", channel=3),
    Subject(class_index=7),
    Subject(layer="features.5", direction="striped"),
    Subject(layer="features.5"),
]
HEADER = RunHeader({"weights": "0"}, TOOL, RUN, MODEL)
SLOTS = [(unit, f"units/{number}") for number, unit in enumerate(UNITS)]
NAMES = [unit.name for unit in UNITS]


def drawn(root: Path, unit: Subject, folder: str) -> ImageRecord:
    """A made-up figure of a unit, and its record."""
    path = f"{folder}/figure.svg"
    data = f'<?xml version="1.0"?><svg xmlns="" id="{unit.name}"/><!-- Software: cnnviz -->'.encode()
    sha256 = Sink(root).write(path, data)
    output = Output(
        family="dream", method=None, layer=unit.layer, subject=unit, target=None, path=path, sha256=sha256, width=1,
        height=1, range=None, state="ok",
    )  # fmt: skip
    return ImageRecord(
        source=unit.name, subject=unit, sha256=None, width=None, height=None, status="ok", error=None, predictions=[],
        outputs=[output],
    )  # fmt: skip


def explain(root: Path, shard: Shard = SINGLE_SHARD, *, most: int = 99) -> list[str]:
    """Do what is due, at most so many units; the names of those."""
    done: list[str] = []
    root.mkdir(exist_ok=True)
    own = [SLOTS[at] for at in shard.positions(len(SLOTS), 1)]
    with Ledger(Sink(root), shard) as ledger:
        ledger.begin(HEADER, NAMES, own)
        for at, (unit, folder) in enumerate(own):
            if ledger.is_due(at) and len(done) < most:
                ledger.append(drawn(root, unit, folder))
                done.append(unit.name)
        ledger.finish(interrupted=len(done) == most)
    return done


def test_each_unit_has_a_name_of_its_own() -> None:
    assert NAMES == ["features.0 channel 3", "class 7", "features.5 direction striped", "features.5"]


def test_a_run_over_units_resumes_and_verifies(tmp_path: Path) -> None:
    assert explain(tmp_path / "one") == NAMES
    out = tmp_path / "out"
    assert explain(out, most=2) == NAMES[:2]
    assert explain(out) == NAMES[2:]
    assert explain(out) == []
    assert verify(out) == []
    assert (out / "manifest.json").read_bytes() == (tmp_path / "one" / "manifest.json").read_bytes()
    manifest = Manifest.model_validate_json((out / "manifest.json").read_bytes())
    assert [image.subject for image in manifest.images] == UNITS
    assert [output.subject for image in manifest.images for output in image.outputs] == UNITS
    (out / "units/1/figure.svg").write_bytes(b"cut")
    assert [problem.path for problem in verify(out)] == ["units/1/figure.svg"]
    assert explain(out) == [NAMES[1]]
    assert verify(out) == []


def test_shards_of_units_are_merged(tmp_path: Path) -> None:
    explain(tmp_path / "one")
    out = tmp_path / "out"
    done = [name for index in (1, 0) for name in explain(out, Shard(index, 2))]
    assert sorted(done) == sorted(NAMES)
    assert merge_shards(out).missing == 0
    assert (out / "manifest.json").read_bytes() == (tmp_path / "one" / "manifest.json").read_bytes()
    assert explain(out) == []  # by one process
    assert verify(out) == []


def test_a_record_of_something_else_by_the_same_name_does_not_count(tmp_path: Path) -> None:
    explain(tmp_path)
    journal = tmp_path / "manifest.jsonl"
    other = drawn(tmp_path, UNITS[1], SLOTS[1][1]).model_copy(update={"subject": None})
    with Ledger(Sink(tmp_path)) as ledger:
        ledger.begin(HEADER, NAMES, SLOTS)
        ledger.append(other)
    assert b'"subject"' in journal.read_bytes()
    assert explain(tmp_path) == [NAMES[1]]


def test_what_is_about_an_image_says_nothing_of_subjects() -> None:
    """So that manifests of images are the bytes they were, and older ones are read."""
    data = to_compact_json(record(1).model_dump(mode="json"))
    assert b"subject" not in data
    assert parse_record(data)["source"] == "cats/1.png"


@pytest.mark.parametrize("subject", [{"layer": "a", "channel": -1}, {"layer": "a", "what": 1}, {"layer": 7}, "a", []])
def test_only_units_are_subjects(subject: object) -> None:
    made = json.loads(to_compact_json(drawn_without_files().model_dump(mode="json")))
    assert parse_record(to_compact_json(made))
    with pytest.raises(ValueError, match="subject"):
        parse_record(to_compact_json({**made, "subject": subject}))


def drawn_without_files() -> ImageRecord:
    return ImageRecord(
        source=UNITS[0].name, subject=UNITS[0], sha256=hashlib.sha256(b"").hexdigest(), width=None, height=None,
        status="ok", error=None, predictions=[], outputs=[],
    )  # fmt: skip
