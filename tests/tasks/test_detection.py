"""What is read of a detector's output, worked by hand."""

from __future__ import annotations

import detectors
import pytest
import torch
from torch import Tensor

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.tasks.detection import Boxes, found

Output = list[dict[str, Tensor]]


def output(*images: list[tuple[tuple[float, float, float, float], int, float]]) -> Output:
    """What a detector returns: for each image boxes with their labels and scores, which need a gradient."""
    return [
        {
            "boxes": torch.tensor([box for box, _, _ in image]).view(-1, 4),
            "labels": torch.tensor([label for _, label, _ in image], dtype=torch.int64),
            "scores": torch.tensor([score for _, _, score in image]).requires_grad_(),
        }
        for image in images
    ]


DOG = ((10.0, 10.0, 30.0, 30.0), 18, 0.9)
CAT = ((50.0, 10.0, 60.0, 30.0), 17, 0.4)
CAR = ((0.0, 40.0, 40.0, 60.0), 3, 0.7)


def test_the_likeliest_boxes_are_held_and_the_rest_are_zeros() -> None:
    anchor = Boxes(3).hold(output([CAT, DOG], [CAR, CAT, DOG, CAR]), None)
    assert anchor.shape == (2, 3, 6)
    assert not anchor.requires_grad
    torch.testing.assert_close(anchor[0, 0], torch.tensor([10.0, 10.0, 30.0, 30.0, 18.0, 0.9]), rtol=0, atol=0)
    assert anchor[0, :, 4].tolist() == [18, 17, 0]
    assert not anchor[0, 2].any()
    assert anchor[1, :, 4].tolist() == [18, 3, 3]
    order = Boxes(3).order(torch.zeros(2, 3), anchor)
    torch.testing.assert_close(order[0], torch.tensor([0.9, 0.4, -float("inf")]), rtol=0, atol=0)


def test_equal_scores_keep_the_networks_order() -> None:
    equal = [((float(place), 0.0, place + 5.0, 5.0), place % 3, 0.5) for place in range(40)]
    assert Boxes(40).hold(output(equal), None)[0, :, 0].tolist() == list(range(40))


def test_what_is_no_thing_is_not_held() -> None:
    line = ((10.0, 10.0, 10.0, 30.0), 1, 0.99)
    nothing = ((10.0, 10.0, 20.0, 30.0), 1, 0.0)
    broken = ((10.0, 10.0, 20.0, 30.0), 1, float("nan"))
    nowhere = ((float("nan"), 10.0, 20.0, 30.0), 1, 0.99)
    filling = ((10.0, 10.0, 20.0, 30.0), -1, 0.99)
    anchor = Boxes().hold(output([line, nothing, broken, nowhere, filling, CAT]), None)
    assert anchor[0, :, 4].tolist() == [17, 0, 0, 0, 0]


@pytest.mark.parametrize(("name", "shape"), [("boxes", (2, 5)), ("labels", (1,)), ("scores", (2, 1))])
def test_boxes_scores_and_labels_that_do_not_fit_each_other_are_refused(name: str, shape: tuple[int, ...]) -> None:
    seen = output([CAT, DOG])
    seen[0][name] = torch.ones(shape)
    with pytest.raises(UsageError, match=rf"returns .*{name} of shape \({shape[0]},.* \(n, 4\), \(n,\) and \(n,\)"):
        Boxes().hold(seen, None)


def test_of_the_image_as_it_is_each_score_is_its_own_box() -> None:
    # Two boxes in one place, and one that a likelier one of its kind covers almost.
    twins = [((0.0, 0.0, 10.0, 10.0), 1, 0.3), ((0.0, 0.0, 10.0, 10.0), 1, 0.8), ((0.0, 0.0, 10.0, 9.0), 1, 0.2)]
    seen, readout = output(twins), Boxes(4)
    anchor = readout.hold(seen, None)
    scores = readout.scores(seen, anchor)
    torch.testing.assert_close(scores, torch.tensor([[0.8, 0.3, 0.2, 0.0]]), rtol=0, atol=0)
    for rank, row in enumerate([1, 0, 2]):
        (slope,) = torch.autograd.grad(scores[0, rank], seen[0]["scores"], retain_graph=True)
        assert slope.tolist() == [float(place == row) for place in range(3)]


def test_what_has_become_of_a_box_worked_by_hand() -> None:
    # The dog's box is 20 by 20. Moved by 5 to the right the overlap is 300 of 500, by 8 it is 240 of 560.
    readout = Boxes(2)
    anchor = readout.hold(output([DOG, CAT]), None)

    def score(*altered: tuple[tuple[float, float, float, float], int, float]) -> tuple[float, list[float]]:
        seen = output(list(altered))
        scores = readout.scores(seen, anchor)
        (slope,) = torch.autograd.grad(scores[0, 0], seen[0]["scores"])
        return round(scores[0, 0].item(), 6), slope.tolist()

    moved = ((15.0, 10.0, 35.0, 30.0), 18, 0.6)
    assert score(moved) == (0.6, [1])
    assert score(((18.0, 10.0, 38.0, 30.0), 18, 0.6)) == (0, [0])
    # Another label, in the very same place.
    assert score((DOG[0], 17, 0.95)) == (0, [0])
    # Of two the one that overlaps more, be it the less likely; of two that overlap alike the likelier.
    nearer = ((11.0, 10.0, 31.0, 30.0), 18, 0.2)
    assert score(moved, nearer) == (0.2, [0, 1])
    mirrored = ((5.0, 10.0, 25.0, 30.0), 18, 0.7)
    assert score(moved, mirrored) == (0.7, [0, 1])
    assert score(mirrored, moved) == (0.7, [1, 0])
    # Exactly a half is enough: 20 by 10 of 20 by 20.
    assert score(((10.0, 10.0, 30.0, 20.0), 18, 0.5)) == (0.5, [1])
    assert score(((10.0, 10.0, 30.0, 19.9), 18, 0.5)) == (0, [0])
    # Nothing at all, and a box that is none.
    assert score() == (0, [])
    assert score(((10.0, 10.0, 10.0, 10.0), 18, 0.5)) == (0, [0])


