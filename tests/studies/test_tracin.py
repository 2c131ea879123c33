"""Influence on the last layer against gradients by autograd, against numbers by hand, against captum, and against what
leaving an image out does."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from cnnviz_cli.studies.influence.tracin import (
    Head,
    Training,
    find_influential,
    parts_of,
    round_digits,
    survey_training,
)

KINDS = ("softmax", "softmax without bias", "sigmoid", "one score")


def _head(kind, classes=5, channels=7, seed=0):
    rng = np.random.default_rng(seed)
    rows = 1 if kind == "one score" else classes
    bias = None if kind == "softmax without bias" else rng.normal(size=rows)
    return Head(rng.normal(size=(rows, channels)), bias, kind in ("sigmoid", "one score"))


def _data(head, images=23, asked=4, seed=1):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(images, head.weight.shape[1])).astype(np.float32)
    classes = rng.integers(0, head.classes, images)
    others = rng.normal(size=(asked, head.weight.shape[1])).astype(np.float32).astype(np.float64)
    return features, classes, others, rng.integers(0, head.classes, asked)


def _gradients(head, features, index, asked=False):
    """Of the loss of one image at the layer's weight and bias, by autograd, in one vector."""
    layer = nn.Linear(head.weight.shape[1], len(head.weight), bias=head.bias is not None).double()
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(head.weight))
        if head.bias is not None:
            layer.bias.copy_(torch.from_numpy(head.bias))
    scores = layer(torch.from_numpy(np.asarray(features, np.float64)))
    if not head.sigmoid:
        loss = functional.cross_entropy(scores[None], torch.tensor([int(index)]))
    elif head.scores_one:
        loss = functional.binary_cross_entropy_with_logits(scores, torch.tensor([float(index)], dtype=torch.float64))
    elif asked:
        loss = functional.binary_cross_entropy_with_logits(scores[index], torch.ones((), dtype=torch.float64))
    else:
        truth = functional.one_hot(torch.tensor(int(index)), len(scores)).double()
        loss = functional.binary_cross_entropy_with_logits(scores, truth, reduction="sum")
    return torch.cat([found.flatten() for found in torch.autograd.grad(loss, list(layer.parameters()))]).numpy()


def _training(classes, digests=None):
    return Training.of(list(classes), digests or [f"{number:064x}" for number in range(len(classes))])


