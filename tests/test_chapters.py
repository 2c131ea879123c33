"""Every command of docs/chapters.md is one that the command line understands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from cnnviz_cli.cli.app import app

PAGE = Path(__file__).parents[1] / "docs" / "chapters.md"
COMMANDS = sorted(
    {
        span
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if line.startswith("|")
        for span in re.findall(r"`([^`]+)`", line)
        if span.startswith("cnnviz ")
    }
)


def test_the_page_has_commands_of_every_kind() -> None:
    assert {shlex.split(one)[1] for one in COMMANDS} >= {
        "features", "saliency", "deconv", "gradcam", "dream", "evaluate", "concepts", "dissect", "attack", "influence",
    }  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_its_flags_are_known(command: str) -> None:
    group: Any = typer.main.get_command(app)
    _, name, *words = shlex.split(command)
    context = group.make_context("cnnviz", [name, *words], resilient_parsing=True)
    _, found, rest = group.resolve_command(context, [name, *words])
    parsed = found.make_context(name, list(rest), parent=context)
    assert parsed.params


def test_a_flag_that_is_not_known_is_found() -> None:
    with pytest.raises(BaseException, match=r"(?i)no such option|unknown"):
        test_its_flags_are_known("cnnviz gradcam cat.jpg --no-such-flag 3")