def test_a_box_that_was_not_found_stays_away() -> None:
    # Its row is zeros, and so is a box of nothing that an altered image may have.
    readout = Boxes(3)
    anchor = readout.hold(output([DOG]), None)
    seen = output([((0.0, 0.0, 0.0, 0.0), 0, 0.0), DOG, DOG])
    scores = readout.scores(seen, anchor)
    torch.testing.assert_close(scores, torch.tensor([[0.9, 0, 0]]), rtol=0, atol=0)
    (slope,) = torch.autograd.grad(scores[0, 1:].sum(), seen[0]["scores"])
    assert slope.tolist() == [0, 0, 0]


def test_an_absent_score_has_a_gradient_of_zeros_whatever_the_others_are() -> None:
    readout = Boxes(2)
    anchor = readout.hold(output([DOG]), None)
    seen = output([((40.0, 0.0, 50.0, 9.0), 18, float("inf")), ((40.0, 0.0, 50.0, 9.0), 18, float("nan"))])
    scores = readout.scores(seen, anchor)
    assert scores.tolist() == [[0, 0]]
    (slope,) = torch.autograd.grad(scores.sum(), seen[0]["scores"])
    assert slope.tolist() == [0, 0]


def test_where_a_box_lies_is_not_differentiated() -> None:
    readout, seen = Boxes(2), output([DOG, CAT])
    seen[0]["boxes"].requires_grad_()
    scores = readout.scores(seen, readout.hold(seen, None))
    slopes = torch.autograd.grad(scores.sum(), [seen[0]["boxes"], seen[0]["scores"]], allow_unused=True)
    assert slopes[0] is None
    assert slopes[1].tolist() == [1, 1]


def test_matching_is_what_loops_over_pairs_give() -> None:
    generator = torch.Generator().manual_seed(3)

    def crowd(count: int) -> Output:
        corner = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 20
        sides = 5 + torch.rand(count, 2, generator=generator, dtype=torch.float64) * 20
        labels = torch.randint(1, 4, (count,), generator=generator)
        scores = torch.rand(count, generator=generator, dtype=torch.float64)
        return [{"boxes": torch.cat([corner, corner + sides], 1), "labels": labels, "scores": scores}]

    for count in (0, 1, 200):
        anchor = Boxes(12).hold(crowd(20), None)
        altered = crowd(count)
        scores = Boxes(12).scores(altered, anchor)
        hits = 0
        for rank in range(12):
            left, top, right, bottom, label, _ = anchor[0, rank].tolist()
            best, expected = 0.5, 0.0
            for box, kind, score in zip(altered[0]["boxes"], altered[0]["labels"], altered[0]["scores"], strict=True):
                x, y, width, height = box[0], box[1], box[2] - box[0], box[3] - box[1]
                across = min(right, float(x + width)) - max(left, float(x))
                down = min(bottom, float(y + height)) - max(top, float(y))
                shared = across * down if across > 0 and down > 0 else 0.0
                overlap = shared / (float(width * height) + (right - left) * (bottom - top) - shared)
                if int(kind) == label and overlap >= best:
                    best, expected = overlap, float(score)
            hits += expected > 0
            assert float(scores[0, rank]) == expected
        assert (hits > 3) == (count == 200)


@pytest.mark.parametrize("family", [*detectors.FAMILIES, "grid"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_detector_that_finds_nothing_still_has_scores_that_depend_on_its_input(
    family: str, dtype: torch.dtype
) -> None:
    net = detectors.build(family, least=1.0).to(dtype)
    batch = detectors.pictures(2).to(dtype).requires_grad_()
    seen, readout = net(batch), Boxes()
    anchor = readout.hold(seen, None)
    scores = readout.scores(seen, anchor)
    assert not anchor.any()
    assert not scores.any()
    (slope,) = torch.autograd.grad(scores.sum(), batch)
    assert not slope.any()
    assert not readout.order(scores, anchor).isfinite().any()


def test_boxes_for_people() -> None:
    anchor = Boxes(4).hold(output([CAT, DOG, CAR]), None)
    names = [(rank, label, round(score, 6), box) for rank, label, score, box in found(anchor[0])]
    assert names == [(0, 18, 0.9, DOG[0]), (1, 3, 0.7, CAR[0]), (2, 17, 0.4, CAT[0])]
    assert found(anchor[0].numpy()) == found(anchor[0].tolist()) == found(anchor[0])
    assert found(torch.zeros(5, 6)) == []


@pytest.mark.parametrize(
    "returned", [torch.zeros(2, 5), {"out": torch.zeros(1)}, [{"boxes": torch.zeros(1, 4)}], [torch.zeros(3)], None]
)
def test_no_detector_is_refused(returned: object) -> None:
    with pytest.raises(UsageError, match="no detector"):
        Boxes().hold(returned, None)


def test_readouts_are_values() -> None:
    assert Boxes() == Boxes(5)
    assert hash(Boxes(7)) == hash(Boxes(7)) != hash(Boxes())
    with pytest.raises(ValueError, match="at least 2"):
        Boxes(1)
