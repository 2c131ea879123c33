"""Both sides of docs/parity.md: the images and networks they share, and how far two arrays lie apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor, nn

import cnnviz_cli.methods  # noqa: F401
from cnnviz_cli.core.method import find_method
from cnnviz_cli.engine import Plan, observe
from cnnviz_cli.engine.execution import Execution
from cnnviz_cli.files.images.decode import read_image
from cnnviz_cli.models.load.loaded_model import LoadedModel, load_model
from cnnviz_cli.run.session import image_seed, method_context

SAMPLES = Path(__file__).parent.parent / "sample_images"
BUNDLED = "efficientnet_lite0"
RELU_NET = "squeezenet1_1"
"""A network whose rectifiers are all `nn.ReLU` modules, run once each: what every library can read."""

SIX = "it handles `nn.ReLU` modules, and the bundled network has `nn.ReLU6`, so its {} is the plain gradient"

RTOL, ATOL = 1e-4, 1e-6
"""The tolerance: |ours - peer| <= RTOL |peer| + ATOL max |peer| at every position."""


@dataclass(frozen=True)
class Case:
    """One image and one network, as a peer gets them.

    Attributes:
        net: a copy that is the peer's own to alter.
        x: (1, 3, 224, 224) the normalised input.
        target: the class with the highest score.
        layer: the name of the layer to read, "" where the method reads none.
        black: the normalised value of black, in each colour.
        seed: from which our random draws for this image start.
    """

    net: nn.Module
    x: Tensor
    target: int
    layer: str
    black: Tensor
    seed: int

    @property
    def module(self) -> nn.Module:
        """The layer to read."""
        return self.net.get_submodule(self.layer)

    def scores(self, inputs: Tensor) -> Tensor:
        """(n,) the target's score on each of (n, 3, 224, 224) inputs."""
        scores: Tensor = self.net(inputs)[:, self.target]
        return scores

    def gradients(self, inputs: Tensor) -> Tensor:
        """(n, 3, 224, 224) the gradient of the target's score at each input."""
        leaf = inputs.detach().requires_grad_()
        return torch.autograd.grad(self.scores(leaf).sum(), leaf)[0]


