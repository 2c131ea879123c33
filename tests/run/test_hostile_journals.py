"""Journals and lists that a stranger has written: the bad line is dropped and said, and nothing of it is taken over."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from run.resuming import Listener, files_of, photographs, run

from cnnviz_cli.core.errors import CnnvizError, UsageError
from cnnviz_cli.core.records import ImageRecord
from cnnviz_cli.files.inputs.search import Source
from cnnviz_cli.files.output.journal import JournalEntry, is_relative_path, parse_line, parse_record, to_compact_json
from cnnviz_cli.files.output.merge_shards import merge_shards
from cnnviz_cli.files.output.shards import Shard
from cnnviz_cli.files.output.verify import verify

pytestmark = pytest.mark.usefixtures("tiny_network")

MARK = b',"~image":'


@pytest.fixture
def sources(tmp_path: Path) -> list[Source]:
    return photographs(tmp_path / "in", 5)


def forged(line: bytes, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> bytes:
    """A line with something changed in what it says of the image and in the record, its checksum right."""
    cut = line.index(MARK)
    about, record = json.loads(line[:cut] + b"}"), json.loads(line[cut + len(MARK) : -2])
    change(about, record)
    return assembled(about, json.dumps(record, sort_keys=True, ensure_ascii=True, separators=(",", ":")).encode())


def assembled(about: dict[str, Any], data: bytes) -> bytes:
    about["crc"] = zlib.crc32(data)
    return json.dumps(about, sort_keys=True, separators=(",", ":")).encode()[:-1] + MARK + data + b"}\n"


def leading(path: str) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    """A change of the picture's path, where the line says it and where the record does."""

    def change(about: dict[str, Any], record: dict[str, Any]) -> None:
        about["files"][0][0] = record["outputs"][0]["path"] = path

    return change


