"""The strongest patches of a folder, and the scores that percentiles are of: the same in every order and division."""

from __future__ import annotations

import json
import random
from hashlib import sha256

import pytest

from cnnviz_cli.core.strongest import MOST_PATCHES, Answers, Peak, StrongestPatches, Unread

CHANNELS = 4


def answers(number: int, *, values: tuple[float, ...] | None = None, name: str = "", sha: str = "") -> Answers:
    """One image of a folder, of a few values, so that many are equal."""
    draw = random.Random(number)
    found = values or tuple(float(draw.randrange(5)) for _ in range(CHANNELS))
    peaks = tuple(Peak(value, draw.randrange(7), draw.randrange(7)) for value in found)
    digest = sha or sha256(str(number).encode()).hexdigest()
    return Answers(name or f"{number}.png", digest, peaks, tuple(2 * value for value in found))


def state(items: list[Answers | Unread], parts: int = 1, most: int = 1000) -> str:
    folds = [StrongestPatches(most) for _ in range(parts)]
    for number, item in enumerate(items):
        folds[number % parts].add(item)
    whole = folds[0]
    for other in folds[1:]:
        whole.merge(other)
    return json.dumps(whole.to_state())


@pytest.mark.parametrize("patches", [1, 4, 25])
def test_as_many_patches_are_kept_as_are_wanted_in_any_division(patches: int) -> None:
    items = [answers(number) for number in range(60)]
    for parts in (1, 2, 7):
        folds = [StrongestPatches(most_patches=patches) for _ in range(parts)]
        for number, item in enumerate(items):
            folds[number % parts].add(item)
        whole = StrongestPatches.merge_all(StrongestPatches.from_state(fold.to_state()) for fold in folds)
        for channel, examples in enumerate(whole.finish().examples):
            by_hand = sorted((-one.peaks[channel].value, one.sha256, one.name) for one in items)[:patches]
            assert [(-one.value, one.sha256, one.name) for one in examples] == by_hand


def test_an_image_is_written_once_however_many_channels_it_excites() -> None:
    fold = StrongestPatches(most_patches=25)
    for number in range(3):
        fold.add(Answers(f"{number}.png", str(number), (Peak(1.0, 2, 3),) * 1000))
    state = json.dumps(fold.to_state())
    assert state.count("2.png") == 1
    assert len(state) < 80_000


@pytest.mark.parametrize("most", [1000, 48])
def test_no_order_and_no_division_changes_what_is_found(most: int) -> None:
    items: list[Answers | Unread] = [answers(number) for number in range(60)]
    items += [Unread("b.png"), Unread("a.png"), answers(7, name="copy of 7.png"), answers(7, name="0 copy of 7.png")]
    expected = state(items, most=most)
    for seed in range(5):
        shuffled = random.Random(seed).sample(items, len(items))
        assert state(shuffled, most=most) == expected
        assert state(shuffled, 3, most) == expected


def test_the_strongest_are_those_of_a_sort() -> None:
    items = [answers(number) for number in range(60)]
    fold = StrongestPatches()
    for item in items:
        fold.add(item)
    found = fold.finish()
    for channel, examples in enumerate(found.examples):
        by_hand = sorted((-one.peaks[channel].value, one.sha256, one.name) for one in items)[:MOST_PATCHES]
        assert [(-one.value, one.sha256, one.name) for one in examples] == by_hand
        places = {one.name: one.peaks[channel] for one in items}
        assert all((one.row, one.column) == places[one.name][1:3] for one in examples)
    assert found.images == 60
    assert [sorted(one) for one in found.scores] == [
        sorted(item.scores[channel] for item in items) for channel in range(CHANNELS)
    ]
    assert found.bounds == tuple(
        (min(item.scores[channel] for item in items), max(item.scores[channel] for item in items))
        for channel in range(CHANNELS)
    )


def test_the_same_bytes_are_one_patch_and_count_as_often_as_they_are_there() -> None:
    fold = StrongestPatches()
    for name in ("b.png", "a.png", "c.png"):
        fold.add(answers(1, name=name))
    fold.add(answers(2))
    found = fold.finish()
    assert found.images == 4
    assert {len(examples) for examples in found.examples} == {2}
    assert {one.name for examples in found.examples for one in examples} == {"a.png", "2.png"}
    assert len(found.scores[0]) == 4


def test_memory_is_bounded_and_the_sample_is_that_of_the_smallest_digests() -> None:
    items = [answers(number) for number in range(200)]
    fold = StrongestPatches(most_numbers=10 * CHANNELS)
    for item in items:
        fold.add(item)
    found = fold.finish()
    assert found.images == 200
    smallest = sorted(items, key=lambda one: one.sha256)[:10]
    assert found.scores == tuple(zip(*(one.scores for one in smallest), strict=True))
    assert found.bounds[0] == (min(one.scores[0] for one in items), max(one.scores[0] for one in items))
    assert len(json.dumps(fold.to_state())) < 12_000


def test_a_state_is_read_back_and_a_made_up_one_is_not() -> None:
    fold = StrongestPatches()
    for number in range(20):
        fold.add(answers(number))
    fold.add(Unread("broken.png"))
    written = json.dumps(fold.to_state())
    read = StrongestPatches.from_state(json.loads(written))
    assert json.dumps(read.to_state()) == written
    assert read.finish() == fold.finish()
    for change in (
        {"images": -1}, {"images": "2"}, {"unread": [3]}, {"kept": [[[0.0, "a", 0, 0]]]}, {"most": True},
        {"kept": [[[1.0, 0.0, 0, 0, 0], [0.0, 0.0, 1, 0, 0]]]}, {"kept": [[[0.0, 0.0, 99, 0, 0]]]},
        {"kept": [[[0.0, 0.0, -1, 0, 0]]]},
        {"patches": 1}, {"patches": "9"}, {"files": [["a"]]}, {"scores": [["a", "b", ["c"]]]},
        {"bounds": [[float("nan"), 1.0]]},
    ):  # fmt: skip
        with pytest.raises(ValueError, match="not what a folder has shown"):
            StrongestPatches.from_state(json.loads(written) | change)
    with pytest.raises(ValueError, match="not what a folder has shown"):
        StrongestPatches.from_state({})


def test_of_equal_values_the_larger_mean_comes_first_then_the_smaller_digest() -> None:
    fold = StrongestPatches(most_patches=3)
    for name, value, mean in (("c", 6.0, 1.0), ("a", 6.0, 1.0), ("d", 6.0, 2.0), ("b", 5.0, 9.0), ("e", 6.0, 0.5)):
        fold.add(Answers(name, name, (Peak(value, 0, 0, mean),)))
    assert [one.name for one in fold.finish().examples[0]] == ["d", "a", "c"]


def test_only_what_reaches_the_floor_has_to_be_told() -> None:
    whole, told = StrongestPatches(most_patches=2), StrongestPatches(most_patches=2)
    for number in range(60):
        item = answers(number)
        whole.add(Answers(item.name, item.sha256, item.peaks))
        strong = {at: peak for at, peak in enumerate(item.peaks) if not number or peak.value >= told.floor(at)}
        told.add_strong(item.name, item.sha256, strong, CHANNELS)
    assert told.to_state() == whole.to_state()


def test_nothing_is_a_result_too() -> None:
    found = StrongestPatches().finish()
    assert (found.images, found.examples, found.scores, found.bounds) == (0, (), (), ())
