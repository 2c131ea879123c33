"""Which images are put side by side: against the plainest way to choose them, and in whatever order they come."""

from __future__ import annotations

import random
from hashlib import sha256
from typing import Any

import pytest

from cnnviz_cli.core.evaluation_records import MosaicPlan
from cnnviz_cli.core.mosaic_sets import MosaicChoice, arrangements, cells_of_mosaic, mosaic_digest, sets_of


def plan(most: int = 50, sure: float = 0.2) -> MosaicPlan:
    return MosaicPlan(measure="grid", most=most, sure=sure, cell="small")


def record(number: int, index: int, probability: float | None = 0.5) -> dict[str, Any]:
    return {
        "source": f"{number}.png",
        "sha256": sha256(str(number).encode()).hexdigest(),
        "status": "ok",
        "predictions": [{"index": index, "label": f"class {index}", "probability": probability}],
    }


def drawn(count: int, classes: int, seed: int) -> list[dict[str, Any]]:
    chance = random.Random(seed)
    return [record(number, chance.randrange(classes), chance.random()) for number in range(count)]


def plainly(records: list[dict[str, Any]], most: int, sure: float, seed: int) -> list[list[str]]:
    """Through all images in the order of their hashes, again and again: the next four of different classes."""

    def place(one: dict[str, Any]) -> str:
        return sha256(f"mosaic:{seed}:{one['sha256']}".encode()).hexdigest()

    left = sorted((one for one in records if one["predictions"][0]["probability"] >= sure), key=place)
    found: list[list[str]] = []
    while len(found) < most:
        four: list[dict[str, Any]] = []
        for one in left:
            if len(four) < 4 and one["predictions"][0]["index"] not in {it["predictions"][0]["index"] for it in four}:
                four.append(one)
        if len(four) < 4:
            break
        left = [one for one in left if one not in four]
        found.append([one["source"] for one in four])
    return found


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("count", "classes", "most"), [(60, 4, 50), (60, 9, 50), (90, 30, 3), (30, 200, 50), (20, 3, 5)]
)
def test_sets_are_the_next_four_classes_in_the_order_of_hashes(count: int, classes: int, most: int, seed: int) -> None:
    records = drawn(count, classes, seed)
    found = sets_of(plan(most, 0.3), seed, records)
    assert [[one.source for one in images] for images in found.sets] == plainly(records, most, 0.3, seed)
    random.Random(seed).shuffle(records)
    assert sets_of(plan(most, 0.3), seed, records) == found


def test_no_more_is_kept_of_a_class_than_there_may_be_mosaics() -> None:
    choice = MosaicChoice(plan(3), 0)
    for number in range(400):
        choice.add(record(number, number % 5))
    assert sum(map(len, choice._classes.values())) == 15


@pytest.mark.parametrize(
    "odd",
    [
        {**record(9, 9), "status": "failed"},
        {**record(9, 9), "sha256": None},
        {**record(9, 9), "predictions": []},
        record(9, 9, None),
        record(9, 9, 0.19),
    ],
)
def test_an_image_without_a_sure_class_is_in_no_mosaic(odd: dict[str, Any]) -> None:
    three = [record(number, number) for number in range(3)]
    found = sets_of(plan(), 0, [*three, odd])
    assert found.sets == ()
    assert found.undone.startswith("a mosaic takes images of 4 classes, and images of 3 classes have")
    assert len(sets_of(plan(), 0, [*three, record(9, 9, 0.2)]).sets) == 1


def test_every_image_is_once_in_every_place() -> None:
    orders = arrangements()
    assert orders[0] == (0, 1, 2, 3)
    for place in range(4):
        assert sorted(order[place] for order in orders) == [0, 1, 2, 3]
    assert all(sorted(order) == [0, 1, 2, 3] for order in orders)


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (224, 224)])
def test_cells_cover_a_mosaic_once(size: tuple[int, int]) -> None:
    seen = [
        (row, column)
        for rows, columns in cells_of_mosaic(size)
        for row in range(*rows.indices(size[0]))
        for column in range(*columns.indices(size[1]))
    ]
    assert sorted(seen) == [(row, column) for row in range(size[0]) for column in range(size[1])]


def test_the_digest_tells_places_and_sizes_apart() -> None:
    found = {mosaic_digest(names, size) for names in ("abcd", "bcda") for size in ((8, 8), (16, 16))}
    assert len(found) == 4
