"""Maps of a layer that saturates: what is the same in all of them tells nothing, so their means stand beside it."""

import numpy as np
import torch
from PIL import Image
from render.drawn import row, whole

from cnnviz_cli.core.objectives import strongest_channels
from cnnviz_cli.core.panels import ProjectionRow, Projections
from cnnviz_cli.render import Caption, Style
from cnnviz_cli.render.figures import Scene
from cnnviz_cli.render.layout import Text
from cnnviz_cli.render.projections import TIED, compose_projections, describe_peak

SEEN = Image.new("RGB", (32, 32))


def with_peaks(peaks: list[float], means: list[float]) -> ProjectionRow:
    plain = row([(0, 0, 9, 9)] * len(peaks))
    return ProjectionRow(
        plain.layer, plain.values, plain.channels, np.array(peaks), plain.boxes, plain.field, np.array(means)
    )


def texts(one: ProjectionRow) -> list[str]:
    block = compose_projections(Projections((one,)), Scene(SEEN, whole(*SEEN.size), SEEN, Caption("d"), Style()))
    return [item.text for _, _, item in block.leaves() if isinstance(item, Text)]


def test_equal_peaks_are_told_apart_by_their_means() -> None:
    tied = with_peaks([6, 6, 6, 5.5], [3.204, 3.15, 2.9, 5])
    assert [describe_peak(tied, number) for number in range(4)] == [
        "6.00, mean 3.20",
        "6.00, mean 3.15",
        "6.00, mean 2.90",
        "5.50, mean 5.00",
    ]
    assert "6.00, mean 3.15" in texts(tied)
    assert any(TIED in text for text in texts(tied))


def test_peaks_that_differ_stand_alone() -> None:
    free = with_peaks([6, 5.9], [3, 4])
    assert [describe_peak(free, number) for number in range(2)] == ["6.00", "5.90"]
    assert not any("mean" in text for text in texts(free))


def test_of_equal_peaks_the_larger_mean_comes_first() -> None:
    maps = torch.zeros(1, 4, 2, 2)
    maps[0, 0] = torch.tensor([[6.0, 0], [0, 0]])
    maps[0, 1] = torch.tensor([[6.0, 6], [1, 0]])
    maps[0, 2] = torch.tensor([[5.0, 5], [5, 5]])
    maps[0, 3] = torch.tensor([[0.0, 6], [3, 0]])
    assert strongest_channels(maps, 4).tolist() == [[1, 3, 0, 2]]
