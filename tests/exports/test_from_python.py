"""`cnnviz_cli.export` does what the command does."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from exports.saved import failed, image, output, save

import cnnviz_cli
from cnnviz_cli.api.export import ExportFormat
from cnnviz_cli.exports.api import formats


def test_it_returns_what_was_written(tmp_path: Path) -> None:
    out = save(tmp_path / "out", image("a.png", output("a.png/x.png")))
    assert cnnviz_cli.export(out) == out.with_name("out.csv")
    assert (
        cnnviz_cli.export(str(out), "csv", str(tmp_path / "t.csv")).read_bytes() == (tmp_path / "out.csv").read_bytes()
    )
    with pytest.raises(cnnviz_cli.UsageError, match="exists already"):
        cnnviz_cli.export(out)
    assert cnnviz_cli.export(out, overwrite=True).is_file()


def test_what_is_left_out_is_a_warning(tmp_path: Path) -> None:
    out = save(tmp_path / "out", failed("a.png"))
    (tmp_path / "photos").mkdir()
    with pytest.warns(UserWarning, match="left out: 1, of a.png"):  # noqa: SIM117
        with pytest.warns(UserWarning, match="no maps"):
            cnnviz_cli.export(out, "fiftyone", photos=tmp_path / "photos")


def test_every_format_is_in_the_signature() -> None:
    assert sorted(get_args(ExportFormat)) == [form.name for form in formats()]
