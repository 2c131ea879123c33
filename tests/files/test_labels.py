"""Names of classes, in every form that people keep them in."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.files.tables.labels import read_labels


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("l.txt", "cat\ntiger cat\nd, e\n"),
        ("l.txt", "cat\r\n  tiger cat\r\nd, e\r\n\r\n\n"),
        ("names", "\ufeffcat\ntiger cat\nd, e"),
        ("l.json", '["cat", "tiger cat", "d, e"]'),
        ("l.JSON", '{"0": "cat", "2": "d, e", "1": "tiger cat"}'),
        ("l.json", '{"0": ["n1", "cat"], "1": ["n2", "tiger cat"], "2": ["n3", "d, e"]}'),
        ("l.json", '{"d, e": 2, "cat": 0, "tiger cat": 1}'),
        ("l.json", '{"model": "x", "id2label": {"0": "cat", "1": "tiger cat", "2": "d, e"}}'),
        ("l.csv", '0,cat\n1,tiger cat\n2,"d, e"\n'),
        ("l.csv", 'index,name\n1, tiger cat\n0,cat\n\n2,"d, e"\n'),
        ("l.csv", 'Name,wnid,Class\ncat,n1,0\ntiger cat,n2,1\n"d, e",n3,2\n'),
        ("l.csv", 'class,id\ncat,0\ntiger cat,1\n"d, e",2\n'),
        ("l.csv", "0;cat\n1;tiger cat\n2;d, e\n"),
        ("l.tsv", "index\tlabel\n0\tcat\n1\ttiger cat\n2\td, e\n"),
    ],
)
def test_three_names(name: str, content: str, tmp_path: Path) -> None:
    found = read_labels(written(tmp_path, name, content))
    assert found.names == ("cat", "tiger cat", "d, e")
    assert found.file == name
    assert found.sha256 == sha256(content.encode()).hexdigest()


def test_further_names_are_kept(tmp_path: Path) -> None:
    also = {"n02123045": 0, "n02123159": 1}
    by_number = {"0": ["n02123045", "tabby"], "1": ["n02123159", "tiger cat"]}
    assert read_labels(written(tmp_path, "a.json", json.dumps(by_number))).also == also
    assert read_labels(written(tmp_path, "a.csv", "id,synset,name\n1,n02123159,b\n0,N02123045,a\n")).also == also
    lines = read_labels(written(tmp_path, "synsets.txt", "n02123045 tabby, tabby cat\nn02123159 tiger cat\n"))
    assert (lines.also, lines.names) == (also, ("tabby, tabby cat", "tiger cat"))
    mixed = read_labels(written(tmp_path, "mixed.txt", "n02123045 tabby\nother\n"))
    assert (mixed.also, mixed.names) == ({}, ("n02123045 tabby", "other"))


def test_names_that_several_classes_bear_are_told_apart(tmp_path: Path) -> None:
    found = read_labels(written(tmp_path, "l.txt", "crane\ncat\nCrane\ncrane fly\n"))
    assert found.names == ("crane (0)", "cat", "Crane (2)", "crane fly")


@pytest.mark.parametrize(
    ("name", "content", "what", "fix"),
    [
        ("l.txt", "", "l.txt: this names no class", ""),
        ("l.txt", "\n\n", "this names no class", ""),
        ("l.txt", "a\n\nb\n", "l.txt:2: this line is empty", "A line for each class."),
        ("l.txt", b"a\nb\xff\n", "l.txt:2: this is not UTF-8", "Save it as UTF-8."),
        ("l.txt", "a\nb".encode("utf-16"), "l.txt:1: this is not UTF-8", ""),
        ("l.json", "[1,", "this is no JSON of labels", ""),
        ("l.json", "[" * 100_000, "this is no JSON of labels", ""),
        ("l.json", "3", "neither a list nor an object", ""),
        ("l.json", '["a", 3]', "class 1 has no name, but 3", ""),
        ("l.json", '["a", " "]', "class 1 has no name", ""),
        ("l.json", r'["a", "\ud800b"]', r"the name of class 1 is no text: \ud800b", ""),
        ("l.json", '["a", ["b", "c", "d"]]', "class 1 has no name", ""),
        ("l.json", '{"0": "a", "0": "b"}', "the key '0' stands twice", ""),
        ("l.json", '{"0": "a", "00": "b"}', '"00": index 0 stands twice', ""),
        ("l.json", '{"0": "a", "x": "b"}', "'x' is no index of a class", ""),
        ("l.json", '{"1": "a", "2": "b"}', "there is no index 0 among 2 indices", "Classes count from 0."),
        ("l.json", '{"0": "a", "2": "b"}', "there is no index 1 among 2 indices", ""),
        ("l.json", '{"a": 0, "b": 0}', "index 0 has several names", ""),
        ("l.csv", "0,a\n0,b\n", "line 2: index 0 stands twice", ""),
        ("l.csv", "0,a\nx,b\n", "line 2: 'x' is no index of a class", ""),
        ("l.csv", "0,a\n1\n", "l.csv:2: this row is too short", ""),
        ("l.csv", "0,a,b\n", "l.csv:1: this row has more than an index and a name", "in quotes"),
        ("l.csv", "cat\ndog\n", "l.csv:1: no columns of indices and names", "0,tench"),
        ("l.csv", 'index,name\n0,"a\n', "this is no table", ""),
    ],
)
def test_mistakes_say_where_they_are(name: str, content: Any, what: str, fix: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read_labels(written(tmp_path, name, content))
    assert what in caught.value.what
    assert fix in caught.value.fix
    assert caught.value.where == "--labels"
    assert str(tmp_path) not in caught.value.what


def test_a_file_that_is_not_there_is_told_with_its_neighbour(tmp_path: Path) -> None:
    written(tmp_path, "labels.txt", "a\n")
    with pytest.raises(UsageError, match="cannot be read: No such file") as caught:
        read_labels(tmp_path / "label.txt")
    assert caught.value.fix == "Did you mean 'labels.txt'?"
    with pytest.raises(UsageError, match="cannot be read: it is a folder, not a file"):
        read_labels(tmp_path)


def test_a_file_too_large_for_labels_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnviz_cli.files.tables.text_table.MAX_TABLE_BYTES", 3)
    with pytest.raises(UsageError, match="is larger than"):
        read_labels(written(tmp_path, "l.txt", "a\nb\n"))
