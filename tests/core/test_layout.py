"""Maps told by their shape where the input is not square."""

from __future__ import annotations

import pytest
import torch

from cnnviz_cli.core.layers import as_maps, from_maps, input_proportions


@pytest.mark.parametrize(
    ("sides", "shape", "maps"),
    [
        ((256, 288), (1, 64, 64, 72), (1, 64, 64, 72)),  # ResNet's max-pooling
        ((192, 288), (1, 48, 72, 96), (1, 96, 48, 72)),  # Swin's first stage
        ((192, 288), (1, 6, 9, 768), (1, 768, 6, 9)),
        ((192, 288), (1, 64, 96, 144), (1, 64, 96, 144)),  # as close one way as the other
        ((20, 36), (1, 6, 3, 5), (1, 6, 3, 5)),  # rounded sides
        ((20, 36), (1, 3, 5, 96), (1, 96, 3, 5)),
        ((288, 192), (1, 9, 6, 768), (1, 768, 9, 6)),
        ((288, 192), (1, 768, 9, 6), (1, 768, 9, 6)),
        ((192, 288), (1, 512, 1, 1), (1, 512, 1, 1)),
        ((192, 288), (1, 0, 5, 5), (1, 0, 5, 5)),
        ((8, 4), (1, 2, 1, 1), (1, 2, 1, 1)),  # pooled to one position
        ((224, 224), (1, 7, 7, 5), (1, 5, 7, 7)),
        ((224, 224), (1, 7, 5, 3), (1, 7, 5, 3)),
    ],
)
def test_the_proportions_of_the_input_tell(
    sides: tuple[int, int], shape: tuple[int, ...], maps: tuple[int, ...]
) -> None:
    output = torch.arange(float(torch.Size(shape).numel())).reshape(shape)
    with input_proportions(*sides):
        found = as_maps(output)
        assert found is not None
        assert tuple(found.shape) == maps
        assert torch.equal(from_maps(found, output), output)


def test_outside_everything_is_as_for_a_square() -> None:
    with input_proportions(256, 288), input_proportions(100, 50):
        pass
    assert as_maps(torch.zeros(1, 64, 64, 72)).shape == (1, 72, 64, 64)  # type: ignore[union-attr]
    with pytest.raises(ZeroDivisionError), input_proportions(256, 288):
        raise ZeroDivisionError
    assert as_maps(torch.zeros(1, 64, 64, 72)).shape == (1, 72, 64, 64)  # type: ignore[union-attr]
