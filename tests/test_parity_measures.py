"""docs/parity.md tells what each measure stands beside, and the scripts about Quantus print what it says."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import parity_measures
import pytest
import torch
from parity_wrong import Fault, faults

import cnnviz_cli.measures  # noqa: F401
from cnnviz_cli.core.measures import measures
from cnnviz_cli.core.rank_statistics import gini

PAGE = (Path(__file__).parents[1] / "docs" / "parity.md").read_text(encoding="utf-8")
FAULTS = faults(parity_measures.FOLDER)


def test_the_page_has_the_section_of_the_tool() -> None:
    assert parity_measures.section() in PAGE


def test_every_measure_of_the_section_exists() -> None:
    names = {name.strip() for row in parity_measures.ROWS for name in row.measure.split(",")} - {"its fill"}
    assert names <= {one.name for one in measures()}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_each_script_prints_what_the_page_says(fault: Fault) -> None:
    assert "cnnviz" not in fault.code
    if find_spec("quantus") is not None:
        assert "; ".join(fault.output().splitlines()) == parity_measures.printed(fault)


def test_sparseness_is_that_of_quantus() -> None:
    quantus = pytest.importorskip("quantus")
    values = np.random.default_rng(0).random((24, 24), dtype=np.float32)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()).eval()
    theirs = quantus.Sparseness(disable_warnings=True, display_progressbar=False)
    (found,) = theirs(
        model=net,
        x_batch=np.zeros((1, 3, 24, 24), np.float32),
        y_batch=np.array([0]),
        a_batch=values[None, None],
        device="cpu",
    )
    assert gini(values) == pytest.approx(found, abs=1e-6)
