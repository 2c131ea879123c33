"""Comparison sheets leave no half of themselves empty."""

import numpy as np
import pytest
from render.drawn import centre_crop, plain

from cnnviz_cli.core.panels import Heatmap
from cnnviz_cli.render import Caption, Style
from cnnviz_cli.render.compare import TILE, Flow, Table, columns_in, compose_comparison, count_folds, group_maps, pages
from cnnviz_cli.render.figures import Scene
from cnnviz_cli.render.layout import Raster, Text

MAP = np.random.default_rng(6).random((1, 7, 7)).astype(np.float32)
Entries = list[tuple[Heatmap, Caption]]


def entries(methods: int, targets: int, any_class: int = 0) -> Entries:
    followed = [
        (Heatmap(MAP, target=target), Caption(f"way {method}", "last", f"class {target}", "50 %"))
        for method in range(methods)
        for target in range(targets)
    ]
    return [*followed, *((Heatmap(MAP), Caption(f"free {number}", "last")) for number in range(any_class))]


def sheet_of(shown: Entries) -> tuple[list[tuple[float, int]], list[str], int]:
    """Where the maps and the original stand, all texts, and the width of the sheet."""
    image = plain(300, 200)
    scene = Scene(image, centre_crop(300, 200), image, Caption("compared", source="x"), Style())
    (block,) = compose_comparison(shown, scene)
    parts = list(block.leaves())
    images = [(left, top) for left, top, item in parts if isinstance(item, Raster) and item.width == TILE]
    return images, [item.text for _, _, item in parts if isinstance(item, Text)], block.width


@pytest.mark.parametrize("targets", [2, 3, 6])
def test_one_method_stands_in_one_row_beside_what_the_network_saw(targets: int) -> None:
    images, texts, width = sheet_of(entries(1, targets))
    assert len(images) == 1 + targets
    assert len({top for _, top in images}) == 1
    assert [left for left, _ in images] == [40 + 248 * column for column in range(1 + targets)]
    assert width == 80 + 248 * (1 + targets) - 24
    assert texts.count("way 0") == 1


@pytest.mark.parametrize(("methods", "targets", "groups"), [(4, 2, 1), (5, 2, 2), (13, 2, 2), (9, 3, 1), (13, 1, 1)])
def test_long_tables_fold_where_there_is_room(methods: int, targets: int, groups: int) -> None:
    shown = entries(methods, targets)
    ((block, *_),) = pages(shown)
    if isinstance(block, Table):
        assert count_folds(block, 6) == groups
    images, texts, _ = sheet_of(shown)
    assert len(images) == 1 + methods * targets
    assert len(set(images)) == len(images)
    if targets > 1:
        assert len({top for _, top in images[1:]}) == -(-methods // groups)
        assert texts.count("class 1") == groups


def test_a_map_that_is_the_same_for_any_class_joins_a_row_that_has_room() -> None:
    images, texts, _ = sheet_of(entries(4, 1, any_class=1))
    assert len({top for _, top in images}) == 1
    assert "any class, last" in texts
    assert texts[-8:].count("free 0") <= 1
    ((first, second),) = pages(entries(6, 1, any_class=1))
    assert isinstance(first, Flow)
    assert isinstance(second, Flow)
    assert second.named is None


def test_narrow_sheets_have_fewer_columns() -> None:
    assert [columns_in(room) for room in (480, 800, 1000, 1600)] == [1, 3, 4, 6]
    assert len(group_maps(entries(3, 2))) == 3
