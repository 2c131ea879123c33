"""docs/parity.md names every method, and its cheap rows and scripts come out again."""

from __future__ import annotations

import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import parity
import pytest
import torch
from parity_measure import Difference, Row, compare
from parity_measures import TITLE
from parity_wrong import DREAMS, Fault, faults

import cnnviz_cli.methods  # noqa: F401
from cnnviz_cli.core.method import methods

PAGE = (Path(__file__).parents[1] / "docs" / "parity.md").read_text(encoding="utf-8")
METHODS = PAGE.partition(TITLE)[0]
LINES = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in METHODS.splitlines() if line[:2] == "| "]
FAULTS = {fault.name: fault for fault in faults()}
LARGE = ("captum_densenet", "captum_functional_relu")
"""Scripts that build whole networks of torchvision."""

CHEAP = [("gradcam", "captum"), ("gradcam", "torchcam"), ("gradient", "captum"), ("gradcam++", "torchcam")]


def lines_of(row: Row) -> list[list[str]]:
    """The page's lines with the row's method, library, place and settings."""
    wanted = [row.method, parity.beside(row), parity.place(row)]
    return [line for line in LINES if line[0] == wanted[0] and line[1].startswith(wanted[1]) and line[2] == wanted[2]]


def named(family: str) -> set[str]:
    """The methods of a family that the page has."""
    section = re.search(rf"^## {family}\n(.*?)(?=^## )", PAGE, re.MULTILINE | re.DOTALL)
    assert section
    return {line.split(" | ")[0].strip("| ") for line in section[1].splitlines() if line[:2] == "| "} - {"method"}


@pytest.mark.parametrize("family", parity.FAMILIES)
def test_every_method_of_the_page_exists(family: str) -> None:
    assert named(family)
    assert named(family) <= {method.name for method in methods(family)}


@pytest.mark.slow
@pytest.mark.parametrize("family", parity.FAMILIES)
def test_every_method_has_a_row_or_a_reason_for_having_none(family: str) -> None:
    assert named(family) == {method.name for method in methods(family)}


def test_the_page_has_the_rows_of_the_tool_and_no_others() -> None:
    assert all(lines_of(row) for row in parity.ROWS)
    assert len([line for line in LINES if line[0] != "method"]) == len(parity.ROWS) + len(parity.NO_PEER)
    assert not {row.method for row in parity.ROWS} & set(parity.NO_PEER)


def test_no_section_of_the_page_is_dropped_when_it_is_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written and not measured stands in the tool, word for word."""
    for words in (parity.CONCEPTS, parity.INFLUENCE, parity.ATTACKS, parity.DREAMS, parity.FAULTS):
        assert f"\n{words}\n" in PAGE
    monkeypatch.setattr(parity, "_tables", lambda _: (f"## {family}\n" for family in parity.FAMILIES))
    monkeypatch.setattr(parity, "version", lambda _: "1")
    headings = re.findall(r"^## .*", PAGE, re.MULTILINE)
    assert headings == re.findall(r"^## .*", parity.page([], []), re.MULTILINE)


def test_every_difference_has_its_reason() -> None:
    for row in parity.ROWS:
        for line in lines_of(row):
            assert line[5] in ("equal", "equal in float64", f"differs: {row.because}")
    verdicts = [lines_of(row)[0][5].startswith("differs") for row in parity.ROWS if len(lines_of(row)) == 1]
    assert any(verdicts)
    assert not all(verdicts)


@pytest.mark.parametrize(("method", "peer"), CHEAP, ids=lambda value: value)
def test_cheap_rows_come_out_again(method: str, peer: str) -> None:
    (row,) = (row for row in parity.ROWS if (row.method, row.peer) == (method, peer))
    (line,) = lines_of(row)
    result = parity.evaluate(row)
    assert line[5] == result.verdict
    if row.because:
        # Two digits are printed: half of the last is at most 5 % of the number.
        assert float(line[3]) == pytest.approx(result.single.maximum, rel=0.05)
        assert float(line[4]) == pytest.approx(result.single.rank, rel=0.05)
    else:
        assert result.single.maximum < 1e-5
        assert result.single.rank < 1e-5


def test_a_difference_without_a_reason_is_no_verdict_nor_a_reason_without_a_difference() -> None:
    row = Row("gradcam", "captum", "LayerGradCam", lambda case: case.x)
    near, far = Difference(0, 0, True), Difference(1, 1, False)
    assert parity.Result(row, near).verdict == "equal"
    assert parity.Result(row, far, near).verdict == "equal in float64"
    assert parity.Result(replace(row, because="so"), far).verdict == "differs: so"
    for result in (parity.Result(row, far, far), parity.Result(replace(row, because="so"), near)):
        with pytest.raises(ValueError, match="the reason given is"):
            _ = result.verdict


def test_two_maps_are_told_apart() -> None:
    theirs = torch.tensor([[1.0, 2], [3, -4]])
    assert compare(theirs, theirs) == Difference(0, pytest.approx(0, abs=1e-12), True)
    assert compare(theirs * (1 + 9e-5), theirs).within
    assert not compare(theirs * (1 + 2e-4), theirs).within
    assert compare(theirs + 0.4, theirs).maximum == pytest.approx(0.1)
    # Ranks 2 3 4 1 against 3 2 4 1: one pair of neighbours exchanged, 6 * 2 / (4 * 15).
    assert compare(torch.tensor([[2.0, 1], [3, -4]]), theirs).rank == pytest.approx(0.2)
    assert compare((-theirs).relu(), theirs, signless=True) == Difference(0, pytest.approx(0, abs=1e-12), True, 1)
    assert compare(theirs.relu(), theirs, signless=True).opposite == 0


@pytest.mark.parametrize("fault", faults(DREAMS), ids=lambda fault: fault.name)
def test_each_script_about_a_library_that_dreams_is_on_its_page(fault: Fault) -> None:
    page = (Path(__file__).parents[1] / "docs" / "dream.md").read_text(encoding="utf-8")
    (row,) = (line for line in page.splitlines() if f"`{fault.name}.py` |" in line)
    assert row.startswith(f"| {fault.peer} | {fault.title} | ")
    assert "cnnviz" not in fault.code
    peer = fault.peer.lower()
    if find_spec(peer) is not None and (fault.name == "lucent_kornia") == (find_spec("kornia_rs") is not None):
        assert row.endswith(f" | {'; '.join(fault.output().splitlines())} |")


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_each_script_and_what_it_printed_is_on_the_page(fault: Fault) -> None:
    assert fault.peer in parity.PEERS
    assert "cnnviz" not in fault.code
    shown = re.search(rf"^### {re.escape(f'{fault.peer}: {fault.title}')}\n\n(.*?)(?=^### |\Z)", PAGE, re.M | re.S)
    assert shown
    assert f"```python\n{fault.code}```" in shown[1]
    if fault.name not in LARGE:
        assert f"```text\n{fault.output()}\n```" in shown[1]
