"""How many images pass the network together: by the largest layer at their size, and by nothing that may change."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from cnnviz_cli import explain
from cnnviz_cli.config.load import load_settings
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.engine import device as devices
from cnnviz_cli.engine.device import LARGEST_BLOCK, Footprint, batch_for, measure_footprint
from cnnviz_cli.run.explain import Explainer
from cnnviz_cli.run.image_data import NetworkInput
from cnnviz_cli.run.session import Session

MIB = 2**20
CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("largest", "images"),
    [
        (96 * 112 * 112 * 4, 4),  # the bundled network, MobileNet V2
        (64 * 112 * 112 * 4, 8),  # ResNets
        (64 * 224 * 224 * 4, 2),  # VGG
        (8 * MIB, 2),  # four of them would be a block that is mapped anew
        (8 * MIB - 1, 4),
        (100 * MIB, 1),
        (0, 8),
    ],
)
def test_the_largest_activation_decides_on_a_cpu(largest: int, images: int) -> None:
    assert batch_for(CPU, largest) == images
    assert images == 1 or images * largest < LARGEST_BLOCK
    assert batch_for(torch.device("cuda"), largest) == batch_for(torch.device("mps"), largest) == 32


def test_a_footprint_is_that_of_the_modules_outputs() -> None:
    net, item = tiny.build(tiny.Plain), tiny.pictures(1)
    # Two maps of 4 x 12 x 12, the pooled 4 x 6 x 6, two of 6 x 6 x 6, five scores; doubles.
    sizes = [4 * 144, 4 * 144, 4 * 36, 6 * 36, 6 * 36, 5]
    assert measure_footprint(net, net, item) == Footprint(8 * max(sizes), 8 * sum(sizes))
    assert measure_footprint(net, net, item.expand(1, 3, 12, 12)).item(10, recorded=False) == 40 + 3 * 8 * 576
    assert measure_footprint(net, net.fc, torch.zeros(1, 6).double()).largest == 8 * 6  # the item itself


def session(**flags: str) -> Session:
    paths = {(name,): text for name, text in {"device": "cpu", **flags}.items()}
    return Session.load("all", load_settings("all", paths, None, {}), Reporter())


@pytest.mark.usefixtures("tiny_network")
def test_auto_follows_from_the_network_its_input_and_the_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    def at(block: int, **flags: str) -> int:
        monkeypatch.setattr(devices, "LARGEST_BLOCK", block)
        return session(**flags).batch_size

    largest = max(info.shape[0] * info.shape[1] * info.shape[2] for info in session().context.layers)
    assert at(4 * 4 * largest + 1) == 4
    assert at(4 * 4 * largest) == 2
    assert at(4 * 4 * largest + 1, precision="bf16") == 8
    assert at(4 * 4 * largest + 1, batch_size="5") == 5


@pytest.mark.parametrize(
    ("asked", "together"),
    [("auto", [(4, 32), (1, 64), (1, 64), (1, 64), (1, 32)]), (4, [(4, 32), (3, 64), (1, 32)])],
)
def test_larger_inputs_pass_fewer_at_a_time(
    asked: Any, together: list[tuple[int, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "LARGEST_BLOCK", 4 * (4 * 4 * 32 * 32) + 1)  # four images at 32 x 32
    files = []
    for number, side in enumerate([32, 32, 32, 32, 64, 64, 64, 32]):
        pixels = np.random.default_rng(number).integers(0, 256, (side, side, 3), dtype=np.uint8)
        files.append(tmp_path / f"{number}.png")
        Image.fromarray(pixels).save(files[-1])
    seen: list[tuple[int, int]] = []
    real = Explainer.explain_inputs

    def watched(self: Explainer, inputs: Sequence[NetworkInput], *rest: Any) -> Any:
        seen.append((len(inputs), len(inputs[0].pixels)))
        return real(self, inputs, *rest)

    monkeypatch.setattr(Explainer, "explain_inputs", watched)
    found = explain(tiny.Plain().eval(), files, "gradcam", resize="full", input_size=32, batch_size=asked)
    assert seen == together
    assert [len(one["gradcam"].map) for one in found] == [16, 16, 16, 16, 32, 32, 32, 16]