def both(key: str, value: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    def change(about: dict[str, Any], record: dict[str, Any]) -> None:
        record[key] = value
        if key in about:
            about[key] = value

    return change


def told(key: str, value: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    return lambda about, _record: about.update({key: value})


def recorded(key: str, value: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    return lambda _about, record: record.update({key: value})


FORGERIES: dict[str, Callable[[dict[str, Any], dict[str, Any]], None]] = {
    "a path that leads up": leading("0.png/../../x.png"),
    "a path from the root": leading("/etc/passwd"),
    "a path with a NUL": leading("0.png/x\0.png"),
    "a path with a backslash": leading("0.png\\..\\x.png"),
    "a path that is half a character": leading("0.png/\udcff.png"),
    "a path of another image, in the record alone": recorded("outputs", []),
    "a path that is a number": lambda about, _record: about["files"].__setitem__(0, [7, 7]),
    "files that are a word": told("files", "word"),
    "a size that is a truth": lambda about, _record: about["files"][0].__setitem__(1, True),
    "a size below zero": lambda about, _record: about["files"][0].__setitem__(1, -1),
    "a size of a thousand digits": lambda about, _record: about["files"][0].__setitem__(1, 10**1000),
    "a size that is nested": lambda about, _record: about["files"][0].__setitem__(1, [[1]]),
    "outputs without end": told("outputs", 2**80),
    "outputs that are none": told("outputs", None),
    "a stamp that is a word": told("stamp", "ab"),
    "a stamp of three": told("stamp", [1, 2, 3]),
    "a stamp of words": told("stamp", ["1", "2"]),
    "a source that is a list": both("source", ["0.png"]),
    "a source that is half a character": both("source", "0.png\ud800"),
    "a source that the record has otherwise": told("source", "1.png"),
    "ok that is a list": told("ok", []),
    "ok of what failed": recorded("status", "failed"),
    "a digest that is a number": both("sha256", 7),
    "a width that is a word": recorded("width", "wide"),
    "a width that is not finite": recorded("width", float("inf")),
    "a key that no record has": recorded("host", "here"),
    "predictions that are nested": recorded("predictions", [[[[]]]]),
    "a probability above one": lambda _about, record: record["predictions"][0].update(probability=7.0),
    "a probability that is none": lambda _about, record: record["predictions"][0].update(probability=float("nan")),
    "statistics of words": lambda _about, record: record["outputs"][0].update(statistics={"a": "b"}),
}


def others(line: bytes) -> dict[str, bytes]:
    """Lines that no change of values gives."""
    cut = line.index(MARK)
    about, data = json.loads(line[:cut] + b"}"), line[cut + len(MARK) : -2]
    nested = b"[" * 100_000
    return {
        "nested without end": nested + b"\n",
        "nested where the record is": assembled(about, nested),
        "nested in the record": assembled(about, data[:-1] + b',"z":' + nested + b"]" * 100_000 + b"}"),
        "nested in what is said": b'{"a":' + nested + MARK + data + b"}\n",
        "a key that stands twice": assembled(about, data.replace(b'"height"', b'"height":1,"height"', 1)),
        "another order of keys": assembled(about, json.dumps(dict(reversed(json.loads(data).items()))).encode()),
        "blanks": assembled(about, data.replace(b":", b": ", 1)),
        "no object": assembled(about, b"7"),
        "a NUL": line.replace(b"0.png", b"0.\0ng", 1),
        "no UTF-8": b"\xff\xfe" + line,
        "a header that is a list": b'{"journal":"cnnviz","header":[1]}\n',
        "a header that is nested": b'{"journal":"cnnviz","header":' + nested + b"\n",
        "a header of wrong types": b'{"journal":"cnnviz","header":{"digest":1,"generation":"x","identity":[],'
        b'"inputs":-1,"model":7,"run":null,"shard":"","tool":0}}\n',
        "a header with a generation of a thousand digits": b'{"journal":"cnnviz","header":{"digest":"","generation":1'
        + b"0" * 1000
        + b',"identity":{},"inputs":1,"model":{},"run":{},"shard":[0,1],"tool":{}}}\n',
        **{
            f"a header with {number}": b'{"journal":"cnnviz","header":{"digest":"","generation":1,"identity":{},'
            b'"inputs":1,"model":{},"run":{"config":{"x":' + number.encode() + b'}},"shard":[0,1],"tool":{}}}\n'
            for number in ("NaN", "-Infinity", "1e999")
        },
        "blank": b"\n",
    }


def lines_of(out: Path, name: str = "manifest.jsonl") -> list[bytes]:
    return (out / name).read_bytes().splitlines(keepends=True)


def first_ok(lines: list[bytes]) -> int:
    return next(at for at, line in enumerate(lines) if b'"source":"0.png"' in line)


def test_the_unforged_line_counts(tmp_path: Path, sources: list[Source]) -> None:
    """Else the forgeries would be dropped for another reason than theirs."""
    run(tmp_path / "out", sources)
    lines = lines_of(tmp_path / "out")
    line = lines[first_ok(lines)]
    assert isinstance(parse_line(line, 0), JournalEntry)
    assert isinstance(parse_line(forged(line, lambda _about, _record: None), 0), JournalEntry)


def test_every_forged_line_is_dropped_and_said(tmp_path: Path, sources: list[Source]) -> None:
    out = tmp_path / "out"
    run(out, sources)
    undisturbed, lines = files_of(out), lines_of(out)
    at = first_ok(lines)
    hostile = {name: forged(lines[at], change) for name, change in FORGERIES.items()} | others(lines[at])
    for name, line in hostile.items():
        assert parse_line(line, 0) is None, name
    # In the place of the image's own line, one that a run goes on over, and all of them at once.
    for name in ("a path that leads up", "nested without end", "a source that is half a character"):
        (out / "manifest.jsonl").write_bytes(b"".join([*lines[:at], hostile[name], *lines[at + 1 :]]))
        heard = Listener()
        run(out, sources, heard)
        assert any("a line of the journal cannot be read" in said for said in heard.warned), name
        assert "0.png" in heard.done_
        assert files_of(out) == undisturbed
        assert verify(out) == []
    (out / "manifest.jsonl").write_bytes(b"".join([*lines, *hostile.values()]))
    heard = Listener()
    run(out, sources, heard)
    assert any(f"{len(hostile)} lines of the journal" in said for said in heard.warned)
    assert "0.png" not in heard.done_
    assert files_of(out) == undisturbed


def test_merging_drops_what_is_forged_and_says_so(tmp_path: Path, sources: list[Source]) -> None:
    out = tmp_path / "out"
    for index in (0, 1):
        run(out, sources, shard=Shard(index, 2), batch_size="1")
    whole = merge_shards(out)
    manifest = (out / "manifest.json").read_bytes()
    assert (whole.missing, whole.damaged) == (0, 0)
    journal = out / "manifest.0-of-2.jsonl"
    lines = lines_of(out, journal.name)
    at = first_ok(lines)
    hostile = [forged(lines[at], change) for change in FORGERIES.values()] + list(others(lines[at]).values())
    journal.write_bytes(b"".join([*lines, *hostile]))
    again = merge_shards(out)
    assert (again.missing, again.damaged) == (0, len(hostile))
    assert (out / "manifest.json").read_bytes() == manifest
    journal.write_bytes(b"".join([*lines[:at], *lines[at + 1 :], hostile[0]]))
    assert merge_shards(out).first_missing == ["0.png"]


def test_a_header_with_a_model_of_another_version_is_refused_by_name(tmp_path: Path, sources: list[Source]) -> None:
    out = tmp_path / "out"
    for index in (0, 1):
        run(out, sources, shard=Shard(index, 2), batch_size="1")
        path = out / f"manifest.{index}-of-2.jsonl"
        path.write_bytes(path.read_bytes().replace(b'"num_classes":', b'"classes":'))
    with pytest.raises(UsageError, match="not one that this version wrote"):
        merge_shards(out)


@pytest.mark.parametrize("text", ["7", "[]", '"\\ud800"', "[" * 100_000, '{"a": 1}', "", "\0", '"0.png" "1.png"'])
def test_a_hostile_list_of_inputs_is_refused_and_written_again(
    tmp_path: Path, sources: list[Source], text: str
) -> None:
    out = tmp_path / "out"
    for index in (0, 1):
        run(out, sources, shard=Shard(index, 2), batch_size="1")
    (listing,) = out.glob("manifest.inputs-*.jsonl")
    good = listing.read_bytes()
    listing.write_text(text + "\n")
    with pytest.raises(UsageError, match="the list of inputs") as caught:
        merge_shards(out)
    assert caught.value.fix == "Run one of the shards again; it writes the list."
    run(out, sources, shard=Shard(0, 2), batch_size="1")
    assert listing.read_bytes() == good
    assert merge_shards(out).missing == 0


LINE = to_compact_json({"crc": 0, "files": [], "ok": False, "outputs": 0, "sha256": None, "source": "x", "stamp": None})

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(
    key=st.sampled_from(["files", "ok", "outputs", "sha256", "source", "stamp", "crc"]),
    value=VALUES,
    raw=st.binary(max_size=60),
)
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_line_at_all_raises(key: str, value: Any, raw: bytes) -> None:
    failed = ImageRecord(
        source="x", sha256=None, width=None, height=None, status="failed", error="e", predictions=[], outputs=[]
    )
    data = to_compact_json(failed.model_dump(mode="json"))
    about = json.loads(LINE) | {"crc": zlib.crc32(data)}
    good = to_compact_json(about)[:-1] + MARK + data + b"}\n"
    assert isinstance(parse_line(good, 0), JournalEntry)
    changed = json.dumps(about | {key: value}).encode()[:-1] + MARK + data + b"}\n"
    entry = parse_line(changed, 0)
    assert entry is None or (isinstance(entry, JournalEntry) and entry._replace(stamp=None) == parse_line(good, 0))
    assert parse_line(raw + b"\n", 0) is None
    parse_line(good[: len(good) // 2] + raw + b"\n", 0)


def test_numbers_keep_their_own_spelling() -> None:
    """The quick comparison spells 1e16 without the plus that the standard library writes; both are records of ours."""
    for number in (1e16, 1e-30, 1.7976931348623157e308, 5e-324, 0.1 + 0.2, -0.0, 123456789012345.0):
        record = ImageRecord(
            source="x", sha256=None, width=1, height=1, status="ok", error=None, predictions=[], outputs=[],
            seen={"size": (1, 1), "box": (number, 0.0, 1.0, 1.0)},
        )  # fmt: skip
        data = to_compact_json(record.model_dump(mode="json"))
        assert parse_record(data)["seen"] == {"size": (1, 1), "box": (number, 0.0, 1.0, 1.0)}


def test_paths_below() -> None:
    assert all(map(is_relative_path, ["x.png", "a/b/c.png", "..a/b..", "a b/~", ".hidden/x"]))
    assert not any(
        map(is_relative_path, ["", "/x", "a//b", "a/", "./a", "a/.", "a/../b", "..", "a\\b", "a\0b", None, 7, b"x"])
    )


@pytest.mark.parametrize("data", [b"[" * 100_000, b"\xff", b'{"images": NaN}', b"7", b"null", b'{"a":' * 50_000])
def test_a_hostile_manifest_is_no_manifest(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(data)
    with pytest.raises(CnnvizError, match="this is no valid manifest"):
        verify(tmp_path)
