"""What a class was told apart from stands above its picture."""

from __future__ import annotations

import numpy as np
import pytest

from cnnviz_cli.core.panels import Heatmap
from cnnviz_cli.render.compare import _target_lines
from cnnviz_cli.render.figures import caption_lines
from cnnviz_cli.render.style import Caption

PANEL = Heatmap(np.array([[[0.0, 1.0]]], np.float32), target=0)


@pytest.mark.parametrize(("contrast", "said"), [("tabby", "rather than tabby"), ("", "")])
def test_a_caption_names_the_other_class(contrast: str, said: str) -> None:
    caption = Caption("gradcam", "stages.6", "tiger cat", "39.0 %", contrast=contrast)
    assert caption.contrast_text == said
    lines = [line.text for line in caption_lines(caption, PANEL, 600, 14)]
    assert lines == ["tiger cat   39.0 %", " · ".join(filter(None, ("gradcam, stages.6", said)))]
    assert [line.text for line in _target_lines(caption)] == ["tiger cat", f"39.0 %  {said}".strip()]


def test_what_depends_on_no_class_says_nothing_of_one() -> None:
    lines = [line.text for line in caption_lines(Caption("eigencam", "stages.6"), PANEL, 600, 14)]
    assert lines == ["eigencam, stages.6"]
