"""Whether a map can be read, and its raw range."""

import numpy as np
import pytest
from render.drawn import row

from cnnviz_cli.core.panels import (
    FeatureMapGrid,
    Filters,
    Heatmap,
    InputProjection,
    Panel,
    PixelMap,
    Projections,
    SignedMap,
    State,
)
from cnnviz_cli.render.scaling import range_of, state_of, stretch_range, top_of

RAMP = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
ZERO = np.zeros_like(RAMP)
HOLED = np.where(RAMP == 5, np.nan, RAMP)


def mosaic(values: np.ndarray) -> FeatureMapGrid:
    return FeatureMapGrid(values, np.arange(len(values)), values.mean((1, 2)), values[:1], total=9, ranked_by="mean")


@pytest.mark.parametrize(
    ("panel", "state"),
    [
        (Heatmap(RAMP), "ok"),
        (Heatmap(RAMP, np.float32(11)), "ok"),
        (Heatmap(ZERO), "flat"),
        (Heatmap(ZERO, np.float32(-0.1)), "negative"),
        (Heatmap(ZERO, np.float32(0)), "negative"),
        (Heatmap(ZERO, np.float32(0), np.float32(0)), "flat"),
        (Heatmap(ZERO, np.float32(0), np.float32(-2)), "negative"),
        (Heatmap(ZERO, np.float32(-1), np.float32(-1)), "negative"),
        (Heatmap(ZERO + 2, np.float32(2)), "flat"),
        (Heatmap(ZERO + 2, np.float32(2), np.float32(2)), "flat"),
        (Heatmap(RAMP, np.float32(11), np.float32(-2)), "ok"),
        (Heatmap(HOLED, np.float32(np.nan)), "nonfinite"),
        (Heatmap(HOLED, np.float32(-1)), "nonfinite"),
        (PixelMap(np.where(RAMP == 5, -np.inf, RAMP)), "nonfinite"),
        (PixelMap(ZERO), "flat"),
        (SignedMap(-RAMP), "ok"),
        (InputProjection(np.repeat(ZERO, 3, 0)), "flat"),
        (InputProjection(np.concatenate([ZERO, ZERO, RAMP])), "ok"),
        (mosaic(np.concatenate([ZERO, RAMP])), "ok"),
        (mosaic(np.concatenate([ZERO, ZERO + 1])), "flat"),
        (mosaic(np.concatenate([RAMP, HOLED])), "nonfinite"),
        (Projections((row([(0, 0, 9, 9)]),)), "ok"),
        (Projections(()), "flat"),
        (Heatmap(RAMP, warnings={"unstable": np.bool_(True)}), "unstable"),
        (Heatmap(RAMP, warnings={"unstable": np.bool_(False)}), "ok"),
        (Heatmap(ZERO, warnings={"unstable": np.bool_(True)}), "flat"),
        (Filters(np.stack([RAMP, ZERO])), "ok"),
        (SignedMap(RAMP, warnings={"incomplete": np.bool_(True)}), "incomplete"),
        (SignedMap(RAMP, warnings={"incomplete": np.bool_(False)}), "ok"),
        (SignedMap(HOLED, warnings={"incomplete": np.bool_(True)}), "nonfinite"),
    ],
)
def test_state(panel: Panel, state: State) -> None:
    assert state_of(panel) == state


def test_range_is_that_of_a_single_finite_map() -> None:
    assert range_of(Heatmap(RAMP)) == (0.0, 11.0)
    assert range_of(SignedMap(-RAMP)) == (-11.0, 0.0)
    assert range_of(Heatmap(HOLED)) is None
    assert range_of(mosaic(np.concatenate([ZERO, RAMP]))) is None
    assert range_of(Projections((row([(0, 0, 9, 9)]),))) is None


def test_the_scale_of_a_heavy_tail_ends_at_the_percentile() -> None:
    values = np.arange(1, 1001, dtype=np.float32)
    assert top_of(values) == (995.0, True)
    assert top_of(-values) == (995.0, True)
    assert top_of(np.ones(10)) == (1.0, False)
    assert top_of(np.zeros(10)) == (1.0, False)
    sparse = np.zeros(1000)
    sparse[0] = 7
    assert top_of(sparse) == (7.0, False)
    assert top_of(np.array([np.nan, 3.0])) == (3.0, False)


def test_stretching_survives_the_edges_of_float32() -> None:
    most = np.finfo(np.float32).max
    np.testing.assert_array_equal(stretch_range(np.array([[-most, most]], np.float32)), [[0, 1]])
    np.testing.assert_array_equal(stretch_range(np.array([[1e-45, 0]], np.float32)), [[1, 0]])
    np.testing.assert_array_equal(stretch_range(np.array([[4.0, 4.0]], np.float32)), [[0, 0]])
    np.testing.assert_allclose(stretch_range(np.array([[-1.0, 0, 3]], np.float32)), [[0, 0.25, 1]])


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(TypeError, match="no figure is known for Panel"):
        state_of(Panel())