@dataclass(frozen=True)
class Row:
    """One method beside one peer.

    Attributes:
        method: ours.
        peer: the library.
        call: what of it is called, as its users write it.
        run: the peer's map, of the size of ours and without a channel dimension to spare.
        options: ours.
        layers: read one after the other; the worst counts.
        net: the network's name; random weights, unless it is the bundled one.
        pictures: how many of the five; fewer for large networks.
        note: what both were told, so that they do the same thing.
        because: why they differ by design; "" where they must not.
        signless: the peer leaves the map's sign to chance, so that its better sign counts.
    """

    method: str
    peer: str
    call: str
    run: Callable[[Case], Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    layers: tuple[str, ...] = ("",)
    net: str = BUNDLED
    pictures: int = 5
    note: str = ""
    because: str = ""
    signless: bool = False


@dataclass(frozen=True)
class Difference:
    """How far apart two maps lie.

    Attributes:
        maximum: max |ours - peer| / max |peer|.
        rank: 1 - Spearman's rank correlation over positions.
        within: whether the tolerance holds everywhere.
        opposite: in how many maps the peer's sign was the other one.
        maps: how many were compared.
    """

    maximum: float
    rank: float
    within: bool
    opposite: int = 0
    maps: int = 1

    def __or__(self, other: Difference) -> Difference:
        """The worse of two in each respect."""
        return Difference(
            max(self.maximum, other.maximum),
            max(self.rank, other.rank),
            self.within and other.within,
            self.opposite + other.opposite,
            self.maps + other.maps,
        )


class _Quiet:
    """A reporter that prints nothing."""

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return lambda *_args: None


@cache
def model(name: str) -> LoadedModel:
    """The bundled network; of another architecture one with random weights."""
    quiet: Any = _Quiet()
    return load_model(name, "DEFAULT" if name == BUNDLED else "random:0", reporter=quiet)


@cache
def network(name: str, dtype: torch.dtype) -> nn.Module:
    """The network in that precision; not to be altered."""
    return deepcopy(model(name).net).to(dtype)


@cache
def pictures(name: str) -> tuple[Tensor, tuple[str, ...]]:
    """(5, 3, 224, 224) the sample images as the network gets them, sorted by name, and their digests."""
    photos = [read_image(path) for path in sorted(SAMPLES.iterdir()) if path.suffix not in (".md", ".json")]
    inputs = torch.stack([model(name).preprocessing.prepare(photo.image)[0] for photo in photos])
    return inputs, tuple(photo.sha256 for photo in photos)


@cache
def targets(name: str) -> Tensor:
    """(5, 1) the class of the highest score for each image."""
    with torch.no_grad():
        scores: Tensor = model(name).net(pictures(name)[0])
    return scores.argmax(1, keepdim=True)


@cache
def _ours(
    method: str, options: tuple[tuple[str, Any], ...], layer: str, net: str, count: int, dtype: torch.dtype
) -> Tensor:
    found, loaded, (inputs, digests) = find_method(method), model(net), pictures(net)
    given = dict(options) | ({"layer": (layer,)} if layer else {})
    scope = method_context(network(net, dtype), loaded.layers, loaded.preprocessing.input_spec)
    recipe = found.build(found.options(**given), scope)
    seen = observe(
        network(net, dtype),
        inputs[:count].to(dtype),
        Plan.of(recipe.needs),
        lambda _logits: targets(net)[:count],
        given={"seeds": torch.tensor([image_seed(0, digest) for digest in digests[:count]])},
        execution=Execution(fold=False),  # which would move last digits, and a method is what is compared
    )
    (panel,) = recipe.explain(seen.evidence.only(recipe.needs))
    return torch.as_tensor(next(iter(panel.arrays().values())))


def ours(row: Row, layer: str, dtype: torch.dtype) -> Tensor:
    """(n, ...) our maps of the images, read at `layer` if the method reads one."""
    chosen = layer if "layer" in find_method(row.method).options.__dataclass_fields__ else ""
    return _ours(row.method, tuple(sorted(row.options.items())), chosen, row.net, row.pictures, dtype)


def case(net: str, picture: int, layer: str = "", dtype: torch.dtype = torch.float32) -> Case:
    """What a peer is given for the image of that number."""
    inputs, digests = pictures(net)
    own = deepcopy(network(net, dtype)).requires_grad_()  # as users have it: peers hook what requires a gradient
    black = torch.tensor(model(net).preprocessing.input_spec.black, dtype=dtype).view(1, 3, 1, 1)
    one = inputs[picture : picture + 1].to(dtype)
    return Case(own, one, int(targets(net)[picture]), layer, black, image_seed(0, digests[picture]))


def measure(row: Row, dtype: torch.dtype = torch.float32) -> Difference:
    """The largest difference over all images and layers of a row."""
    found = [
        compare(mine, torch.as_tensor(row.run(case(row.net, picture, layer, dtype))), signless=row.signless)
        for layer in row.layers
        for picture, mine in enumerate(ours(row, layer, dtype))
    ]
    worst = found[0]
    for other in found[1:]:
        worst |= other
    return worst


def compare(mine: Tensor, peer: Tensor, *, signless: bool = False) -> Difference:
    """How far apart two maps of as many values lie."""
    a = mine.detach().double().numpy().ravel()
    b = peer.detach().double().numpy().ravel()
    if a.size != b.size:
        raise ValueError(f"{tuple(mine.shape)} cannot be compared with {tuple(peer.shape)}")
    if not signless:
        return _apart(a, b)
    # A map without a sign of its own was rectified by us after a sign was chosen.
    kept, turned = _apart(a, np.maximum(b, 0)), _apart(a, np.maximum(-b, 0))
    return replace(turned, opposite=1) if turned.maximum < kept.maximum else kept


def _apart(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> Difference:
    size = np.abs(b).max()
    gap = np.abs(a - b)
    within = bool((gap <= RTOL * np.abs(b) + ATOL * size).all())
    return Difference(float(gap.max() / (size or 1)), _rank_difference(a, b), within)


def _rank_difference(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    ranks = [rankdata(values) for values in (a, b)]
    if any(np.ptp(rank) == 0 for rank in ranks):
        return 0.0 if np.array_equal(*ranks) else 1.0
    return max(0.0, 1 - float(np.corrcoef(*ranks)[0, 1]))
