"""The strict reader: what a person wrote, or the line and column of what is wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cnnviz_cli.config.errors import caret_excerpt, split_errors
from cnnviz_cli.config.values import parse_scalar
from cnnviz_cli.config.yamlfile import MAX_BYTES, parse, read_file
from cnnviz_cli.core.errors import UsageError


def refused(path: Path, content: str | bytes) -> list[UsageError]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UsageError) as caught:
        read_file(path)
    return list(split_errors(caught.value))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("False", False),
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("tRUE", "tRUE"),
        ("null", None),
        ("~", None),
        ("", None),
        ("12", 12),
        ("-3", -3),
        ("0", 0),
        ("012", "012"),
        ("0o17", 15),
        ("0x1F", 31),
        ("12:30:45", "12:30:45"),
        ("1_000", "1_000"),
        ("0.5", 0.5),
        (".5", 0.5),
        ("1.", 1.0),
        ("1e3", 1000.0),
        ("01.5", "01.5"),
        ("-.inf", float("-inf")),
        ("2024-01-01", "2024-01-01"),
        ("1" * 5000, "1" * 5000),
        ("layer4.*", "layer4.*"),
    ],
)
def test_plain_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    found = parse_scalar(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("content", "place", "what"),
    [
        ("alpha: 1\nalpha: 2\n", "2:1", "the key 'alpha' is given twice"),
        ("a:\n  b: 1\n  b: 2\n", "3:3", "the key 'b' is given twice"),
        ("a: &x 1\n", "1:4", "anchors are not allowed (&x)"),
        ("a: *x\n", "1:4", "aliases are not allowed (*x)"),
        ("<<: {a: 1}\n", "1:1", "merge keys are not allowed (<<)"),
        ("a: !!python/object:os.system x\n", "1:4", "tags are not allowed (tag:yaml.org,2002:python/object:os.system)"),
        ("a: ! x\n", "1:4", "tags are not allowed (!)"),
        ("a: 1\n---\nb: 2\n", "2:1", "a second document starts here"),
        ("- a\n", "1:1", "the file must hold keys and values"),
        ("text\n", "1:1", "the file must hold keys and values"),
        ("a: 1\n3: x\n", "2:1", "a key must be text"),
        ("null: x\n", "1:1", "a key must be text"),
        ("? [a]\n: 1\n", "1:3", "a key must be text"),
        ("a: b: c\n", "1:5", "this is not YAML: mapping values are not allowed here"),
        ("a: [1\nb: 2\n", "2:2", "this is not YAML"),
        ("\ta: 1\n", "1:1", "this is not YAML"),
        ("a: [[[[[[[[[1]]]]]]]]]\n", "1:11", "nested deeper than 8 levels"),
        ('a: "\\ud800"\n', "1:4", "the character '\\ud800' is not allowed here"),
        ('a: "\\0"\n', "1:4", "the character '\\x00' is not allowed here"),
        ("a: 1\nb: \x07\n", "2:4", "the character '\\x07' is not allowed in YAML"),
        (b"a: 1\nb: \xc3\xbc\xff\n", "2:5", "the configuration file is not UTF-8"),
    ],
)
def test_every_refusal_names_its_line_and_column(tmp_path: Path, content: str | bytes, place: str, what: str) -> None:
    path = tmp_path / "c.yaml"
    (problem,) = refused(path, content)
    assert problem.where == f"{path}:{place}"
    assert problem.what.startswith(what)


def test_all_refusals_are_told_and_a_second_key_does_not_win(tmp_path: Path) -> None:
    problems = refused(tmp_path / "c.yaml", "a: &x 1\nb: *x\na: 3\n")
    assert [p.where.rpartition("c.yaml:")[2] for p in problems] == ["1:4", "2:4", "3:1"]


def test_the_excerpt_points_at_the_mistake(tmp_path: Path) -> None:
    (problem,) = refused(tmp_path / "c.yaml", "# a comment\nmodel: vgg16\nmodel: 猫\n")
    assert problem.excerpt == "   3 | model: 猫\n     | ^"
    assert caret_excerpt("a: 猫b", 7, 5) == "   7 | a: 猫b\n     |      ^"  # a wide character takes two columns


def test_an_excerpt_is_short_and_cannot_move_the_cursor() -> None:
    shown = caret_excerpt("x" * 500 + "\x1b[2J", 1, 501)
    line, caret = shown.splitlines()
    assert "\x1b" not in shown
    assert line[7] == "…"
    assert line[caret.index("^") :] == "\\x1b[2J"


@pytest.mark.parametrize("content", ["", "# only a comment\n", "---\n...\n"])
def test_an_empty_file_is_told_as_such(tmp_path: Path, content: str) -> None:
    path = tmp_path / "c.yaml"
    (problem,) = refused(path, content)
    assert problem.what in ("the configuration file is empty", "the file must hold keys and values")
    assert problem.where.startswith(str(path))


def test_missing_folder_and_oversized_files(tmp_path: Path) -> None:
    (tmp_path / "vgg16.yaml").touch()
    with pytest.raises(UsageError, match="no such configuration file") as caught:
        read_file(tmp_path / "vgg61.yaml")
    assert caught.value.fix == "Did you mean 'vgg16.yaml'?"
    with pytest.raises(UsageError, match="this is a folder"):
        read_file(tmp_path)
    (problem,) = refused(tmp_path / "big.yaml", b"a: " + b"x" * MAX_BYTES)
    assert "larger than 256 KiB" in problem.what


def test_a_byte_order_mark_and_foreign_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: [x, 'no', no]\r\n")
    document = read_file(path)
    assert document.data == {"a": 1, "b": ["x", "no", "no"]}
    assert document.values[("b", 1)].where == f"{path}:2:8"


# Unquoted, these are floats in YAML 1.2, which we read, and text in YAML 1.1, which PyYAML writes.
EXPONENT_ALONE = re.compile(r"[-+]?(0|[1-9][0-9]*)(\.[0-9]*)?[eE][0-9]+|[-+]?(0|[1-9][0-9]*)[eE][-+]?[0-9]+|0o[0-7]+")

plain = (
    st.none()
    | st.booleans()
    | st.integers(-(10**6), 10**6)
    | st.text(st.characters(exclude_categories=("C", "Zl", "Zp"))).filter(lambda s: not EXPONENT_ALONE.fullmatch(s))
)
nested = st.dictionaries(
    st.text(st.characters(categories=("Ll",)), min_size=1), plain | st.lists(plain, max_size=4), min_size=1
)


@given(nested)
def test_what_pyyaml_writes_is_read_back(data: dict[str, object]) -> None:
    # PyYAML quotes whatever its own YAML 1.1 rules would misread, and so nothing is lost under our stricter ones.
    assert parse(yaml.safe_dump(data, allow_unicode=True), "x") == data


@pytest.mark.parametrize(
    ("text", "value"), [("0E0", 0.0), ("1e5", 1e5), ("-2E-3", -0.002), ("1.5e3", 1500.0), ("0o17", 15)]
)
def test_numbers_that_older_readers_take_for_text(text: str, value: float) -> None:
    assert EXPONENT_ALONE.fullmatch(text)
    assert yaml.safe_load(text) == text
    assert parse(f"a: {text}", "x") == {"a": value}
