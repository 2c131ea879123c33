"""What a network returns is told by the shape of it."""

from __future__ import annotations

import sys
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.models.inspect.outputs import NetworkOutput
from cnnviz_cli.models.load.loaded_model import load_model

SCORES, MAPS = torch.zeros(1, 7), torch.zeros(1, 5, 4, 6)
BOX = {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0, dtype=torch.int64)}


class Mapped(OrderedDict):  # type: ignore[type-arg]
    """As the outputs of transformers are."""

    logits = SCORES


@pytest.mark.parametrize(
    ("output", "kind", "classes"),
    [
        (SCORES, "scores", 7),
        ((SCORES, MAPS), "scores", 7),
        (SimpleNamespace(logits=SCORES, aux_logits=None), "scores", 7),
        (Mapped(logits=SCORES), "scores", 7),
        (MAPS, "maps", 5),
        (MAPS[:, :, :1, :1], "scores", 5),
        ({"out": MAPS[:, :, :1, :1]}, "maps", 5),
        ({"out": MAPS, "aux": SCORES}, "maps", 5),
        (SimpleNamespace(logits=MAPS), "maps", 5),
        ([BOX], "boxes", 0),
        ([BOX | {"masks": MAPS}, BOX], "boxes", 0),
        ((BOX,), "boxes", 0),
        ({"scores": SCORES}, "scores", 7),
        ({"out": SCORES}, "scores", 7),
    ],
)
def test_three_kinds_are_known(output: Any, kind: str, classes: int) -> None:
    found = NetworkOutput.from_output(output)
    assert (found.require_kind("net"), found.classes) == (kind, classes)


@pytest.mark.parametrize(
    ("output", "seen"),
    [
        (torch.zeros(3), r"a tensor of shape \(3,\)"),
        (torch.zeros(1, 4, 5), r"a tensor of shape \(1, 4, 5\)"),
        ({"hidden": torch.zeros(1, 4, 5)}, "a mapping with hidden"),
        ({"ids": torch.zeros(1, 4, dtype=torch.int64)}, "a mapping with ids"),
        ({}, "a mapping with nothing"),
        ([], "a list of 0"),
        ([BOX, {"boxes": BOX["boxes"]}], "a list of 2"),
        (({}, [BOX]), "a tuple of 2"),
        (None, "a NoneType"),
    ],
)
def test_anything_else_is_refused_with_what_is_known(output: Any, seen: str) -> None:
    with pytest.raises(UsageError, match=f"net returns {seen}, so it is no classifier") as caught:
        NetworkOutput.from_output(output).require_kind("net")
    for kind in ("(batch, classes) scores", "'out'", "boxes, scores and labels"):
        assert kind in caught.value.fix


CODE = """
import torch
from torch import nn

class Maps(nn.Module):
    def __init__(self, wrap=lambda maps: {"out": maps}):
        super().__init__()
        self.conv, self.wrap = nn.Conv2d(3, 6, 3), wrap
    def forward(self, x):
        return self.wrap(self.conv(x))

def maps():
    return Maps(), ["sky", "sea", "sand", "wood", "road", "roof"]
def boxes():
    return Maps(lambda maps: [{"boxes": one[:4].flatten(1).T, "scores": one[4], "labels": one[5]} for one in maps])
def pyramid():
    return Maps(lambda maps: {"low": maps, "high": maps})
def one():
    return Maps(lambda maps: maps[:, :1].mean((2, 3)))
"""


def test_a_loaded_network_says_what_it_returns(reporter: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "returning.py").write_text(CODE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "returning", raising=False)

    def load(name: str) -> Any:
        return load_model(f"returning:{name}", allow_code=True, reporter=reporter)

    assert (load("maps").returns, load("maps").labels) == ("maps", ("sky", "sea", "sand", "wood", "road", "roof"))
    assert (load("boxes").returns, load("boxes").labels) == ("boxes", ())
    assert (load("one").returns, load("one").labels) == ("scores", ("positive",))
    with pytest.raises(UsageError, match="returning:pyramid returns a mapping with low, high"):
        load("pyramid")


def test_a_program_for_one_picture_gives_maps_of_several(tmp_path: Path, reporter: Any) -> None:
    class Maps(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 5, 3)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"out": self.conv(x)}

    net = Maps().eval()
    torch.export.save(torch.export.export(net, (torch.zeros(1, 3, 16, 16),)), tmp_path / "maps.pt2")
    loaded = load_model(str(tmp_path / "maps.pt2"), allow_code=True, reporter=reporter)
    assert (loaded.returns, loaded.labels) == ("maps", ("0", "1", "2", "3", "4"))
    pictures = torch.rand(3, 3, 16, 16)
    torch.testing.assert_close(loaded.net(pictures)["out"], net(pictures)["out"])
