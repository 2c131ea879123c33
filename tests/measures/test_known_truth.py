"""On a network whose evidence is known, whatever points at it beats every map that has not seen the network."""

from __future__ import annotations

import pytest
from measures import framed
from measures.judging import QUIET, explained, explaining, requests, with_map

from cnnviz_cli.run.judge import Judge, Judgement

METHODS = ("gradcam", "occlusion", "lrp")
FAITHFUL = ("removal.gain", "subsets", "cells")
UNSEEING = ("random pixels", "random 7 x 7", "centre")
"""Not the edges: a frame is what the network looks for."""


@pytest.fixture(scope="module")
def means() -> dict[str, dict[str, float]]:
    """By map the mean of each column over six pictures; ``truth`` is the framed square itself."""
    net = framed.trained()
    pictures, labels, places = framed.pictures(6, 77)
    assert (net(pictures).argmax(1) == labels).all()
    found: dict[str, list[Judgement]] = {}
    half = (0.5,) * 3
    with explaining(net, pictures, ",".join(METHODS), window=7, stride=3, mean=half, std=half) as explainer:
        judge = Judge(explainer, requests("removal,subsets,cells", steps=8))
        batch = explained(explainer, pictures)
        for image in judge.judge_batch(batch, QUIET):
            for name, (judgement,) in zip(METHODS, image.panels, strict=True):
                found.setdefault(name, []).append(judgement)
            for control in image.controls:
                found.setdefault(control.name, []).append(control.judgement)
        for image in judge.judge_batch(with_map(batch, places.unsqueeze(1)), QUIET):
            found.setdefault("truth", []).append(image.panels[0][0])
    return {
        name: {column: sum(one.numbers[column] for one in several) / len(several) for column in FAITHFUL}
        for name, several in found.items()
    }


@pytest.mark.parametrize("column", FAITHFUL)
def test_truth_and_methods_beat_every_map_that_has_not_seen_the_network(
    means: dict[str, dict[str, float]], column: str
) -> None:
    best = max(means[name][column] for name in UNSEEING)
    for name in ("truth", *METHODS):
        assert means[name][column] > best + 0.05, name


def test_random_pixels_say_nothing(means: dict[str, dict[str, float]]) -> None:
    assert all(abs(number) < 0.2 for number in means["random pixels"].values())
