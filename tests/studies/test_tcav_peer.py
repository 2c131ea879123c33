"""captum's TCAV with the directions of cnnviz: the same shares, and its "magnitude" is the mean derivative."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from studies.planted import LAYER, Planted, ask, folders, images_of, planted_model

pytest.importorskip("captum")


def tensors(folder: Path) -> list[torch.Tensor]:
    """The images of a folder as the network sees them."""
    found = [np.asarray(Image.open(path), np.float32) / 255 for path in sorted(folder.iterdir())]
    return [torch.from_numpy(one.transpose(2, 0, 1).copy()) for one in found]


@pytest.mark.filterwarnings("ignore")
def test_captum_counts_the_same_signs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from captum.concept import TCAV, Concept
    from captum.concept._utils.classifier import Classifier
    from torch.utils.data import DataLoader

    made = folders(tmp_path)
    monkeypatch.setattr(importlib.import_module("cnnviz_cli.run.session"), "load_model", planted_model)
    ask(tmp_path / "out", images_of(made["class"]), [made["red"]], made["random"], pool="none")
    (ours,) = json.loads((tmp_path / "out" / "manifest.json").read_bytes())["findings"]["tcav"]["scores"]
    vector = torch.from_numpy(np.load(tmp_path / "out" / "tcav.npz")[f"red, {LAYER}"])

    class Given(Classifier):
        """Its direction is cnnviz's; captum's own is found by random steps, another one on every run."""

        def __init__(self) -> None:
            self.seen: list[int] = []

        def train_and_eval(self, dataloader: Any, **_named: Any) -> None:
            for activations, _ in dataloader:
                self.seen.append(activations.shape[1])

        def weights(self) -> torch.Tensor:
            return torch.stack([vector, -vector])

        def classes(self) -> list[int]:
            return [0, 1]

    concepts = [
        Concept(number, name, DataLoader(tensors(made[name]), batch_size=4))  # type: ignore[arg-type]
        for number, name in enumerate(("red", "random"))
    ]
    given = Given()
    net = Planted().eval()
    tool = TCAV(net, [LAYER], classifier=given, save_path=str(tmp_path / "cav"))
    theirs = tool.interpret(torch.stack(tensors(made["class"])), [concepts], target=0)["0-1"][LAYER]
    assert set(given.seen) == {vector.numel()}
    assert float(theirs["sign_count"][0]) == ours["share"]["value"] == 0.75
    assert float(theirs["magnitude"][0]) == pytest.approx(ours["mean"]["value"], rel=1e-5)
    # What its documentation calls magnitude is another number.
    assert abs(float(theirs["magnitude"][0]) - ours["magnitude"]) > 0.1
