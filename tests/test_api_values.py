"""Arrays of more than eight bits, and tensors of one image, from Python."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch

from cnnviz_cli import UsageError, explain

NET = tiny.Plain().eval()


def seen(image: object, **options: object) -> np.ndarray:
    """What the network is shown, at its own size."""
    found = explain(NET, image, input_size=32, mean=0.0, std=1.0, resize="squash", **options)
    return np.asarray(found[0].seen)


@pytest.mark.parametrize(
    ("image", "range_", "wanted"),
    [
        (np.full((32, 32), 3000, np.uint16), "auto", 187),  # 3000 * 255 / 4095 = 186.8
        (np.full((32, 32, 3), 3000, np.uint16), "container", 12),
        (np.full((32, 32), 3000, np.int16), (2000, 4000), 128),
        (np.full((32, 32, 3), 0.25), "auto", 64),
        (np.full((32, 32), 200.0, np.float32), "auto", 200),
        (np.full((32, 32), 3000, np.int64), "auto", 187),
        (np.full((32, 32), 100, np.uint8), "auto", 100),
        (np.full((32, 32), 100, np.uint8), (0, 200), 128),
    ],
)
def test_arrays_are_shown_in_their_range(image: np.ndarray, range_: object, wanted: int) -> None:
    assert np.unique(seen(image, value_range=range_)).tolist() == [wanted]


def test_one_image_as_a_tensor_without_a_batch() -> None:
    tensor = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(1))
    one, batch = explain(NET, tensor), explain(NET, tensor[None])
    assert len(one) == 1
    assert (one[0]["gradcam"].map == batch[0]["gradcam"].map).all()


def test_a_range_the_wrong_way_round_is_refused() -> None:
    with pytest.raises(UsageError, match="must have a lower value before a higher one, not '4095,0'") as caught:
        seen(np.zeros((8, 8), np.uint16), value_range=(4095, 0))
    assert caught.value.fix == "Did you mean 0,4095?"
