"""Sheets of feature maps, kernels and projections."""

import numpy as np
import pytest
from PIL import Image
from render.drawn import draw, plain, row, whole

from cnnviz_cli.core.panels import FeatureMapGrid, Filters, Panel, Projections
from cnnviz_cli.render import Caption, Style
from cnnviz_cli.render.feature_map_grid import columns_for, enlargement_factor
from cnnviz_cli.render.figures import Scene, compose_figure
from cnnviz_cli.render.layout import Raster
from cnnviz_cli.render.projections import describe_extent, frame_of, projection_pair
from cnnviz_cli.render.raster import rasterize
from cnnviz_cli.render.scaling import color_table

SEEN = Image.fromarray(np.random.default_rng(5).integers(0, 256, (32, 32, 3), dtype=np.uint8))


def mosaic(maps: np.ndarray, total: int = 1280) -> FeatureMapGrid:
    mean = maps.mean(0, keepdims=True) if len(maps) else np.arange(49, dtype=np.float32).reshape(1, 7, 7)
    return FeatureMapGrid(
        maps, np.arange(len(maps)), np.arange(len(maps), dtype=np.float32), mean, total=total, ranked_by="mean"
    )


def drawn(panel: Panel) -> Image.Image:
    return draw(panel, plain(32, 32), whole(32, 32), SEEN, Caption("maps", "conv1"), Style())


def tiles(panel: Panel, size: int) -> list[np.ndarray]:
    """The pixels of a sheet where its square images of `size` stand."""
    block = compose_figure(panel, Scene(plain(32, 32), whole(32, 32), SEEN, Caption("maps", "conv1"), Style()))
    pixels = np.asarray(rasterize(block))
    return [
        pixels[top : top + size, round(left) : round(left) + size]
        for left, top, item in block.leaves()
        if isinstance(item, Raster) and (item.width, item.height) == (size, size)
    ]


def test_every_map_is_stretched_by_itself_and_enlarged_sharply() -> None:
    maps = np.random.default_rng(2).normal(size=(4, 7, 7)).astype(np.float32)
    maps[1] *= 1000
    found = tiles(mosaic(maps), 140)
    assert len(found) == 6
    for values, tile in zip(maps, found[2:], strict=True):
        low, high = values.min(), values.max()
        level = np.rint((values - low) / (high - low) * 255).astype(int)
        assert (tile == color_table("inferno")[level].repeat(20, 0).repeat(20, 1)).all()


def test_the_input_keeps_every_colour_it_has() -> None:
    maps = np.random.default_rng(2).random((4, 8, 8)).astype(np.float32)
    panel = FeatureMapGrid(maps, np.arange(4), np.ones(4, np.float32), maps[:1], total=4, ranked_by="mean")
    shown = tiles(panel, 136)[0]
    assert (shown == np.asarray(SEEN.resize((136, 136), Image.Resampling.LANCZOS))).all()
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) > 5000


def test_flat_and_broken_maps_are_marked() -> None:
    maps = np.random.default_rng(2).random((3, 7, 7)).astype(np.float32)
    maps[1], maps[2, 0, 0] = 4.0, np.nan
    _, _, clean, flat, broken = tiles(mosaic(maps), 140)
    assert (flat == 204).all()
    corner = np.unique(broken[:20, :20].reshape(-1, 3), axis=0)
    assert corner.tolist() == [[205] * 3, [238] * 3]
    assert len(np.unique(clean.reshape(-1, 3), axis=0)) > 30


def test_a_sheet_of_the_mean_alone() -> None:
    assert len(tiles(mosaic(np.zeros((0, 7, 7), np.float32)), 140)) == 2


@pytest.mark.parametrize(("size", "factor"), [(7, 20), (14, 10), (28, 5), (56, 2), (112, 1), (224, 1), (1, 140)])
def test_tiles_are_enlarged_by_whole_factors(size: int, factor: int) -> None:
    assert enlargement_factor(size) == factor


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (2, 2), (4, 2), (6, 3), (8, 4), (12, 4), (16, 4), (64, 8)])
def test_grids_have_full_rows_where_they_can(count: int, columns: int) -> None:
    assert columns_for(count, 150) == columns


