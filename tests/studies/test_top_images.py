"""Which images excite a channel most, against slow loops over all of them, in any order and in chunks of any size."""

from __future__ import annotations

import random
from collections.abc import Sequence
from hashlib import sha256

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cnnviz_cli.core.rows import RowPieces
from cnnviz_cli.studies.top_images import selection
from cnnviz_cli.studies.top_images.selection import COLUMNS, peaks_of, strongest_images

WIDTHS = (7, 7, 3)


def maps_of(number: int) -> dict[str, torch.Tensor]:
    """One image's maps of two layers, of a few values, so that many are equal; a channel that is never above zero."""
    draw = np.random.default_rng(number)
    first = torch.from_numpy(draw.integers(-3, 4, (1, 3, 5, 7)).astype(np.float32))
    first[:, 1] = -first[:, 1].abs()
    return {"a": first, "b": torch.from_numpy(draw.integers(-2, 9, (1, 2, 2, 3)).astype(np.float32))}


CHANNELS = {"a": (0, 1), "b": (1,)}
UNITS = [("a", 0), ("a", 1), ("b", 1)]


def by_hand(images: Sequence[tuple[str, str, int]], wanted: int) -> list[list[tuple[float, str, int, int]]]:
    """Value, name, row and column, by loops over every position in float64."""
    found = []
    for layer, channel in UNITS:
        listed = []
        for name, digest, number in images:
            plane = maps_of(number)[layer][0, channel].double().numpy()
            best, place, total = -np.inf, (0, 0), 0.0
            for row in range(plane.shape[0]):
                for column in range(plane.shape[1]):
                    total += plane[row, column]
                    if plane[row, column] > best:
                        best, place = plane[row, column], (row, column)
            if best > 0:
                listed.append((-best, -np.float32(total / plane.size), digest, name, place))
        unique: dict[str, tuple[float, str, int, int]] = {}
        for low, _, digest, name, (row, column) in sorted(listed):
            unique.setdefault(digest, (-low, name, row, column))
        found.append(list(unique.values())[:wanted])
    return found


def rows_of(numbers: Sequence[int]) -> NDArray[np.float32]:
    return np.array([peaks_of(maps_of(number), CHANNELS)[0] for number in numbers])


def chosen(images: Sequence[tuple[str, str, int]], wanted: int, piece: int) -> list[list[tuple[float, str, int, int]]]:
    whole = rows_of([number for *_, number in images])
    pieces = [whole[start : start + piece] for start in range(0, len(whole), piece)]
    found = strongest_images(
        RowPieces(lambda: pieces, whole.shape), [(name, digest) for name, digest, _ in images], WIDTHS, wanted
    )
    assert found.images == len(images)
    return [[(one.value, one.name, one.row, one.column) for one in unit] for unit in found.examples]


def folder(count: int) -> list[tuple[str, str, int]]:
    return [(f"{number}.png", sha256(str(number).encode()).hexdigest(), number) for number in range(count)]


@pytest.mark.parametrize("wanted", [1, 4, 9, 25])
def test_they_are_those_of_slow_loops_in_any_order_and_in_any_pieces(
    wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = folder(60)
    expected = by_hand(images, wanted)
    assert [len(unit) for unit in expected] == [wanted, 0, wanted]
    for seed in range(4):
        monkeypatch.setattr(selection, "CHUNK", 1 + 9 * seed)
        shuffled = random.Random(seed).sample(images, len(images))
        assert chosen(shuffled, wanted, 7 + seed) == expected


def test_files_of_the_same_bytes_are_one_image() -> None:
    images = folder(5)
    copies = [("z copy.png", digest, number) for _, digest, number in images]
    found = chosen([*copies, *images], 9, 3)
    assert found == by_hand(images, 9)
    assert len(found[0]) == 5


def test_a_batch_gives_the_rows_of_its_images() -> None:
    batch = {layer: torch.cat([maps_of(number)[layer] for number in range(6)]) for layer in CHANNELS}
    rows = peaks_of(batch, CHANNELS)
    assert len(rows) == 6
    assert rows[0].shape == (COLUMNS * len(UNITS),)
    assert rows[0].dtype == np.float32
    assert np.array_equal(np.array(rows), rows_of(range(6)))


def test_of_equal_positions_the_first_counts() -> None:
    flat = torch.zeros(1, 1, 4, 5)
    flat[0, 0, 2, 1] = flat[0, 0, 2, 3] = flat[0, 0, 3, 0] = 2
    value, place, mean = peaks_of({"a": flat}, {"a": (0,)})[0]
    assert (value, divmod(int(place), 5), mean) == (2, (2, 1), pytest.approx(0.3))


def test_of_nothing_there_is_nothing() -> None:
    found = strongest_images(RowPieces(lambda: [], (0, 9)), [], WIDTHS, 9)
    assert (found.images, found.examples) == (0, ((), (), ()))
