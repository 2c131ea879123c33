"""Folders of concepts for docs/tcav.md and the tests, made of the sample images: python tools/concept_folders.py FOLDER

fur/ and coffee/ are small squares of chelsea.png and coffee.png, striped/ and dotted/ are patterns in two colours, and
random/ are squares of the other images and coloured noise. cats/ are large squares of chelsea.png: images of a class.
No square of one folder is a square of another.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SAMPLES = Path(__file__).parents[1] / "sample_images"
SIDE = 160
COUNTS = {"cats": 12, "fur": 24, "coffee": 24, "striped": 24, "dotted": 24, "random": 60}

Pixels = NDArray[np.float64]
Draws = np.random.Generator


def squares(*names: str, low: float = 0.2, high: float = 0.4) -> Callable[[Draws], Pixels]:
    """Squares of images, each with a side between two shares of the shorter one, half of them turned over."""
    images = [Image.open(SAMPLES / name).convert("RGB") for name in names]

    def draw(draws: Draws) -> Pixels:
        image = images[draws.integers(len(images))]
        side = round(draws.uniform(low, high) * min(image.size))
        left, top = (int(draws.integers(length - side + 1)) for length in image.size)
        part = image.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        pixels: Pixels = np.asarray(part, np.float64) / 255
        return pixels[:, ::-1] if draws.random() < 0.5 else pixels

    return draw


def pattern(shape: Callable[[Pixels, Pixels], Any]) -> Callable[[Draws], Pixels]:
    """A pattern of two colours, turned and stretched at random."""

    def draw(draws: Draws) -> Pixels:
        down, across = np.mgrid[:SIDE, :SIDE] - SIDE / 2
        angle, pitch = draws.uniform(0, np.pi), draws.uniform(12, 32)
        along = (across * np.cos(angle) + down * np.sin(angle)) / pitch
        beside = (down * np.cos(angle) - across * np.sin(angle)) / pitch
        colors = draws.uniform(0, 0.4, 3), draws.uniform(0.6, 1, 3)
        return np.where(shape(along, beside)[..., None], *colors)

    return draw


def noise(draws: Draws) -> Pixels:
    """Coloured clouds: noise whose amplitude falls with the frequency."""
    rows, columns = np.meshgrid(np.fft.fftfreq(SIDE), np.fft.rfftfreq(SIDE), indexing="ij")
    falling = np.hypot(rows, columns).clip(1 / SIDE) ** -draws.uniform(0.8, 1.6)
    waves = draws.normal(size=(3, *falling.shape)) + 1j * draws.normal(size=(3, *falling.shape))
    clouds = np.fft.irfft2(waves * falling, s=(SIDE, SIDE))
    clouds = (clouds - clouds.mean((1, 2), keepdims=True)) / clouds.std((1, 2), keepdims=True)
    return (draws.uniform(0.3, 0.7, 3)[:, None, None] + 0.18 * clouds).transpose(1, 2, 0).clip(0, 1)


def make_folders(root: Path, counts: dict[str, int] | None = None) -> None:
    """Write the folders below `root`: the same files each time."""
    others = squares("camera.png", "rocket.jpg", low=0.15, high=0.6)
    makers: dict[str, Callable[[Draws], Pixels]] = {
        "cats": squares("chelsea.png", low=0.75, high=1.0),
        "fur": squares("chelsea.png"),
        "coffee": squares("coffee.png"),
        "striped": pattern(lambda along, _: np.sin(2 * np.pi * along) > 0),
        "dotted": pattern(lambda along, beside: np.cos(2 * np.pi * along) + np.cos(2 * np.pi * beside) > 0.8),
        "random": lambda draws: others(draws) if draws.random() < 0.5 else noise(draws),
    }
    for number, (name, draw) in enumerate(makers.items()):
        folder, draws = root / name, np.random.default_rng(number)
        folder.mkdir(parents=True, exist_ok=True)
        for at in range((counts or COUNTS)[name]):
            Image.fromarray(np.rint(255 * draw(draws)).astype(np.uint8)).save(folder / f"{at:02}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the folders are made")
    make_folders(parser.parse_args().folder)


if __name__ == "__main__":
    main()