@pytest.mark.parametrize("count", [5, 100, 1280])
@pytest.mark.parametrize("cell", [60, 150, 234, 3000])
def test_grids_are_never_too_wide(count: int, cell: int) -> None:
    assert 1 <= columns_for(count, cell) <= max(1, 1560 // cell)


@pytest.mark.parametrize("channels", [1, 3])
def test_kernels_put_zero_in_the_middle(channels: int) -> None:
    kernels = np.zeros((6, channels, 3, 3), np.float32)
    kernels[:, 0, 0, 0] = np.arange(6) - 3
    sheet = drawn(Filters(kernels))
    pixels = np.asarray(sheet, int).reshape(-1, 3)
    zero = (128, 128, 128) if channels == 3 else (247, 247, 247)
    assert (np.abs(pixels - zero).max(1) <= 2).sum() >= 6 * 8 * 28 * 28
    positive = (255, 128, 128) if channels == 3 else (125, 36, 32)
    assert (np.abs(pixels - positive).max(1) <= 3).sum() == 2 * 28 * 28  # kernels 4 and 5, each on its own scale


def test_kernels_keep_every_colour() -> None:
    kernels = np.random.default_rng(4).normal(size=(64, 3, 3, 3)).astype(np.float32)  # 576 colours
    shares = 0.5 + 0.5 * kernels / np.abs(kernels).max((1, 2, 3), keepdims=True)
    wanted = np.rint(255 * shares.transpose(0, 2, 3, 1)).astype(np.uint8).reshape(-1, 3)
    shown = {tuple(colour) for _, colour in drawn(Filters(kernels)).getcolors(1 << 24)}
    assert {tuple(colour) for colour in wanted.tolist()} <= shown


def test_a_patch_stands_beside_its_projection() -> None:
    one = row([(4, 8, 20, 24)], field=(16, 16))
    couple = np.asarray(rasterize(projection_pair(one, 0, SEEN, 64)), int)
    assert couple.shape == (64 + 18, 64 * 2 + 2, 3)
    expected = SEEN.resize((64, 64), Image.Resampling.BICUBIC, box=(4, 8, 20, 24))
    assert np.abs(couple[18:, 66:] - np.asarray(expected, int)).max() <= 1
    values = one.values[0][:, 8:24, 4:20]
    limit = np.sort(np.abs(values).ravel())[int(np.ceil(0.995 * values.size)) - 1]
    exact = np.rint(128 + 127 * np.clip(values / limit, -1, 1)).transpose(1, 2, 0).astype(np.uint8)
    shown = np.asarray(Image.fromarray(couple[18:, :64].astype(np.uint8)).resize((16, 16), Image.Resampling.BOX), int)
    again = np.asarray(
        Image.fromarray(exact).resize((64, 64), Image.Resampling.BICUBIC).resize((16, 16), Image.Resampling.BOX), int
    )
    assert np.abs(shown[2:-2, 2:-2] - again[2:-2, 2:-2]).max() <= 1


def test_a_projection_of_nothing_is_mid_grey() -> None:
    one = row([(4, 8, 20, 24)], field=(16, 16))
    one.values[:] = 0
    couple = np.asarray(rasterize(projection_pair(one, 0, SEEN, 64)))
    assert (couple[18:, :64] == 128).all()


def test_a_patch_cut_at_the_border_keeps_its_place_in_the_frame() -> None:
    cut = row([(0, 10, 6, 20), (10, 10, 20, 20)], field=(10, 10))
    assert frame_of(cut, SEEN) == (10, 10)
    assert describe_extent(cut, SEEN) == "receptive field of 10 x 10 pixels, input of 32 x 32"
    couple = np.asarray(rasterize(projection_pair(cut, 0, SEEN, 100)), int)
    missing, present = couple[18:, 102:142], couple[18:, 142:202]
    assert set(np.unique(missing)) <= {205, 238}
    assert len(np.unique(present.reshape(-1, 3), axis=0)) > 50


def test_a_field_larger_than_the_input_is_framed_by_the_input() -> None:
    assert describe_extent(row([(0, 0, 32, 32)]), SEEN) == "the receptive field is the whole input"
    assert frame_of(row([(0, 0, 32, 32)]), SEEN) == (32, 32)
    large = row([(0, 0, 20, 32)], field=(67, 45))
    assert describe_extent(large, SEEN) == "receptive field of 45 x 67 pixels, input of 32 x 32"
    assert frame_of(large, SEEN) == (32, 32)


def test_rows_stand_under_each_other() -> None:
    two = drawn(Projections((row([(0, 0, 9, 9)] * 4, layer="low"), row([(0, 0, 32, 32)] * 4, layer="high"))))
    one = drawn(Projections((row([(0, 0, 9, 9)] * 4, layer="low"),)))
    assert two.mode == "RGB"
    assert two.width == one.width
    assert two.height > one.height + 128
    many = drawn(Projections((row([(0, 0, 9, 9)] * 9, layer="low"),)))
    assert many.height > one.height + 128
    assert many.width < 5 * 290


def test_projections_without_rows_or_with_broken_numbers_are_drawn() -> None:
    assert drawn(Projections(())).height > 50
    broken = row([(0, 0, 9, 9)])
    broken.values[0, 0, 0, 0] = np.inf
    pixels = np.asarray(drawn(Projections((broken,)))).reshape(-1, 3)
    assert (pixels == (200, 0, 130)).all(1).sum() > 1000
