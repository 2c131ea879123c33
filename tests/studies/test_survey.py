"""Which rows have most of a concept, where they lie in their images, and which images stand on the sheet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cnnviz_cli.core.geometry import View
from cnnviz_cli.core.rows import Rows
from cnnviz_cli.run.feature_pass import Crops
from cnnviz_cli.studies.concepts.basis import arrays_in_order, classes_alone
from cnnviz_cli.studies.concepts.nmf import Factors
from cnnviz_cli.studies.concepts.places import (
    FROM_MANY,
    Frame,
    Places,
    box_of_row,
    classes_of_rows,
    images_to_show,
)
from cnnviz_cli.studies.concepts.survey import (
    FRAME,
    MAPS,
    ROWS,
    SCORES,
    Strongest,
    StrongestRows,
    survey_images,
    survey_rows,
)

VIEW = View((400, 200), (100, 100), (100.0, 0.0, 300.0, 200.0))


@dataclass
class Held:
    """Tables in memory."""

    tables: dict[str, list[NDArray[np.float32]]]

    @property
    def seen(self) -> NDArray[np.int64]:
        return np.arange(len(self.tables[MAPS]), dtype=np.int64)

    def counts(self, table: str) -> NDArray[np.int64]:
        return np.array([len(one) for one in self.tables[table]], np.int64)

    def rows(self, table: str) -> Rows:
        whole = np.concatenate(self.tables[table])

        class Whole:
            shape = whole.shape

            def chunks(self, size: int) -> Iterator[Any]:
                yield from (whole[at : at + size] for at in range(0, len(whole), size))

        return Whole()  # type: ignore[return-value]

    def values(self, table: str, at: int) -> NDArray[np.float32]:
        return self.tables[table][at]


def held(sizes: list[tuple[int, int]], channels: int = 4, classes: int = 3) -> Held:
    draw = np.random.default_rng(0)
    maps = [draw.random((height * width, channels)).astype(np.float32) for height, width in sizes]
    scores = [draw.normal(size=(1, classes)).astype(np.float32) for _ in sizes]
    frames = [np.array([[100, 100, *size]], np.float32) for size in sizes]
    return Held({MAPS: maps, ROWS: maps, SCORES: scores, FRAME: frames})


def factors(count: int = 2, channels: int = 4) -> Factors:
    basis = np.random.default_rng(1).random((count, channels)).astype(np.float32)
    basis /= np.linalg.norm(basis, axis=1, keepdims=True)
    return Factors(basis, np.ones(count), 0.5)


def test_the_strongest_rows_are_those_of_a_sort() -> None:
    values = np.random.default_rng(0).integers(0, 9, (500, 3)).astype(np.float32)
    kept = StrongestRows(3, most=20)
    for start in range(0, 500, 37):
        kept.add(start, values[start : start + 37])
    for column in range(3):
        order = np.argsort(-values[:, column], kind="stable")[:20]
        assert kept.of(column).rows.tolist() == order.tolist()
        assert kept.of(column).values.tolist() == values[order, column].tolist()


def test_rows_with_none_are_not_among_them() -> None:
    kept = StrongestRows(1)
    kept.add(0, np.array([[0.0], [2.0], [0.0]], np.float32))
    assert kept.of(0).rows.tolist() == [1]


def test_rows_are_surveyed_as_one_would_slowly() -> None:
    tables, dictionary = held([(3, 3), (2, 4)]), factors()
    found = survey_rows(dictionary, tables.rows(ROWS))
    whole = np.concatenate(tables.tables[ROWS]).astype(np.float64)
    codes = dictionary.encode(torch.from_numpy(whole.astype(np.float32))).double().numpy()
    left = whole - codes @ dictionary.basis.astype(np.float64)
    assert found.error == pytest.approx(np.linalg.norm(left) / np.linalg.norm(whole), rel=1e-9)
    assert found.weights == pytest.approx(np.sqrt((codes**2).mean(0)), rel=1e-6)
    assert found.unexplained.rows[0] == np.linalg.norm(left, axis=1).argmax()
    assert [one.rows[0] for one in found.concepts] == codes.argmax(0).tolist()


def test_images_are_surveyed_as_one_would_slowly() -> None:
    tables, dictionary = held([(3, 3), (2, 4), (3, 3)]), factors()
    head = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    targets = np.array([0, 2, 1])
    found = survey_images(dictionary, tables, targets, head)
    assert found.adds is not None
    assert found.bias is not None
    assert found.rest is not None
    peaks = np.zeros(2)
    for at, maps in enumerate(tables.tables[MAPS]):
        codes = dictionary.encode(torch.from_numpy(maps)).double().numpy()
        weights = head[targets[at]].double().numpy()
        mean, basis = maps.astype(np.float64).mean(0), dictionary.basis.astype(np.float64)
        assert found.adds[at] == pytest.approx(codes.mean(0) * (basis @ weights), rel=1e-5, abs=1e-7)
        score = float(tables.tables[SCORES][at][0, targets[at]])
        assert found.scores[at] == pytest.approx(score)
        assert found.bias[at] == pytest.approx(score - mean @ weights, abs=1e-6)
        assert found.adds[at].sum() + found.bias[at] + found.rest[at] == pytest.approx(score, abs=1e-9)
        left = maps - codes @ basis
        assert found.errors[at] == pytest.approx(np.linalg.norm(left) / np.linalg.norm(maps), rel=1e-6)
        peaks = np.maximum(peaks, codes.max(0))
    assert found.peaks == pytest.approx(peaks, rel=1e-6)
    turned = found.in_order([1, 0])
    assert turned.adds is not None
    assert turned.adds[:, 0].tolist() == found.adds[:, 1].tolist()
    assert turned.peaks.tolist() == found.peaks[::-1].tolist()


def test_a_crop_lies_where_it_was_cut() -> None:
    crops = Crops(share=0.5, stride=1.0)
    frame = Frame(VIEW, (4, 4))
    assert crops.windows(100, 100) == [(0, 0, 50), (0, 50, 50), (50, 0, 50), (50, 50, 50)]
    # The input of 100 pixels shows 200 of the image, from 100 on.
    assert box_of_row(frame, 1, crops) == (200.0, 0.0, 300.0, 100.0)
    assert box_of_row(frame, 2, crops) == (100.0, 100.0, 200.0, 200.0)


def test_the_part_around_a_position_stays_within_the_input() -> None:
    frame = Frame(VIEW, (4, 4))
    middle = box_of_row(frame, 5, None)
    assert ((middle[0] + middle[2]) / 2, (middle[1] + middle[3]) / 2) == pytest.approx((175.0, 75.0))
    for number in range(16):
        left, top, right, bottom = box_of_row(frame, number, None)
        assert 100 <= left < right <= 300
        assert 0 <= top < bottom <= 200
        assert right - left == pytest.approx(84.0)


def test_a_row_is_of_its_image() -> None:
    places = Places(np.array([0, 3, 7]), np.array([2, 1, 4]), None)
    assert [places.of(row) for row in range(7)] == [(0, 0), (0, 1), (3, 0), (7, 0), (7, 1), (7, 2), (7, 3)]


def strongest(rows: list[int]) -> Strongest:
    return Strongest(np.array(rows), np.linspace(1, 0.5, len(rows)).astype(np.float32))


def test_places_that_are_shown_are_different_ones() -> None:
    places = Places(np.array([0, 1]), np.array([16, 16]), None)
    # Positions 5 and 6 are next to each other, 15 is at the other end, 21 is in the other image.
    chosen = places.choose(strongest([5, 6, 15, 21]), lambda _image: Frame(VIEW, (4, 4)))
    assert [(one.image, round(one.value, 2)) for one in chosen] == [(0, 1.0), (0, 0.67), (1, 0.5)]


def test_of_many_images_no_more_than_two_places_are_of_one() -> None:
    places = Places(np.arange(FROM_MANY), np.full(FROM_MANY, 16), None)
    chosen = places.choose(strongest([0, 3, 12, 15, 16, 19]), lambda _image: Frame(VIEW, (4, 4)))
    assert [one.image for one in chosen] == [0, 0, 1, 1]


def test_images_are_shown_that_have_the_concepts() -> None:
    shares = np.zeros((9, 2))
    shares[4, 0], shares[7, 0], shares[2, 1], shares[8, 1] = 9, 8, 7, 6
    assert list(images_to_show(shares, 3)) == [2, 4, 7]
    assert list(images_to_show(shares, 9)) == list(range(9))


def test_concepts_change_places_with_all_that_is_theirs() -> None:
    arrays = {
        "basis": np.arange(6.0).reshape(2, 3), "encoder": np.arange(6.0).reshape(3, 2),
        "energies": np.array([5.0, 6.0]), "error": np.array(0.5), "bias": np.array([1.0, 2.0]), "top_k": np.array(1),
    }  # fmt: skip
    found = arrays_in_order(arrays, 2, [1, 0])
    assert found["basis"].tolist() == [[3, 4, 5], [0, 1, 2]]
    assert found["encoder"].tolist() == [[1, 0], [3, 2], [5, 4]]
    assert (found["energies"].tolist(), found["bias"].tolist()) == ([6, 5], [2, 1])
    assert (float(found["error"]), int(found["top_k"])) == (0.5, 1)


def test_a_concept_is_called_by_the_classes_that_it_alone_gives() -> None:
    basis = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    head = torch.tensor([[2.0, -1.0], [3.0, -2.0], [-1.0, 0.5], [1.0, -3.0]])
    labels = ["cup", "mug", "cat", "dog"]
    assert classes_alone(basis, head, labels) == [["mug", "cup", "dog"], ["cat"]]


def test_without_a_linear_head_it_is_called_by_the_classes_of_its_images() -> None:
    tables = held([(2, 2)] * 3)
    tables.tables[SCORES] = [np.array([one], np.float32) for one in ([9, 0, 0], [0, 9, 0], [0, 0, 9])]
    places = Places(tables.seen, tables.counts(MAPS), None)
    # Rows 8 and 9 are of the third image, 0 of the first.
    one = Strongest(np.array([8, 9, 0]), np.array([3.0, 2.0, 1.0], np.float32))
    assert classes_of_rows([one], places, tables, ["cup", "mug", "cat"]) == [["cat", "cup"]]
