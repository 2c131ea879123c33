"""Outputs that are probabilities already: what is read from them, worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from cnnviz_cli.core.scores import Classes, probabilities, to_logits, to_two_classes
from cnnviz_cli.tasks.regression import OutputValues
from cnnviz_cli.tasks.segmentation import Regions, predicted_classes


def test_of_classes_that_exclude_each_other_the_logarithm_is_read() -> None:
    shares = torch.tensor([[0.7, 0.2, 0.1]])
    found = Classes("", "probabilities", exclusive=True).scores(shares, None)
    torch.testing.assert_close(found, torch.tensor([[math.log(0.7), math.log(0.2), math.log(0.1)]]))
    torch.testing.assert_close(probabilities(found, sigmoid=False), shares)


def test_of_a_yes_the_logit_is_read_so_that_half_is_the_threshold() -> None:
    found = to_two_classes(
        Classes("", "probabilities", exclusive=False).scores(torch.tensor([[0.2], [0.5], [0.8]]), None)
    )
    expected = math.log(4)
    torch.testing.assert_close(found, torch.tensor([[expected, -expected], [0.0, 0.0], [-expected, expected]]))
    torch.testing.assert_close(
        probabilities(found, sigmoid=True).float(), torch.tensor([[0.8, 0.2], [0.5, 0.5], [0.2, 0.8]])
    )


def test_the_logit_of_a_sigmoid_has_the_gradient_of_what_went_in() -> None:
    z = torch.tensor([[-9.4, 0.0, 7.0]], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(to_logits(z.sigmoid(), "probabilities", exclusive=False).sum(), z)
    torch.testing.assert_close(slope, torch.ones_like(z))


def test_the_logarithm_of_a_softmax_has_the_gradient_of_log_softmax() -> None:
    z = torch.tensor([[1.0, 2.0, 4.0]], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(to_logits(z.softmax(1), "probabilities", exclusive=True)[0, 2], z)
    total = math.exp(1) + math.exp(2) + math.exp(4)
    expected = [-math.exp(1) / total, -math.exp(2) / total, 1 - math.exp(4) / total]
    torch.testing.assert_close(slope, torch.tensor([expected], dtype=torch.float64))


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_certainty_gives_finite_scores_that_keep_their_order(dtype: torch.dtype, *, exclusive: bool) -> None:
    shares = torch.tensor([[0.0, 1.0, 0.5]], dtype=dtype, requires_grad=True)
    found = to_logits(shares, "probabilities", exclusive=exclusive)
    (slope,) = torch.autograd.grad(found.sum(), shares)
    assert found.isfinite().all()
    assert slope.isfinite().all()
    assert found.argsort(1).tolist() == [[0, 2, 1]]


def test_a_one_is_taken_for_the_largest_number_below_it() -> None:
    for dtype, bits in ((torch.float32, 24), (torch.float64, 53)):
        ones = torch.ones(1, 1, dtype=dtype)
        for kind, values in (("probabilities", ones), ("log-probabilities", 0 * ones)):
            found = to_logits(values, kind, exclusive=False).item()  # type: ignore[arg-type]
            assert found == pytest.approx(bits * math.log(2), rel=1e-6), (dtype, kind)


def test_log_probabilities_are_logits_as_they_are_and_of_one_class_by_itself_the_logit() -> None:
    logs = torch.tensor([[0.7, 0.3]]).log()
    assert to_logits(logs, "log-probabilities", exclusive=True) is logs
    torch.testing.assert_close(
        to_logits(logs[:, 1:], "log-probabilities", exclusive=False), torch.tensor([[math.log(3 / 7)]])
    )


def test_the_region_of_yes_is_where_the_network_says_more_than_half() -> None:
    shares = torch.tensor([[[[0.1, 0.6], [0.9, 0.4]]]])
    readout = Regions(head="", returns="probabilities", exclusive=False)
    anchor = readout.hold(shares, None)
    assert predicted_classes(anchor).tolist() == [[[0, 1], [1, 0]]]
    # Yes: log(0.6/0.4) + log(0.9/0.1); no: minus the logits where the network says no.
    expected = [[math.log(9) + math.log(1.5), math.log(1.5) + math.log(9)]]
    torch.testing.assert_close(readout.scores(shares, anchor), torch.tensor(expected))


def test_a_softmax_at_each_position_is_summed_by_its_logarithms() -> None:
    shares = torch.tensor([[[[0.7, 0.2]], [[0.2, 0.5]], [[0.1, 0.3]]]])
    readout = Regions(head="", returns="probabilities")
    anchor = readout.hold(shares, None)
    assert predicted_classes(anchor).tolist() == [[[0, 1]]]
    torch.testing.assert_close(readout.scores(shares, anchor), torch.tensor([[math.log(0.7), math.log(0.5), 0.0]]))


def test_one_value_is_always_the_first_whatever_its_sign() -> None:
    readout = OutputValues("", single=True)
    scores = to_two_classes(readout.scores(torch.tensor([-3.0, 5.0]), None))
    assert scores.tolist() == [[3.0, -3.0], [-5.0, 5.0]]
    assert readout.order(scores, None).argmax(1).tolist() == [1, 1]
    several = OutputValues("", single=False)
    assert several.order(torch.tensor([[-2.0, 2.0]]), None).tolist() == [[-2.0, 2.0]]
