"""What is taken away of an input, and what stands in its place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.measures import Order, PositiveMap
from cnnviz_cli.core.method import InputSpec
from cnnviz_cli.core.needs import Evidence, Input, Need, Seeds
from cnnviz_cli.core.readings import read_values
from cnnviz_cli.core.removal import (
    Around,
    Black,
    Blur,
    EachCell,
    Emptied,
    Fill,
    Jolted,
    Mean,
    RandomCells,
    Removed,
    RiseFills,
    SeenThrough,
    parse_fill,
)

SIZE = 20
FRAME = InputSpec((SIZE, SIZE), (-1.0, -2.0, -3.0), (1.0, 2.0, 3.0))
FILLS: list[Fill] = [Mean(), Black(FRAME.black), Blur(2.0), RiseFills(), Around(), Around((0.1, 0.2, 0.3))]
each_fill = pytest.mark.parametrize("fill", FILLS, ids=repr)


def evidence() -> Evidence:
    """Two pictures, their seeds, and an order of each."""
    pictures = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    readings = [read_values(np.random.default_rng(image).normal(size=(SIZE, SIZE)), (SIZE, SIZE)) for image in (0, 1)]
    answers: dict[Need, Tensor] = {Input(): pictures, Seeds(): torch.tensor([5, 6])}
    seeds = (5, 6)
    for need in (Order.of_map("m"), Order.of_map("m", 4), PositiveMap.of_map("m")):
        answers[need] = torch.stack([need.made_of(*pair) for pair in zip(readings, seeds, strict=True)])
    return Evidence(answers)


def changed(made: Tensor, image: int) -> Tensor:
    """(n, H, W) where a variant is not the picture."""
    return (made != evidence()[Input()][image]).any(1)


@each_fill
def test_a_variant_depends_on_its_number_alone(fill: Fill) -> None:
    seen = evidence()
    for variants in (Removed(Order.of_map("m"), fill, 5), RandomCells(4, fill, 3, 7), EachCell(3, fill), Emptied(fill)):
        whole = variants.make(seen, 1, 0, variants.count)
        assert whole.shape == (variants.count, 3, SIZE, SIZE)
        for number in range(variants.count):
            assert torch.equal(whole[number : number + 1], variants.make(seen, 1, number, number + 1))


@each_fill
def test_the_most_important_go_first_and_from_the_other_end_the_least(fill: Fill) -> None:
    order = Order.of_map("m")
    places = evidence()[order][0]
    made = changed(Removed(order, fill, 4).make(evidence(), 0, 0, 6), 0)
    for step in (1, 2, 3):
        count = SIZE**2 * step // 4
        assert torch.equal(made[step - 1], places < count)
        assert torch.equal(made[step + 2], places >= SIZE**2 - count)


def test_by_cells_a_cell_goes_at_a_time() -> None:
    order = Order.of_map("m", 4)
    made = changed(Removed(order, Black(FRAME.black), 16).make(evidence(), 0, 0, 2), 0)
    for number in (0, 1):
        assert int(made[number].sum()) == (number + 1) * 25
        cells = made[number].view(4, 5, 4, 5).float().mean((1, 3))
        assert set(cells.flatten().tolist()) == {0, 1}
    reading = read_values(np.random.default_rng(0).normal(size=(SIZE, SIZE)), (SIZE, SIZE))
    means = torch.from_numpy(reading.order).view(4, 5, 4, 5).mean((1, 3))
    assert made[0].view(4, 5, 4, 5)[:, 0, :, 0].flatten().nonzero().item() == int(means.argmax())


def test_fills_are_what_they_say() -> None:
    picture = evidence()[Input()][0]
    assert torch.equal(Mean().cover(evidence(), 0), picture.mean((1, 2), keepdim=True).expand_as(picture))
    assert Black(FRAME.black).cover(evidence(), 0)[:, 3, 4].tolist() == [-1, -2, -3]
    assert not RiseFills().cover(evidence(), 0).any()
    emptied = Emptied(RiseFills()).make(evidence(), 0, 0, 2)
    assert not emptied[0].any()
    assert torch.equal(emptied[1], RiseFills().cover(evidence(), 0, least=True))


def test_a_blur_keeps_a_constant_and_is_scipys_inside() -> None:
    filters = pytest.importorskip("scipy.ndimage")
    picture = evidence()[Input()][0]
    blurred = Blur(1.0).cover(evidence(), 0)
    theirs = filters.gaussian_filter(picture[0].double().numpy(), 1.0, truncate=4)
    np.testing.assert_allclose(blurred[0, 6:-6, 6:-6].numpy(), theirs[6:-6, 6:-6], atol=1e-5)
    same = Evidence({Input(): torch.full((1, 3, SIZE, SIZE), 0.3), Seeds(): torch.tensor([0])})
    torch.testing.assert_close(Blur(3.0).cover(same, 0), torch.full((3, SIZE, SIZE), 0.3))


def test_rises_blur_is_that_of_its_code() -> None:
    filters = pytest.importorskip("scipy.ndimage")
    # evaluation.py of the RISE repository: gkern(11, 5), and conv2d with padding 5.
    dot = np.zeros((11, 11))
    dot[5, 5] = 1
    kernel = torch.tensor(filters.gaussian_filter(dot, 5)).float().expand(3, 1, 11, 11)
    picture = evidence()[Input()][0]
    theirs = torch.nn.functional.conv2d(picture[None], kernel, padding=5, groups=3)[0]
    torch.testing.assert_close(RiseFills().cover(evidence(), 0, least=True), theirs, rtol=0, atol=1e-6)


def test_noise_is_in_the_hole_alone_and_of_its_size() -> None:
    hidden = torch.zeros(1, SIZE, SIZE, dtype=torch.bool)
    hidden[0, 4:] = True
    plain = Around().filled(evidence(), 0, hidden, [0])
    noisy = Around((0.1, 0.2, 0.3)).filled(evidence(), 0, hidden, [0]) - plain
    assert not noisy[0, :, :4].any()
    torch.testing.assert_close(noisy[0, :, 4:].std((1, 2)), torch.tensor([0.1, 0.2, 0.3]), rtol=0.15, atol=0)
    assert not torch.equal(noisy, Around((0.1, 0.2, 0.3)).filled(evidence(), 0, hidden, [1]) - plain)
    assert parse_fill("around", FRAME, noise=0.5) == Around((1.0, 2.0, 3.0))


def test_subsets_hide_exactly_so_many_cells_each_time_others() -> None:
    variants = RandomCells(5, Black(FRAME.black), 6, 50)
    hidden = variants.hidden(5, 0, 50)
    assert hidden.sum(1).tolist() == [6] * 50
    assert len({row.tobytes() for row in hidden}) > 45
    assert 3 <= hidden.sum(0).min() <= hidden.sum(0).max() <= 22  # 12 expected, with a deviation of 3
    made = changed(variants.make(evidence(), 0, 3, 4), 0)[0]
    assert torch.equal(made.view(5, 4, 5, 4)[:, 0, :, 0].flatten(), torch.from_numpy(hidden[3]))


def test_a_map_is_seen_through_and_what_is_drawn_is_taken_from_the_input() -> None:
    positive = PositiveMap.of_map("m")
    made = SeenThrough(positive).make(evidence(), 1, 0, 1)[0]
    assert evidence()[positive].max() == 1
    torch.testing.assert_close(made, evidence()[Input()][1] * evidence()[positive][1])
    jolted = Jolted((0.1, 0.2, 0.3), 3)
    lost = evidence()[Input()][1] - jolted.make(evidence(), 1, 2, 3)[0]
    torch.testing.assert_close(lost, jolted.jolt(6, 2, (3, SIZE, SIZE)))


@pytest.mark.parametrize("text", ["", "grey", "blur", "blur:", "blur:-1", "blur:nan", "blur:inf", "mean:2", "auto:3"])
def test_a_fill_that_is_none_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(UsageError, match="there is no fill") as refused:
        parse_fill(text, FRAME)
    assert "around, mean, black, blur:SIGMA" in refused.value.fix


def test_fills_by_their_words() -> None:
    words: dict[str, Any] = {"mean": Mean(), "black": Black(FRAME.black), "blur:20": Blur(20), "rise": RiseFills()}
    assert {word: parse_fill(word, FRAME) for word in words} == words
    assert parse_fill("auto", FRAME) == Mean()
    assert parse_fill("auto", FRAME, auto="around") == Around()
