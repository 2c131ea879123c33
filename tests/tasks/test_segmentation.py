"""Regions on paper: maps of 2 x 2, two or three classes, every number worked out by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.scores import to_two_classes
from cnnviz_cli.tasks.segmentation import Regions, predicted_classes, region, shares, within

INF = float("inf")

# Class 0 is the higher at the left column of the first image and everywhere in the second.
FIRST = [[[3.0, -1.0], [2.0, 0.5]], [[1.0, 4.0], [-5.0, 0.75]]]
SECOND = [[[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]]]


def maps_of(*images: list[Any], dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(images, dtype=dtype)


def test_each_class_adds_up_its_map_over_its_own_region() -> None:
    maps, readout = maps_of(FIRST, SECOND), Regions()
    anchor = readout.hold(maps, None)
    assert anchor.tolist() == [[[0, 1], [0, 1]], [[0, 0], [0, 0]]]
    # 3 + 2 and 4 + 0.75; then 1 + 2 + 3 + 4 and nothing.
    assert readout.scores(maps, anchor).tolist() == [[5, 4.75], [10, 0]]
    assert shares(anchor, 2).tolist() == [[0.5, 0.5], [1, 0]]
    assert region(anchor, torch.tensor([1, 1])).tolist() == [[[False, True], [False, True]], [[False] * 2] * 2]


def test_altered_versions_are_read_in_the_regions_of_the_image_as_it_is() -> None:
    anchor = Regions().hold(maps_of(FIRST), None)
    # Of the second image's maps, in the first image's regions: 1 + 3 and 0 + 0, though class 0 has it everywhere.
    assert Regions().scores(maps_of(SECOND), anchor).tolist() == [[4, 0]]


def test_the_gradient_is_one_where_a_class_has_its_region_and_zero_elsewhere() -> None:
    maps, readout = maps_of(FIRST, SECOND).requires_grad_(), Regions()
    scores = readout.scores(maps, readout.hold(maps, None))
    (of_one,) = torch.autograd.grad(scores[:, 1].sum(), maps, retain_graph=True)
    assert of_one.tolist() == [[[[0, 0], [0, 0]], [[0, 1], [0, 1]]], [[[0, 0], [0, 0]], [[0, 0], [0, 0]]]]
    (of_both,) = torch.autograd.grad((scores[:, 0] - 2 * scores[:, 1]).sum(), maps)
    assert of_both[0].tolist() == [[[1, 0], [1, 0]], [[0, -2], [0, -2]]]


def test_a_mask_is_the_region_of_every_class() -> None:
    maps, readout = maps_of(FIRST, SECOND).requires_grad_(), Regions()
    masks = torch.tensor([[[0, 255], [7, 0]], [[1, 1], [0, 0]]], dtype=torch.uint8)
    anchor = readout.hold(maps, masks)
    assert predicted_classes(anchor).tolist() == [[[0, 1], [0, 1]], [[0, 0], [0, 0]]]
    assert within(anchor).tolist() == (masks > 0).tolist() == region(anchor, torch.tensor([0, 1])).tolist()
    scores = readout.scores(maps, anchor)
    assert scores.tolist() == [[-1 + 2, 4 - 5], [1 + 2, 0]]
    (gradient,) = torch.autograd.grad(scores[:, 1].sum(), maps)
    assert gradient.tolist() == [[[[0] * 2] * 2, [[0, 1], [1, 0]]], [[[0] * 2] * 2, [[1, 1], [0, 0]]]]
    # For people it is the share of the picture all the same.
    assert shares(anchor, 2).tolist() == [[0.5, 0.5], [1, 0]]


def test_masks_of_another_size_are_read_at_the_centres() -> None:
    maps = maps_of(FIRST)
    # Of 6 columns, the centres of 2 positions lie in the second and fifth; of 3 rows, in the first and third.
    mask = torch.zeros(1, 3, 6, dtype=torch.bool)
    mask[0, 0, 4] = mask[0, 2, 1] = True
    mask[0, 1] = mask[0, :, [0, 2, 3, 5]] = True
    mask[0, 0, 1] = mask[0, 2, 4] = False
    assert within(Regions().hold(maps, mask)).tolist() == [[[False, True], [True, False]]]
    small = torch.ones(1, 1, 1, dtype=torch.bool)
    assert within(Regions().hold(maps, small)).all()
    with pytest.raises(ValueError, match="masks of shape"):
        Regions().hold(maps, mask.expand(2, -1, -1))


def test_the_order_is_by_share_the_background_last_and_what_is_absent_nowhere() -> None:
    # Classes 0 to 3 take 5, 0, 3 and 1 of 9 positions.
    classes = torch.tensor([[[0, 0, 0], [0, 0, 2], [2, 2, 3]]])
    scores = torch.zeros(1, 4, dtype=torch.float64)
    plain = Regions().order(scores, classes)
    torch.testing.assert_close(plain, torch.tensor([[5 / 9, -INF, 3 / 9, 1 / 9]]).double(), rtol=1e-6, atol=0)
    last = Regions(background=0).order(scores, classes)
    assert last.argsort(dim=1, descending=True).tolist() == [[2, 3, 0, 1]]
    assert last[0, 1] == -INF
    assert Regions(background=1).order(scores, classes).equal(plain)


def test_within_a_mask_the_order_is_by_share_of_the_mask_and_nothing_is_absent() -> None:
    classes = torch.tensor([[[0, 0, 0], [0, 0, 2], [2, 2, 3]]])
    mask = torch.tensor([[[0, 0, 0], [0, 0, 1], [1, 0, 1]]])
    anchor, scores = torch.stack([classes, mask], 1), torch.zeros(1, 4)
    order = Regions().order(scores, anchor)
    torch.testing.assert_close(order, torch.tensor([[-1, -1, 2 / 3, 1 / 3]]), rtol=1e-6, atol=0)
    background = Regions(background=0).order(scores, anchor)
    assert background.sort(dim=1, descending=True, stable=True).indices.tolist() == [[2, 3, 1, 0]]
    # A mask of nothing but background is the background's, which no other class has a part in.
    nothing_else = torch.stack([torch.zeros_like(classes), mask], 1)
    assert Regions(background=0).order(scores, nothing_else).argmax(1).tolist() == [0]
    empty = torch.stack([classes, torch.zeros_like(mask)], 1)
    assert Regions(background=0).order(scores, empty).tolist() == [[-INF] * 4]


def test_one_map_alone_is_a_question_of_yes_or_no() -> None:
    maps, readout = maps_of([[[2.0, -3.0], [0.0, 0.5]]]).requires_grad_(), Regions()
    anchor = readout.hold(maps, None)
    assert anchor.tolist() == [[[1, 0], [0, 1]]]  # 0 is no
    scores = readout.scores(maps, anchor)
    assert scores.tolist() == [[3 - 0, 2 + 0.5]]
    assert to_two_classes(scores) is scores
    (gradient,) = torch.autograd.grad(scores[:, 0].sum(), maps)
    assert gradient.tolist() == [[[[0, -1], [-1, 0]]]]
    masked = readout.hold(maps, torch.tensor([[[True, True], [False, False]]]))
    assert readout.scores(maps, masked).tolist() == [[1, -1]]
    assert shares(anchor, 2).tolist() == [[0.5, 0.5]]


@pytest.mark.parametrize(
    "form",
    [
        lambda maps: {"out": maps, "aux": maps * 2},
        lambda maps: SimpleNamespace(logits=maps, loss=None),
        lambda maps: (maps, "more"),
        lambda maps: [maps],
    ],
    ids=["mapping", "logits", "tuple", "list"],
)
@pytest.mark.parametrize("count", [1, 2])
def test_every_form_in_which_networks_return_maps(form: Any, count: int) -> None:
    maps, readout = maps_of(FIRST, SECOND)[:, :count], Regions()
    anchor = readout.hold(form(maps), None)
    assert anchor.equal(readout.hold(maps, None))
    assert readout.scores(form(maps), anchor).equal(readout.scores(maps, anchor))


@pytest.mark.parametrize("output", [torch.zeros(2, 5), {"aux": torch.zeros(1, 2, 3, 3)}, [], [{"boxes": 1}], None])
def test_what_holds_no_maps_of_scores_is_refused(output: Any) -> None:
    anchor = torch.zeros(2, 3, 3, dtype=torch.int64)
    with pytest.raises(UsageError, match="a map of scores for each class"):
        Regions().hold(output, None)
    with pytest.raises(UsageError, match="a map of scores for each class"):
        Regions().scores(output, anchor)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_added_up_in_full(dtype: torch.dtype, masked: bool) -> None:
    # 4,096 times 1.0625: bfloat16 holds 8 bits, so that a sum in it would stand still at 256.
    maps = torch.zeros(1, 2, 64, 64, dtype=dtype)
    maps[:, 1] = 1.0625
    readout, mask = Regions(), torch.ones(1, 64, 64, dtype=torch.bool)
    anchor = readout.hold(maps, mask if masked else None)
    with torch.autocast("cpu", dtype=dtype):
        scores = readout.scores(maps, anchor)
    assert scores.dtype == torch.float32
    assert scores.tolist() == [[0, 4352]]


def test_it_is_a_value() -> None:
    assert Regions(0) == Regions(0) != Regions()
    assert hash(Regions(3)) == hash(Regions(3))
    with pytest.raises(ValueError, match="what `hold` gave"):
        Regions().scores(maps_of(FIRST), None)
    with pytest.raises(ValueError, match="what `hold` gave"):
        Regions().order(torch.zeros(1, 2), None)
