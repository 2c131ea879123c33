"""docs/notebook.ipynb, its cells run and their outputs in it (`make notebook`)."""

from __future__ import annotations

import ast
import base64
import contextlib
import json
import os
from collections.abc import Callable
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

from generate import reduced
from PIL import Image

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
WIDTH = 1000
"""Of a figure in the notebook, in pixels; running the cell gives a larger one."""

CELLS: tuple[tuple[str, str], ...] = (
    (
        "markdown",
        "# Explaining a network in a notebook\n\n"
        "Run this notebook from `sample_images/` of the checkout. The network comes with the package, so nothing is "
        "downloaded.",
    ),
    ("code", 'import cnnviz_cli\n\nfound = cnnviz_cli.explain("efficientnet_lite0", "chelsea_coffee.png")\nfound[0]'),
    (
        "markdown",
        "## Two classes in one image\n\nBy default, the most probable class is explained. `select` chooses results by "
        "method, layer and class.",
    ),
    (
        "code",
        'found = cnnviz_cli.explain(\n    "efficientnet_lite0",\n    "chelsea_coffee.png",\n'
        '    methods=["gradcam", "smoothgrad"],\n    targets=["tiger cat", "espresso"],\n    samples=10,\n)\n'
        "[(one.method, one.target.label, one.state, one.map.shape) for one in found[0]]",
    ),
    ("code", '(espresso,) = found[0].select("gradcam", target="espresso")\nespresso'),
    (
        "markdown",
        "## Numbers\n\n`map` is the raw map at the resolution of its layer. `map_on_photo()` is the same map over the "
        "whole image, with NaN outside the network's crop. This cell computes how much of the evidence for espresso is "
        "in the right half.",
    ),
    (
        "code",
        "import numpy as np\n\non_photo = np.nan_to_num(espresso.map_on_photo())\n"
        "right = on_photo[:, on_photo.shape[1] // 2 :].sum() / on_photo.sum()\n"
        'print(f"{right:.0%} of the evidence for espresso is on the right")',
    ),
    (
        "markdown",
        "## Your own network\n\nPass any `nn.Module` that returns class scores, here one with random weights. The "
        "network stays unchanged, even in the middle of its training.",
    ),
    (
        "code",
        "import torch\nfrom torch import nn\n\ntorch.manual_seed(0)\nnet = nn.Sequential(\n"
        "    nn.Conv2d(3, 16, 5, stride=2),\n    nn.ReLU(),\n    nn.Conv2d(16, 32, 3, stride=2),\n    nn.ReLU(),\n"
        "    nn.AdaptiveAvgPool2d(1),\n    nn.Flatten(),\n    nn.Linear(32, 2),\n)\n\n"
        'mine = cnnviz_cli.explain(net, "coffee.png", labels=["cat", "cup"], input_size=96)\n'
        'assert net.training\nmine[0, "gradcam"]',
    ),
)


Shrink = Callable[[Image.Image, int], Image.Image]
"""Resizes a figure to a width."""


def run(source: str, room: dict[str, Any], shrink: Shrink = reduced) -> list[dict[str, Any]]:
    """Run a cell and give its outputs as a notebook holds them; the last line's value is shown if it has one.

    Raises whatever the cell raises.
    """
    body = ast.parse(source)
    last = body.body.pop() if isinstance(body.body[-1], ast.Expr) else None
    printed, shown = StringIO(), None
    with contextlib.redirect_stdout(printed):
        exec(compile(body, "<cell>", "exec"), room)
        if isinstance(last, ast.Expr):
            shown = eval(compile(ast.Expression(last.value), "<cell>", "eval"), room)
    outputs: list[dict[str, Any]] = []
    if printed.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": lines(printed.getvalue())})
    if shown is not None:
        outputs.append({"output_type": "display_data", "metadata": {}, "data": displayed(shown, shrink)})
    return outputs


def displayed(value: Any, shrink: Shrink) -> dict[str, Any]:
    """A value as a notebook shows it."""
    data: dict[str, Any] = {"text/plain": lines(repr(value))}
    if hasattr(value, "_repr_png_"):
        with Image.open(BytesIO(value._repr_png_())) as picture:
            small = shrink(picture, min(WIDTH, picture.width))
        buffer = BytesIO()
        small.save(buffer, "PNG", optimize=shrink is reduced)
        data["image/png"] = base64.b64encode(buffer.getvalue()).decode()
    return data


def lines(text: str) -> list[str]:
    """A text as notebooks keep it."""
    return text.splitlines(keepends=True)


def main() -> None:
    """Run all cells in sample_images and write the notebook."""
    os.chdir(ROOT / "sample_images")
    room: dict[str, Any] = {}
    cells: list[dict[str, Any]] = []
    for number, (kind, source) in enumerate(CELLS):
        cell: dict[str, Any] = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}, "source": lines(source)}
        if kind == "code":
            cell |= {"execution_count": None, "outputs": run(source, room)}
        cells.append(cell)
    notebook = {
        "cells": cells,
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    NOTEBOOK.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
