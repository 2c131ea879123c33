"""The maps of a batch are judged from beginning to end, by whatever is registered."""

from __future__ import annotations

import tiny
from measures.judging import judge_batch, photographs


def test_two_images_are_explained_and_their_maps_judged() -> None:
    net, batch = tiny.build(tiny.Plain).float(), photographs(2)
    judged = judge_batch(net, batch, "gradcam,gradient", "subsets")
    assert len(judged) == 2
    for image in judged:
        assert [len(task) for task in image.panels] == [1, 1]
        for (judgement,) in image.panels:
            assert -1 <= judgement.numbers["subsets"] <= 1
            assert not judgement.undone
        assert [control.name for control in image.controls] == ["random pixels", "random 7 x 7", "edges", "centre"]
    # A gradient's map holds magnitudes, Grad-CAM's does not.
    assert [task[0].of_magnitudes for task in judged[0].panels] == [False, True]
