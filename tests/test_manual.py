"""The page of ``man cnnviz``: current, whole, and such as troff prints without a complaint."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import manual
import pytest
from reference import reference

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "cnnviz.1"


def printed(source: str) -> str:
    """What troff makes of a page, each run of blanks as one."""
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed")
    command = ["groff", "-man", "-Tutf8", "-ww", "-P-cbou", "-rLL=200n"]
    done = subprocess.run(command, input=source, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return " ".join(done.stdout.split())


def plain(markdown: str) -> str:
    """The words of a text in Markdown."""
    return " ".join(re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", markdown).replace("`", "").replace(r"\|", "|").split())


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == manual.manual()


def test_every_cell_and_sentence_of_the_reference_is_in_it_as_it_stands() -> None:
    shown = printed(manual.manual())
    sections = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", reference(), re.DOTALL | re.MULTILINE))
    said = 0
    for title, text in sections.items():
        if title in manual.LEFT_OUT:
            continue
        for block in re.split(r"\n{2,}", text.strip()):
            cells = lines = block.splitlines()
            if block.startswith("|"):
                rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines[2:]]
                cells = [cell for row in rows for cell in (row[0], row[-1])]
            for cell in cells:
                assert plain(cell.removeprefix("### ")) in shown
                said += 1
    assert said > 500


def test_letters_that_troff_takes_for_something_else_are_printed() -> None:
    hostile = "\\fB \\(co \\n[x] `~^\"' -- .SH 'br \\ \u00e4\u2019\u4e00"
    page = "\n".join([".TH X 1", ".SH NAME", *manual.text(f"{manual.escape('')}{hostile.replace('`', '')}"), ".PP"])
    assert hostile.replace("`", "") in printed(page)


@pytest.mark.parametrize("line", [".SH OTHER", "'br", "...and so on", "\\", "-"])
def test_no_line_of_text_is_a_request(line: str) -> None:
    page = "\n".join([".TH X 1", ".SH NAME", *manual.text(line), *manual.text("behind")])
    assert f"{line} behind" in printed(page)


def test_code_is_bold_and_a_placeholder_is_underlined() -> None:
    assert manual.inline("`--to` `FORMAT` and [a link](x.md)", placeholder="I") == (
        r"\fB\-\-to\fR \fIFORMAT\fR and a link"
    )


def test_the_page_is_shipped_where_man_looks() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    shared = project["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-data"]
    assert shared == {"docs/cnnviz.1": "share/man/man1/cnnviz.1"}
