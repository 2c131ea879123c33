"""Overviews of many layers fold into columns, and leave no part of a row empty that a group would fit into."""

import numpy as np
import pytest
from PIL import Image
from render.drawn import plain, row, whole

from cnnviz_cli.core.panels import FeatureMapGrid, Heatmap, Panel, Projections
from cnnviz_cli.render import Caption, Style
from cnnviz_cli.render.figures import Scene
from cnnviz_cli.render.layout import Text
from cnnviz_cli.render.overview import arrange_groups, compose_overview, group_by_target

SEEN = Image.new("RGB", (32, 32))
SCENE = Scene(plain(60, 40), whole(60, 40), SEEN, Caption("all"), Style())
MAPS = np.random.default_rng(1).random((9, 7, 7)).astype(np.float32)


def entries(layers: int) -> list[tuple[Panel, Caption]]:
    sheets: list[tuple[Panel, Caption]] = []
    for number in range(layers):
        panel = FeatureMapGrid(MAPS, np.arange(9), np.ones(9, np.float32), MAPS[:1], total=9, ranked_by="mean")
        sheets.append((panel, Caption("maps", f"features.{number}")))
    rows = tuple(row([(0, 0, 9, 9)] * 7, layer=f"deconv.{number}") for number in range(layers))
    return [*sheets, (Projections(rows), Caption("projections"))]


@pytest.mark.parametrize("layers", [1, 6, 7, 13])
def test_every_layer_is_shown_once_and_many_stand_in_two_columns(layers: int) -> None:
    block = compose_overview([], entries(layers), SCENE)
    names = [(left, item.text) for left, _, item in block.leaves() if isinstance(item, Text)]
    for kind in ("features", "deconv"):
        lefts = [left for left, text in names if text.startswith(f"{kind}.")]
        assert len(lefts) == layers
        assert len(set(lefts)) == (2 if layers > 6 else 1)
        half = -(-layers // 2)
        if layers > 6:
            assert lefts == [lefts[0]] * half + [lefts[-1]] * (layers - half)
    for left, _, item in block.leaves():
        assert left >= 40
        assert left + item.width <= block.width - 40


def test_thirteen_layers_take_about_half_as_much_room() -> None:
    heights = [compose_overview([], entries(layers), SCENE).height for layers in (0, 6, 13)]
    assert heights[2] - heights[0] < 1.35 * (heights[1] - heights[0])


@pytest.mark.parametrize(("targets", "columns"), [(1, 3), (2, 4), (3, 3), (4, 4), (5, 5), (6, 6)])
def test_groups_of_one_size_fill_their_rows(targets: int, columns: int) -> None:
    singles = [
        (Heatmap(MAPS[:1], target=target), Caption("way", f"layer{layer}", f"class {target}"))
        for layer in range(6)
        for target in range(targets)
    ]
    found, first, runs = arrange_groups(group_by_target(singles), 1.5)
    assert found == columns
    assert first == []
    assert {len(run) for run in runs} == {columns}
