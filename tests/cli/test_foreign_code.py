"""Code of the network's own that fails, hides what it runs, or has no weights yet: never called a bug of cnnviz."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import nets
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils import checkpoint as checkpointing

import cnnviz_cli
from cnnviz_cli.core.errors import ModelError
from cnnviz_cli.core.network import NetworkError, network_error, without_checkpoints

from .conftest import Command

SIZE = 32
IMAGES = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dim and a bright image."""
    (tmp_path / "in").mkdir()
    for name, value in (("a.png", 60), ("b.png", 255), ("c.png", 90)):
        Image.fromarray(np.full((40, 40, 3), value, dtype=np.uint8)).save(tmp_path / "in" / name)
    return tmp_path / "in"


def test_an_image_on_which_the_network_fails_fails_alone(cnnviz: Command, folder: Path, tmp_path: Path) -> None:
    how = ("--model", "nets:raises_when_bright", "--allow-code", "--input-size", "32", "-o", tmp_path / "o")
    done = cnnviz("gradcam", folder, *how, "-b", "3")
    assert done.code == 3
    assert done.err.count("\nfailed: ") == 1
    assert "b.png" in done.err
    assert "ValueError: this image is too bright" in done.err
    assert "bug" not in done.err
    assert (tmp_path / "o" / "a.png" / "gradcam.png").exists()
    assert (tmp_path / "o" / "c.png" / "gradcam.png").exists()


def test_from_python_the_networks_words_are_raised() -> None:
    bright = torch.full((1, 3, SIZE, SIZE), 2.0)
    with pytest.raises(NetworkError, match="ValueError: this image is too bright") as caught:
        cnnviz_cli.explain(nets.raises_when_bright(), bright, methods=["gradcam"])
    assert "nets.py:" in caught.value.excerpt


@pytest.mark.parametrize("name", ["checkpointed", "checkpointed_again"])
def test_checkpoints_are_passed_through(name: str) -> None:
    methods = ["gradcam", "gradient", "smoothgrad", "guided-backprop", "lrp"]
    both = (nets.classifier(), getattr(nets, name)())
    plain, hidden = (cnnviz_cli.explain(net, IMAGES, methods=methods, targets=[1]) for net in both)
    for one, other in zip(plain, hidden, strict=True):
        assert len(one.explanations) == len(methods)
        for here, there in zip(one.explanations, other.explanations, strict=True):
            np.testing.assert_array_equal(here.map, there.map)


def test_checkpoints_are_as_they_were_afterwards() -> None:
    before = checkpointing.CheckpointFunction
    with suppress(KeyError), without_checkpoints():
        assert checkpointing.CheckpointFunction is not before
        raise KeyError
    assert checkpointing.CheckpointFunction is before


def test_weights_without_values_are_told(cnnviz: Command, folder: Path, tmp_path: Path) -> None:
    done = cnnviz("gradcam", folder, "--model", "nets:lazy", "--allow-code", "-o", tmp_path / "o")
    assert done.code == 4
    assert "'conv.weight' has no shape yet" in done.err
    with pytest.raises(ModelError, match=r"'conv\.weight' has no shape yet"):
        cnnviz_cli.explain(nets.lazy(), IMAGES)
    with torch.device("meta"):
        net = nets.Classifier()
    with pytest.raises(ModelError, match="no values"):
        cnnviz_cli.explain(net, IMAGES)


def test_only_what_leaves_a_network_is_its_own() -> None:
    class Fails(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x @ torch.zeros(7, 7)

    with pytest.raises(RuntimeError) as caught:
        Fails()(torch.zeros(2, 3))
    found = network_error(caught.value)
    assert found is not None
    assert "RuntimeError: mat1 and mat2" in found.what
    assert Path(__file__).name in found.excerpt
    assert "x @ torch.zeros(7, 7)" in found.excerpt
    for error in (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")):
        assert network_error(error) is None
