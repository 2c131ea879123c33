"""A network of which it is known what its channels find, and images in which that is marked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

SIDE = 48
# Odd numbers, so that hardly two pixels have one value, and rounding decides nothing.
WEIGHT = [[2, -0.9137, -1.0863], [-0.9271, -1.0729, 2], [1.0173, 1.0319, 0.9681], [0, 0, 0]]
BIAS = [0, 0, 0, 0.5]
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


class Coloured(nn.Module):
    """The first channel of `colours` is how red a pixel is, the second how blue, the third how bright, and the fourth
    is the same everywhere; `coarse` is the mean of two by two of them."""

    def __init__(self) -> None:
        super().__init__()
        self.colours = nn.Conv2d(3, 4, 1)
        self.coarse = nn.AvgPool2d(2)
        self.head = nn.Linear(4, 3)
        weight = torch.tensor(WEIGHT, dtype=torch.float32, device="cpu")
        # Undo the normalisation, so that values are those of pixels.
        std, mean = (torch.from_numpy(one).float() for one in (STD, MEAN))
        with torch.no_grad():
            self.colours.weight.copy_((weight * std)[:, :, None, None])
            self.colours.bias.copy_(weight @ mean + torch.tensor(BIAS, dtype=torch.float32, device="cpu"))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.coarse(self.colours(x)).mean((2, 3)))


def coloured() -> nn.Module:
    torch.manual_seed(0)
    return Coloured().eval()


def scene(number: int) -> tuple[NDArray[np.uint8], dict[str, NDArray[np.bool_]]]:
    """An image of grey noise with a red square, and in every other one a blue bar; and where they are."""
    rng = np.random.default_rng(number)
    image = np.repeat(rng.integers(60, 190, (SIDE, SIDE, 1)), 3, axis=2)
    image += rng.integers(-8, 9, image.shape)
    found = {}
    top, left = rng.integers(0, SIDE - 12, 2)
    found["red"] = np.zeros((SIDE, SIDE), np.bool_)
    found["red"][top : top + 12, left : left + 12] = True
    if number % 2 == 0:
        row = int(rng.integers(0, SIDE - 6))
        found["blue"] = np.zeros((SIDE, SIDE), np.bool_)
        found["blue"][row : row + 6, 4:40] = True
        found["red"] &= ~found["blue"]
        image[found["blue"]] = [10, 20, 200]
    image[found["red"]] = [230, 20, 30]
    image += rng.integers(-10, 11, image.shape)
    return image.clip(0, 255).astype(np.uint8), found


def write_scenes(folder: Path, count: int) -> None:
    """Images 0.png and so on in a folder ``in``, and a folder ``masks`` whose indices are 1 red and 2 blue."""
    (folder / "in").mkdir()
    (folder / "masks").mkdir()
    for number in range(count):
        image, found = scene(number)
        Image.fromarray(image).save(folder / f"in/{number}.png")
        mask = Image.fromarray(found["red"] + 2 * found.get("blue", np.zeros_like(found["red"])).astype(np.uint8))
        mask.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255])
        mask.save(folder / f"masks/{number}.png")
    (folder / "masks/labels.txt").write_text("nothing\nred\nblue\n", encoding="utf-8")


def write_boxes(path: Path, count: int) -> None:
    """The same as instances of COCO, each with its box alone."""
    objects, images = [], []
    for number in range(count):
        _, found = scene(number)
        images.append({"id": number, "file_name": f"{number}.png", "width": SIDE, "height": SIDE})
        for category, label in enumerate(("red", "blue"), 1):
            if label in found:
                rows, columns = (np.flatnonzero(found[label].any(axis)) for axis in (1, 0))
                box = [int(columns[0]), int(rows[0]), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1]
                objects.append({"id": len(objects), "image_id": number, "category_id": category, "bbox": box})
    categories = [{"id": 1, "name": "red"}, {"id": 2, "name": "blue"}]
    whole = {"images": images, "annotations": objects, "categories": categories}
    path.write_text(json.dumps(whole), encoding="utf-8")