def _cut(features, size):
    return [features[start : start + size] for start in range(0, len(features), size)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_influence_is_the_dot_product_of_two_gradients_by_autograd(kind):
    head = _head(kind)
    features, classes, others, targets = _data(head)
    found = find_influential(head, _cut(features, 5), _training(classes), others, targets, len(features))
    for number, one in enumerate(found):
        expected = [
            float(_gradients(head, row, index) @ _gradients(head, others[number], targets[number], asked=True))
            for row, index in zip(features, classes, strict=True)
        ]
        values = {neighbour.row: neighbour.parts.value for neighbour in one.helpful + one.harmful}
        assert sorted(values) == list(range(len(features)))
        np.testing.assert_allclose([values[row] for row in range(len(features))], expected, rtol=1e-8)
        assert one.help == pytest.approx(sum(value for value in expected if value > 0))
        assert one.harm == pytest.approx(sum(value for value in expected if value < 0))
        assert (one.helping, one.harming) == (sum(v > 0 for v in expected), sum(v < 0 for v in expected))
        strengths = [neighbour.parts.value for neighbour in one.helpful]
        assert strengths == sorted(strengths, reverse=True)
        assert min(strengths) > 0
        strengths = [neighbour.parts.value for neighbour in one.harmful]
        assert strengths == sorted(strengths)
        assert max(strengths) < 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_influence_of_an_image_on_itself_is_the_squared_length_of_its_gradient(kind):
    head = _head(kind)
    features, classes, _, _ = _data(head)
    found = survey_training(head, _cut(features, 4), _training(classes), 3)
    kept, every = found.suspects, found.values
    expected = []
    for row, index in zip(features, classes, strict=True):
        asked = _gradients(head, row, index, asked=True)
        expected.append(float(_gradients(head, row, index) @ asked))
    np.testing.assert_allclose(every, expected, rtol=1e-10)
    assert [one.row for one in kept] == np.argsort(-np.array(expected))[:3].tolist()
    likeliest = head.class_probabilities(features.astype(np.float64)).argmax(1)
    assert found.right == int((likeliest == classes).sum())
    assert survey_training(head, _cut(features, 4), _training(classes), 0).suspects == []


def test_a_case_by_hand():
    # Two classes, one feature, no bias: z = (a, -a). At a = 0 both have one half.
    head = Head(np.array([[1.0], [-1.0]]), None, sigmoid=False)
    np.testing.assert_allclose(head.probabilities(np.array([[0.0], [np.log(3) / 2]])), [[0.5, 0.5], [0.75, 0.25]])
    # a = ln 3 / 2 of class 0: p - y = (-1/4, 1/4); of class 1: (3/4, -3/4).
    one = np.log(3) / 2
    features = np.array([[one], [one]], np.float32)
    (found,) = find_influential(head, [features], _training([0, 1]), np.array([[one]]), np.array([0]), 4)
    exact = np.float64(np.float32(one)) * one
    assert [(n.row, n.parts.residuals, n.parts.pull, n.parts.likeness) for n in found.helpful] == [
        (0, pytest.approx(1 / 8, rel=1e-6), 1.0, 1.0)
    ]
    assert found.helpful[0].parts.value == pytest.approx(exact / 8, rel=1e-6)
    assert found.harmful[0].parts.value == pytest.approx(-3 * exact / 8, rel=1e-6)
    assert found.harmful[0].parts.pull == -1.0


def test_a_bias_adds_one_to_the_features():
    parts = parts_of(np.array([1.0, 2.0]), np.array([0.5]), np.array([3.0, -1.0]), np.array([2.0]), 1.0)
    assert (parts.value, parts.residuals, parts.features, parts.pull) == (2.0, 1.0, 2.0, 1.0)
    assert parts.likeness == pytest.approx(1 / np.sqrt(5) / np.sqrt(10), abs=1e-6)


@pytest.mark.parametrize("size", [1, 3, 100])
def test_how_rows_are_cut_changes_nothing(size):
    head = _head("softmax")
    features, classes, others, targets = _data(head, images=60)
    training = _training(classes)
    whole = find_influential(head, _cut(features, 60), training, others, targets, 4)
    cut = find_influential(head, _cut(features, size), training, others, targets, 4)
    assert [(a.helpful, a.harmful) for a in whole] == [(b.helpful, b.harmful) for b in cut]
    assert all(len(one.helpful) == len(one.harmful) == 4 for one in whole)
    assert survey_training(head, _cut(features, size), training, 5).suspects == (
        survey_training(head, [features], training, 5).suspects
    )


def test_of_equal_influences_the_smaller_digest_comes_first():
    head = _head("softmax")
    features, _, others, targets = _data(head)
    same = np.repeat(features[:1], 6, 0)
    training = _training([int(targets[0])] * 6, [digest * 64 for digest in "fbdace"])
    (found,) = find_influential(head, _cut(same, 2), training, others[:1], targets[:1], 3)
    kept = found.helpful or found.harmful
    assert [one.digest[0] for one in kept] == ["a", "b", "c"]
    assert [one.digest[0] for one in survey_training(head, _cut(same, 2), training, 3).suspects] == ["a", "b", "c"]


def test_copies_are_one_neighbour_and_several_in_the_sum():
    head = _head("softmax")
    features, _, others, targets = _data(head)
    rows = np.stack([features[0], features[1], features[0], features[0]])
    training = _training([2, 1, 2, 3], ["a" * 64, "b" * 64, "a" * 64, "a" * 64])
    assert training.first.tolist() == [True, True, False, True]
    assert training.copies.tolist() == [2, 1, 0, 1]
    assert training.contradicted.tolist() == [True, False, True, True]
    (found,) = find_influential(head, [rows], training, others[:1], targets[:1], 4)
    (single,) = find_influential(head, [rows[:1]], _training([2], ["a" * 64]), others[:1], targets[:1], 4)
    assert {one.row for one in found.helpful + found.harmful} == {0, 1, 3}
    every = find_influential(head, [rows], _training([2, 1, 2, 3]), others[:1], targets[:1], 4)[0]
    assert (found.help, found.harm) == (every.help, every.harm)
    assert single.help + single.harm != 0


def test_nothing_is_helpful_where_the_network_is_certain():
    # p - y is 0 to the last bit: such an image moves nothing, and is neither helpful nor harmful.
    head = Head(np.array([[1000.0], [-1000.0]]), None, sigmoid=False)
    features = np.array([[1.0], [2.0]], np.float32)
    (found,) = find_influential(head, [features], _training([0, 0]), np.array([[1.0]]), np.array([1]), 4)
    assert (found.helpful, found.harmful, found.helping, found.harming) == ([], [], 0, 0)


def test_what_rounding_leaves_of_a_zero_is_no_influence():
    # Orthogonal features, whose dot product is not 0 to the last bit: no layer's bias, nothing in common.
    head = Head(np.eye(3), None, sigmoid=False)
    given = np.float32([[0.1, 0.3, 0.7]])
    x, y, z = given[0].astype(np.float64)
    other = np.array([[y * z / 3, x * z / 3, -2 * x * y / 3]])
    assert 0 < abs(float((given[0].astype(np.float64) * other[0]).sum())) < 1e-16
    (found,) = find_influential(head, [given], _training([0]), other, np.array([1]), 4)
    assert (found.helpful, found.harmful, found.helping, found.harming, found.help, found.harm) == ([], [], 0, 0, 0, 0)


def test_one_score_is_that_of_a_yes_whatever_is_said_of_classes():
    for sigmoid in (False, True):
        head = Head(np.array([[1.0]]), None, sigmoid)
        np.testing.assert_allclose(head.class_probabilities(np.array([[np.log(3)]])), [[0.25, 0.75]])


def test_high_scores_do_not_overflow():
    for sigmoid in (False, True):
        head = Head(np.array([[3000.0], [-3000.0]]), None, sigmoid)
        assert np.isfinite(head.probabilities(np.array([[1.0], [-1.0]]))).all()
    one = Head(np.array([[3000.0]]), None, sigmoid=True)
    assert one.class_probabilities(np.array([[1.0], [-1.0]])).tolist() == [[0, 1], [1, 0]]


def test_rounded_to_nine_digits():
    assert round_digits(1.23456789012e-7) == 1.23456789e-7
    assert str(round_digits(-0.0)) == "0.0"


def test_many_classes_are_reckoned_in_few_rows():
    head = Head(np.zeros((21_841, 4)), None, sigmoid=False)
    assert head.rows == 192
    assert Head(np.zeros((10, 4)), None, sigmoid=False).rows == 4096


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("bias", [True, False])
def test_captum_gives_the_same(bias):
    # The fast variant of TracInCP leaves the gradient at the bias out, so it is the peer of a layer without one; the
    # usual one is told to look at the last layer alone.
    influence = pytest.importorskip("captum.influence")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4, bias=bias)).eval()
    inputs, classes = torch.randn(20, 6), torch.randint(0, 4, (20,))
    asked, targets = torch.randn(3, 6), torch.randint(0, 4, (3,))
    data = torch.utils.data.TensorDataset(inputs, classes)
    given = {
        "checkpoints": ["only"],
        "checkpoints_load_func": lambda _net, _path: 1.0,
        "loss_fn": nn.CrossEntropyLoss(reduction="sum"),
        "batch_size": 5,
    }
    if bias:
        peer = influence.TracInCP(net, data, layers=["2"], sample_wise_grads_per_batch=True, **given)
    else:
        peer = influence.TracInCPFast(net, net[2], data, **given)
    expected = peer.influence((asked, targets)).detach().numpy()
    alone = peer.self_influence().detach().numpy()
    weight, offset = net[2].weight.detach().double().numpy(), net[2].bias
    head = Head(weight, None if offset is None else offset.detach().double().numpy(), sigmoid=False)
    features, others = net[:2](inputs).detach().numpy(), net[:2](asked).detach().double().numpy()
    training = _training(classes.tolist())
    found = find_influential(head, _cut(features, 7), training, others, targets.numpy(), 20)
    for one, row in zip(found, expected, strict=True):
        values = {neighbour.row: neighbour.parts.value for neighbour in one.helpful + one.harmful}
        np.testing.assert_allclose([values.get(at, 0.0) for at in range(20)], row, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(survey_training(head, [features], training, 1).values, alone, rtol=1e-4)


def test_leaving_an_image_out_changes_the_loss_as_its_influence_says():
    # A logistic regression that is trained to its end, and once more without each image. Its ridge keeps it finite.
    rng = np.random.default_rng(3)
    features = rng.normal(size=(40, 2)) + np.repeat([[0.8, 0.0], [-0.8, 0.0]], 20, 0)
    classes = np.repeat([0, 1], 20)
    classes[[3, 27]] = [1, 0]  # two labels are wrong
    asked, target = np.array([[0.9, 0.3]]), np.array([0])

    def train(rows):
        weight = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
        given = torch.from_numpy(np.concatenate([features, np.ones((40, 1))], 1))[rows]
        truth = torch.from_numpy(classes)[rows]
        optimizer = torch.optim.LBFGS([weight], max_iter=200, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

        def loss():
            optimizer.zero_grad()
            found = functional.cross_entropy(given @ weight.T, truth, reduction="sum") + 0.5 * (weight**2).sum()
            found.backward()
            return found

        optimizer.step(loss)
        return weight.detach().numpy()

    def loss_of(weight):
        return -np.log(Head(weight[:, :2], weight[:, 2], sigmoid=False).probabilities(asked)[0, target[0]])

    everything = np.arange(40)
    weight = train(everything)
    moved = np.array([loss_of(train(np.delete(everything, row))) - loss_of(weight) for row in everything])
    head = Head(weight[:, :2], weight[:, 2], sigmoid=False)
    given = features.astype(np.float32)
    (found,) = find_influential(head, [given], _training(classes), asked, target, 40)
    influence = {one.row: one.parts.value for one in found.helpful + found.harmful}
    estimate = np.array([influence[row] for row in everything])
    assert np.corrcoef(estimate, moved)[0, 1] > 0.8
    assert found.harmful[0].row == int(moved.argmin())
    assert found.helpful[0].row in np.argsort(-moved)[:3]
    # What is labelled wrongly stands in front of those that are most against themselves.
    assert 27 in {one.row for one in survey_training(head, [given], _training(classes), 2).suspects}
