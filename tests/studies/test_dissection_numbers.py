"""Numbers of network dissection: thresholds against numpy, overlaps against loops written once more, and by hand."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cnnviz_cli.core.dissection_records import (
    ChanceRange,
    ChannelOverlap,
    DissectedLabel,
    DissectedLayer,
    Dissection,
)
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.layers import LayerInfo, ReceptiveField
from cnnviz_cli.studies.dissection import overlap
from cnnviz_cli.studies.dissection.analysis import NONE, StrongestImages, analyse
from cnnviz_cli.studies.dissection.overlap import Enlarger, Overlap, shifted
from cnnviz_cli.studies.dissection.quantiles import ChannelQuantiles, find_quantiles

QUANTILES = (0.995, 0.5, 0.9, 0.001, 0.99996)


def layer(shape: tuple[int, int, int], field: ReceptiveField | None = None, **more: Any) -> LayerInfo:
    return LayerInfo("conv", "Conv2d", shape, 1, field, **more)


# --- thresholds --------------------------------------------------------------------------------------------


def odd_values() -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((300, 9, 7)).astype(np.float32)
    values[:, 1] = np.maximum(values[:, 1], 0)
    values[:, 2] = 3  # constant
    values[:, 3] *= np.float32(1e-40)  # below the normal numbers
    values[:, 4] = np.round(values[:, 4])  # ties, and zeros of both signs
    values[:, 5] = -np.abs(values[:, 5])
    values[:, 6] *= np.float32(1e37)
    values[:, 7] = np.where(values[:, 7] > 2.5, values[:, 7], -0.0)
    return values


@pytest.mark.parametrize("quantile", QUANTILES)
def test_a_threshold_is_numpys_quantile_to_the_bit(quantile: float) -> None:
    values = odd_values()
    found = find_quantiles(lambda: [values[:100], values[100:101], values[101:]], 9, quantile)
    flat = values.transpose(1, 0, 2).reshape(9, -1)
    assert found.tolist() == np.quantile(flat, quantile, axis=1, method="inverted_cdf").tolist()
    assert ((flat > found[:, None]).sum(1) <= (1 - quantile) * flat.shape[1] + 1e-9).all()


def test_two_hundred_numbers_by_hand() -> None:
    values = np.arange(1, 201, dtype=np.float32).reshape(2, 1, 100)
    assert find_quantiles(lambda: [values], 1, 0.995).tolist() == [199]  # one of 200 is above: 0.5 %
    assert find_quantiles(lambda: [values], 1, 0.994).tolist() == [199]  # two would be more than 0.6 %
    assert find_quantiles(lambda: [values], 1, 0.99).tolist() == [198]


def test_thresholds_are_the_same_in_every_order_and_division() -> None:
    values = odd_values()
    whole = find_quantiles(lambda: [values], 9, 0.995)
    parts = [values[:50], values[50:51], values[51:250], values[250:]]
    for order in itertools.permutations(range(4)):
        merged = ChannelQuantiles(9, 0.995)
        reference = ChannelQuantiles(9, 0.995)
        while not merged.done:
            counted = []
            for number in order:
                # Each part in a process of its own, which has settled the same bits.
                one = ChannelQuantiles(9, 0.995)
                one.__dict__.update({key: getattr(reference, key) for key in ("_pass", "_prefix", "_rank")})
                one._counts = one._empty()
                one.add(parts[number])
                counted.append(one)
            for one in counted:
                merged.merge(one)
            for part in parts:
                reference.add(part)
            merged.narrow()
            reference.narrow()
        assert merged.finish().tobytes() == whole.tobytes()


def test_counts_of_two_passes_do_not_add_up() -> None:
    one, other = ChannelQuantiles(1, 0.5), ChannelQuantiles(1, 0.5)
    one.add(np.ones((1, 1, 3), np.float32))
    one.narrow()
    with pytest.raises(ValueError, match="two passes"):
        one.merge(other)
    with pytest.raises(ValueError, match="not every bit"):
        one.finish()


def test_without_an_image_there_is_no_threshold() -> None:
    with pytest.raises(UsageError, match="no image could be shown"):
        find_quantiles(list, 3, 0.995)


# --- where a map lies --------------------------------------------------------------------------------------


def enlarged(maps: Any, info: LayerInfo, size: tuple[int, int]) -> NDArray[np.float64]:
    """The enlarged map itself."""
    values = np.asarray(maps, np.float32)
    enlarger = Enlarger.of(info, values.shape, size)
    rows = overlap._between(values, enlarger.rows, 0, slice(None))
    return np.asarray(overlap._between(rows, enlarger.columns, 1, slice(None)), np.float64)


def test_values_lie_at_the_centres_of_receptive_fields() -> None:
    info = layer((1, 1, 3), ReceptiveField((2, 2), (2, 2), (0, 0)))  # centres 1, 3 and 5
    assert enlarged([[0, 4, 8]], info, (1, 6)).tolist() == [[0, 1, 3, 5, 7, 8]]
    # Of padded convolutions of stride 2 the first position is about the first pixel, whose centre is 0.5.
    info = layer((1, 1, 3), ReceptiveField((3, 3), (2, 2), (-1, -1)))
    assert enlarged([[0, 4, 8]], info, (1, 6)).tolist() == [[0, 2, 4, 6, 8, 8]]


def test_where_a_position_sees_everything_positions_share_the_input() -> None:
    assert enlarged([[0, 4, 8]], layer((1, 1, 3)), (1, 6)).tolist() == [[0, 1, 3, 5, 7, 8]]
    assert enlarged([[3]], layer((1, 1, 1)), (2, 2)).tolist() == [[3, 3], [3, 3]]


def test_a_layer_over_a_part_of_the_input_is_nowhere_else() -> None:
    info = layer((1, 1, 2), window=(0.5, 0.0, 1.0, 1.0))
    enlarger = Enlarger.of(info, (1, 2), (1, 8))
    above = enlarger.mask(np.array([[5, 5]], np.float32), 1)
    assert above.astype(int).tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]]


def test_what_is_flat_is_not_above_itself() -> None:
    value = np.float32(0.1)
    info = layer((1, 3, 3), ReceptiveField((9, 9), (5, 5), (-4, -4)))
    enlarger = Enlarger.of(info, (3, 3), (17, 13))
    assert not enlarger.mask(np.full((3, 3), value), value).any()
    # One position is a little higher, and every pixel that it has a part in with it.
    maps = np.full((3, 3), value)
    maps[1, 1] = np.nextafter(value, np.float32(1))
    assert 0 < enlarger.mask(maps, value).sum() < 17 * 13


# --- overlaps ----------------------------------------------------------------------------------------------


def test_four_by_four_by_hand() -> None:
    """A map whose positions are the pixels: above 1 are three, marked are four, two are both: 2 / 5."""
    maps = np.array([[[0, 2, 0, 0], [0, 2, 0, 0], [0, 0, 0, 3], [0, 0, 0, 1]]], np.float32)
    marked = np.zeros((1, 4, 4), np.bool_)
    marked[0, :2, 1:3] = True
    info = layer((1, 4, 4), ReceptiveField((1, 1), (1, 1), (0, 0)))
    found = Overlap.empty(1, 1, 0)
    seen = np.ones((4, 4), np.bool_)
    found.add(maps, np.array([1], np.float32), Enlarger.of(info, (4, 4), (4, 4)), seen, [([0], marked)])
    assert (found.both.tolist(), found.marked.tolist(), found.excited.tolist()) == ([[[2]]], [[4]], [3])
    assert found.iou().tolist() == [[2 / 5]]
    # A second image, in which nothing is marked and one pixel is above the threshold: sums, and not a mean.
    other = np.zeros((1, 4, 4), np.float32)
    other[0, 3, 3] = 9
    found.add(other, np.array([1], np.float32), Enlarger.of(info, (4, 4), (4, 4)), seen, [([0], marked & False)])
    assert found.iou().tolist() == [[2 / 6]]


def slow_value(maps: NDArray[Any], centres: Any, y: float, x: float) -> float:
    """Bilinear between the centres, constant beyond them, in double precision."""
    weights = []
    for places, at in zip(centres, (y, x), strict=True):
        of = [0.0] * len(places)
        if at <= places[0]:
            of[0] = 1.0
        elif at >= places[-1]:
            of[-1] = 1.0
        else:
            for number in range(len(places) - 1):
                if places[number] <= at < places[number + 1]:
                    share = (at - places[number]) / (places[number + 1] - places[number])
                    of[number], of[number + 1] = 1 - share, share
        weights.append(of)
    return sum(
        weights[0][row] * weights[1][column] * float(maps[row, column])
        for row in range(maps.shape[0])
        for column in range(maps.shape[1])
    )


def test_overlaps_are_those_of_slow_loops() -> None:
    rng = np.random.default_rng(5)
    field = ReceptiveField((7, 5), (4, 3), (-2, -1))
    info, size = layer((3, 3, 4), field), (12, 13)
    enlarger = Enlarger.of(info, (3, 4), size)
    centres = [[1.5 + 4 * at for at in range(3)], [1.5 + 3 * at for at in range(4)]]
    thresholds = np.array([0.6, -0.2, 5.0], np.float32)  # nothing is above the last
    found, both, marked, excited = Overlap.empty(3, 2, 1), np.zeros((2, 3, 2)), np.zeros((2, 2)), np.zeros(3)
    for _ in range(3):
        maps = rng.standard_normal((3, 3, 4)).astype(np.float32)
        seen = rng.random(size) > 0.2
        own, others = rng.random((2, *size)) > 0.5, rng.random((1, *size)) > 0.7
        found.add(maps, thresholds, enlarger, seen, [([0, 1], own), ([1], others)])
        for y, x in itertools.product(range(12), range(13)):
            if not seen[y, x]:
                continue
            labels = [{number for number in range(2) if own[number, y, x]}, {1} if others[0, y, x] else set()]
            for shuffle, label in itertools.product(range(2), range(2)):
                marked[shuffle, label] += label in labels[shuffle]
            for channel in range(3):
                if slow_value(maps[channel], centres, y + 0.5, x + 0.5) > thresholds[channel]:
                    excited[channel] += 1
                    for shuffle in range(2):
                        for label in labels[shuffle]:
                            both[shuffle, channel, label] += 1
    assert found.both.tolist() == both.tolist()
    assert found.marked.tolist() == marked.tolist()
    assert found.excited.tolist() == excited.tolist()
    assert excited[:2].min() > 20
    assert excited[2] == 0
    expected = both / np.maximum(excited[None, :, None] + marked[:, None] - both, 1)
    assert [found.iou(shuffle).tolist() for shuffle in range(2)] == expected.tolist()


def test_overlaps_add_up_in_every_division() -> None:
    rng = np.random.default_rng(2)
    enlarger = Enlarger.of(layer((4, 3, 3)), (3, 3), (9, 9))
    images = [
        (rng.standard_normal((4, 3, 3)).astype(np.float32), [([0, 2], rng.random((2, 9, 9)) > 0.5)]) for _ in range(4)
    ]
    seen, thresholds = np.ones((9, 9), np.bool_), np.full(4, 0.5, np.float32)
    parts = []
    for some in (images, images[:1], images[1:]):
        parts.append(Overlap.empty(4, 3, 0))
        for maps, marked in some:
            parts[-1].add(maps, thresholds, enlarger, seen, marked)
    whole, one, other = parts
    other.merge(one)
    for name in ("both", "marked", "excited"):
        assert (getattr(other, name) == getattr(whole, name)).all()


def test_a_shuffle_gives_each_annotation_once_and_none_to_its_own_image() -> None:
    order = [3, 0, 4, 1, 2]
    found = shifted(order, 10)
    assert len(found) == 4  # there are no more without repeating one
    for partner in found:
        assert sorted(partner) == [0, 1, 2, 3, 4]
        assert all(partner[image] != image for image in range(5))
    assert len({tuple(partner) for partner in found}) == 4
    assert shifted([0], 10) == []


def test_zeros_of_both_signs_are_one() -> None:
    values = np.array([-0.0, 0.0, -0.0, -0.0], np.float32).reshape(2, 1, 2)
    assert not np.signbit(find_quantiles(lambda: [values], 1, 0.5)).any()


# --- what overlaps say -------------------------------------------------------------------------------------


def test_labels_and_detectors_by_hand() -> None:
    """Three channels and two labels; the third channel overlaps with nothing, the second is below the limit."""
    found = Overlap(
        both=np.array([[[30, 5], [0, 4], [0, 0]], [[10, 0], [20, 0], [0, 0]], [[0, 0], [0, 8], [0, 0]]]),
        marked=np.array([[50, 100]] * 3),
        excited=np.array([40, 20, 0]),
    )
    made = analyse("conv", [3, 7, 9], np.zeros(3, np.float32), found, ["a", "b"], [2, 1], 0.05)
    assert made.iou.tolist() == [[30 / 60, 5 / 135], [0, 4 / 116], [0, 0]]
    assert made.label.tolist() == [0, 1, NONE]
    assert made.detector.tolist() == [True, False, False]
    assert made.counts.tolist() == [[30, 60], [4, 116], [0, 0]]
    assert [made.best_channel(label) for label in (0, 1)] == [0, 0]
    assert made.detectors_of(0) == [0]
    assert made.detectors_of(1) == []
    record = made.record
    assert (record.channels, record.detectors, record.silent, record.found) == (3, 1, 1, 1)
    # In the first shuffle both channels are detectors, in the second the second one is: 8 / 112.
    assert record.detectors_by_chance == 1.5
    first, second = record.labels
    assert [(one.unit, one.iou) for one in first.channels] == [(3, 0.5)]
    assert [(one.unit, one.iou) for one in second.channels] == [(3, 0.037037), (7, 0.0344828)]
    assert (first.chance, second.chance) == (
        ChanceRange(lowest=0, highest=0.4),
        ChanceRange(lowest=0, highest=0.0714286),
    )
    assert [(one.detectors, one.detectors_by_chance, one.images) for one in record.labels] == [(1, 1, 2), (0, 0.5, 1)]
    # At the very limit a channel is a detector.
    limited = analyse("conv", [3, 7, 9], np.zeros(3, np.float32), found, ["a", "b"], [2, 1], 4 / 116)
    assert limited.detector.tolist() == [True, True, False]


def test_the_strongest_images_of_each_channel_are_kept_in_order() -> None:
    peaks = np.random.default_rng(1).integers(0, 5, (9, 6)).astype(np.float32)
    kept = StrongestImages(6, 4)
    for image, one in enumerate(peaks):
        kept.add(image, one)
    for channel in range(6):
        expected = sorted(range(9), key=lambda image: (-peaks[image, channel], image))[:4]
        assert kept.of(channel) == expected
    few = StrongestImages(1, 4)
    few.add(5, np.array([-2], np.float32))
    assert few.of(0) == [5]


def dissected(**labels: tuple[float, float | None, int]) -> DissectedLayer:
    """A layer with labels that have a best channel, the highest value by chance, and so many detectors."""
    made = [
        DissectedLabel(
            label=name,
            images=3,
            pixels=9,
            channels=[ChannelOverlap(unit=0, iou=iou)],
            chance=None if high is None else ChanceRange(lowest=0, highest=high),
            detectors=count,
            detectors_by_chance=None if high is None else 1,
        )
        for name, (iou, high, count) in labels.items()
    ]
    by_chance = made[0].detectors_by_chance
    return DissectedLayer(layer="top", channels=8, detectors=5, detectors_by_chance=by_chance, silent=0, labels=made)


@pytest.mark.parametrize(
    ("layer", "line"),
    [
        (
            dissected(nose=(0.11, 0.2, 1), eye=(0.08, 0.05, 6), cup=(0.03, 0.01, 0)),
            "top: 5 of 8 channels are detectors (by chance 1.0), of 2 of 3 labels; found beyond chance: eye 0.08",
        ),
        (
            dissected(nose=(0.11, 0.2, 1), cup=(0.03, 0.01, 0)),
            "top: 5 of 8 channels are detectors (by chance 1.0), of 1 of 2 labels; none beyond what channels reach by "
            "chance",
        ),
        (
            dissected(nose=(0.11, None, 1), cup=(0.03, None, 0)),
            "top: 5 of 8 channels are detectors, of 1 of 2 labels; best found: nose 0.11",
        ),
    ],
)
def test_the_line_of_a_layer_names_what_is_found_and_beyond_chance(layer: DissectedLayer, line: str) -> None:
    about = {"annotations": "a", "annotated": 3, "quantile": 0.9, "limit": 0.04, "shuffles": 2}
    assert Dissection(**about, layers=[layer]).lines == [line]
