"""A network's twin without its batch normalisations, which passes run in its place.

In eval mode a batch normalisation is one multiplication and one addition for each channel, which the weights of the
convolution before it can hold. Memory traffic is all that it costs: on a CPU a quarter of a ResNet's forward and
backward, half of a small network's. Scores, maps and gradients are the same up to rounding.

The twin is a copy of the tree of modules, not of a graph: the same names, the same Python forward, the same hooks. It
shares all modules without a pair below them, and every parameter but those of the fused convolutions. In the place of
a normalisation stands an identity, which takes nothing but what its convolution has just given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor, nn

from cnnviz_cli.core.global_rng import seeded_rng
from cnnviz_cli.core.layers import split_run
from cnnviz_cli.core.network import is_untouched, match_memory_format, tensors_of
from cnnviz_cli.engine.execution import note
from cnnviz_cli.engine.norm_pairs import NormPair, Trial, find_pairs, has_candidates, sample
from cnnviz_cli.engine.operations import tensors_in

T = TypeVar("T")

_OWN_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called")

_GEOMETRY = ("stride", "padding", "dilation", "groups", "padding_mode")

_TRIAL_SIZE = 64
"""Pixels a side of the input on which pairs are looked for: no larger, since a run on one image pays for it, too."""

_TRIALS = 3
"""How often a twin is made anew without the pairs that did not do what they do in the network."""

_TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4}
"""Of the largest value: far above what rounding does, far below what an error does."""

_LOW_TOLERANCE = 5e-2


class FoldError(Exception):
    """A normalisation did not get what its convolution had just given, so that the twin's numbers would be wrong."""


@dataclass(eq=False)
class _Link:
    """Between a fused convolution and the identity behind it: what the one gave and the other has not taken yet."""

    pair: NormPair
    given: list[Tensor] = field(default_factory=list)
    broken: bool = False
    samples: list[tuple[NormPair, Tensor]] | None = None

    def give(self, _module: nn.Module, _inputs: Any, output: Tensor) -> None:
        self.given.append(output)

    def take(self, _module: nn.Module, inputs: tuple[Any, ...]) -> None:
        taken = inputs[0] if len(inputs) == 1 else None
        place = next((place for place, one in enumerate(self.given) if one is taken), None)
        if place is None:
            self.broken = True  # the network may catch the error
            raise FoldError
        del self.given[place]
        if self.samples is not None:
            self.samples.append((self.pair, sample(inputs[0])))


@dataclass(eq=False)
class Twin:
    """A copy of a network with some pairs folded.

    Attributes:
        net: the copy.
        pairs: what is folded in it.
    """

    net: nn.Module
    pairs: tuple[NormPair, ...]
    links: list[_Link]
    containers: list[tuple[ref[nn.Module], nn.Module]]

    @contextmanager
    def in_use(self) -> Iterator[nn.Module]:
        """The copy, with the attributes that the original's modules have now; they get what a forward sets.

        Raises FoldError at the end if something was given and not taken.
        """
        self.clear()
        self._follow()
        try:
            yield self.net
            if any(link.given or link.broken for link in self.links):
                raise FoldError
            self._lead()
        except Exception as error:
            if any(link.broken for link in self.links):
                raise FoldError from error
            raise
        finally:
            self.clear()

    def clear(self) -> None:
        """Forget what a pass that was broken off has given."""
        for link in self.links:
            link.given.clear()
            link.broken = False

    def _follow(self) -> None:
        for original, copy in self.containers:
            attributes, modules = copy.__dict__, copy.__dict__["_modules"]
            attributes.update(_alive(original).__dict__)
            attributes["_modules"] = modules

    def _lead(self) -> None:
        for original, copy in self.containers:
            attributes = _alive(original).__dict__
            for name, value in copy.__dict__.items():
                if name != "_modules" and attributes.get(name, attributes) is not value:
                    attributes[name] = value


def _alive(original: ref[nn.Module]) -> nn.Module:
    found = original()
    assert found is not None  # its network runs
    return found


Weights = dict[NormPair, dict[str, nn.Parameter]]


@dataclass
class _Known:
    """What is known of a network's pairs, as long as its modules and weights are these.

    Attributes:
        pairs: those that were folded in the trial and gave what the network gives.
        weights: of each pair those of its fused convolution, which all twins share.
        told: whether a user knows that passes did not go the trial's way.
        tree: for each module that has children these, by identity.
    """

    pairs: tuple[NormPair, ...]
    tree: dict[ref[nn.Module], list[int]]
    state: list[Any]
    views: list[Tensor]
    values: Tensor | None
    weights: Weights
    twins: dict[tuple[NormPair, ...], Twin]
    told: bool = False

    def holds(self) -> bool:
        same = all(
            (module := original()) is not None and _children(module) == known for original, known in self.tree.items()
        )
        if not same or self.state != _state(self.pairs):
            return False
        # The views are of the same memory as before, or the state would differ.
        return self.values is None or torch.equal(torch.cat(self.views), self.values)


_KNOWN: WeakKeyDictionary[nn.Module, _Known] = WeakKeyDictionary()


def run_on_twin(
    net: nn.Module, batch: Tensor, layers: Iterable[str], run: Callable[[nn.Module], T], *, fold: bool = True
) -> T:
    """What `run` gives of a twin of `net`; of `net` itself where nothing can be folded, or `fold` is false.

    Args:
        batch: (B, C, H, W) an input of the network.
        layers: what is read; a convolution that one of them shows keeps its normalisation.
    """
    return run_on(net, find_twin(net, batch, layers) if fold else None, run)


def run_on(net: nn.Module, twin: Twin | None, run: Callable[[nn.Module], T]) -> T:
    """What `run` gives of a twin of `net` that was found before; of `net` itself if there is none."""
    if twin is None:
        return run(net)
    with suppress(FoldError), twin.in_use() as copy:
        return run(copy)
    # It went another way than on the trial's input.
    known = _KNOWN[net]
    if not known.told:
        known.told = True
        note(
            "the network runs twice on some inputs, since it took another way than on noise, where its batch "
            "normalisations were folded (--no-fold runs it once)"
        )
    return run(net)


def find_twin(net: nn.Module, batch: Tensor, layers: Iterable[str]) -> Twin | None:
    """The twin of `net` in which layers can be read; None where nothing can be folded."""
    known = _KNOWN.get(net)
    if known is None or not known.holds():
        known = _KNOWN[net] = _learn(net, batch)
    hooked = torch.nn.modules.module._has_any_global_hook()  # type: ignore[no-untyped-call]
    if not known.pairs or hooked:
        return None
    read = {split_run(layer)[0] for layer in layers}
    chosen = tuple(
        pair
        for pair in known.pairs
        # A hook would see other numbers.
        if read.isdisjoint(pair.showing) and all(map(is_untouched, (pair.norm, *pair.showing.values())))
    )
    if not chosen:
        return None
    if chosen not in known.twins:
        known.twins[chosen] = make_twin(net, chosen, known.weights)
    return known.twins[chosen]


def count_folded(net: nn.Module, batch: Tensor) -> int:
    """How many normalisations are folded where no layer between is read."""
    twin = find_twin(net, batch, ())
    return 0 if twin is None else len(twin.pairs)


def _learn(net: nn.Module, batch: Tensor) -> _Known:
    """Find out what can be folded, on noise, so that it depends on no image."""
    twin: Twin | None = None
    weights: Weights = {}
    if has_candidates(net):
        full = batch.shape[2:]
        # The network may need more than the smallest size that is worth trying.
        for size in dict.fromkeys((tuple(min(side, _TRIAL_SIZE) for side in full), tuple(full))):
            random = torch.Generator(device="cpu").manual_seed(0)
            noise = torch.randn(1, batch.shape[1], *size, generator=random, device="cpu", dtype=torch.float32)
            noise = match_memory_format(noise.to(batch), batch)
            with suppress(Exception), seeded_rng(0):
                twin = _verified(net, noise, find_pairs(net, noise.clone()), weights)
            if twin is not None:
                break
    pairs = () if twin is None else twin.pairs
    weights = {pair: weights[pair] for pair in pairs}
    tree = {ref(module): _children(module) for module in net.modules() if module._modules} if pairs else {}
    views = _views(pairs)
    values = torch.cat(views) if views else None
    return _Known(pairs, tree, _state(pairs), views, values, weights, {} if twin is None else {pairs: twin})


def _verified(net: nn.Module, noise: Tensor, trial: Trial, weights: Weights) -> Twin | None:
    """The twin with the pairs that do in it what they do in the network."""
    pairs = trial.pairs
    for _turn in range(_TRIALS):
        if not pairs:
            break
        twin = make_twin(net, pairs, weights)
        wrong, output = _differing(twin, noise, trial)
        if not wrong:
            return twin if _agree(output, trial.output) else None
        pairs = tuple(pair for pair in pairs if pair not in wrong)
    return None


def _differing(twin: Twin, noise: Tensor, trial: Trial) -> tuple[set[NormPair], Any]:
    """The pairs that are folded in a twin and should not be, and what it returns."""
    samples: list[tuple[NormPair, Tensor]] = []
    for link in twin.links:
        link.samples = samples
    output = None
    try:
        with torch.no_grad(), twin.in_use() as copy:
            output = copy(noise.clone())
    except FoldError:
        return {pair for pair in twin.pairs if pair not in {done for done, _ in samples}} or set(twin.pairs), None
    finally:
        for link in twin.links:
            link.samples = None
    expected = [(pair, values) for pair, values in trial.samples if pair in set(twin.pairs)]
    same = 0
    for (pair, values), (other, wanted) in zip(samples, expected, strict=False):
        if pair is not other or not _close(values, wanted):
            break
        same += 1
    # Behind the first that differs nothing is sure.
    return {pair for pair, _ in expected[same:]} | {pair for pair, _ in samples[same:]}, output


def _agree(output: Any, expected: Any) -> bool:
    """Whether a network returns the same. Boxes are sorted out by their scores, and are not compared."""
    if isinstance(output, list):
        return True
    pairs = list(zip(tensors_in(output), tensors_in(expected), strict=True))
    return all(_close(one, other) for one, other in pairs)


def _close(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or not one.is_floating_point():
        return one.shape == other.shape
    if not other.numel():
        return True
    bound = _TOLERANCES.get(one.dtype, _LOW_TOLERANCE) * float(other.nan_to_num(0, 0, 0).abs().max())
    # The quick way first; what is not a number, or infinite, fails it.
    return float((one - other).abs().max()) <= bound or torch.allclose(one, other, rtol=0.0, atol=bound, equal_nan=True)


def _children(module: nn.Module) -> list[int]:
    return list(map(id, module._modules.values()))


def _state(pairs: Sequence[NormPair]) -> list[Any]:
    """Changes when weights are loaded, moved or rewritten, or a module is set otherwise."""
    return [
        (
            [(id(value), value.data_ptr(), value._version) for value in tensors_of(pair.convolution, pair.norm)],
            (type(pair.convolution), type(pair.norm), pair.norm.eps, pair.norm.training),
            [pair.convolution.__dict__[name] for name in _GEOMETRY],
        )
        for pair in pairs
    ]


def _views(pairs: Sequence[NormPair]) -> list[Tensor]:
    """All numbers of the normalisations and one of each filter: what is written through `.data` changes no state."""
    own = [value.detach() for pair in pairs for value in tensors_of(pair.convolution, pair.norm) if value.dim()]
    # Of a network on several devices those on the first.
    here = [value for value in own if value.device == own[0].device]
    return [value.as_strided(value.shape[:1], value.stride()[:1]) for value in here]


def make_twin(net: nn.Module, pairs: Iterable[NormPair], weights: Weights) -> Twin:
    """A copy of `net` with these pairs folded; what is not in `weights` yet is added there."""
    pairs = tuple(pairs)
    links = [_Link(pair) for pair in pairs]
    made: dict[nn.Module, nn.Module] = {}
    for link in links:
        if link.pair not in weights:
            weight, bias = fuse(link.pair.convolution, link.pair.norm)
            weights[link.pair] = {"weight": nn.Parameter(weight, False), "bias": nn.Parameter(bias, False)}
        made[link.pair.convolution] = _fused(link, weights[link.pair])
        made[link.pair.norm] = _identity(link)
    containers: list[tuple[ref[nn.Module], nn.Module]] = []
    return Twin(_copied(net, made, containers), pairs, links, containers)


def _copied(module: nn.Module, made: dict[nn.Module, nn.Module], containers: list[Any]) -> nn.Module:
    """A module of the twin: itself if nothing below it is folded. One that has several names stays one."""
    if module in made:
        return made[module]
    children = {
        name: None if child is None else _copied(child, made, containers) for name, child in module._modules.items()
    }
    made[module] = module
    if any(children[name] is not child for name, child in module._modules.items()):
        # Not copy.copy, which a class may have changed. Hooks and parameters are the same dictionaries.
        copy = made[module] = object.__new__(type(module))
        copy.__dict__.update(module.__dict__)
        copy.__dict__["_modules"] = children
        containers.append((ref(module), copy))
    return made[module]


def _fused(link: _Link, parameters: dict[str, nn.Parameter]) -> nn.Module:
    convolution = link.pair.convolution
    made = object.__new__(type(convolution))
    made.__dict__.update(convolution.__dict__)
    made.__dict__.update({name: type(convolution.__dict__[name])() for name in _OWN_HOOKS})
    made.__dict__["_parameters"] = parameters
    made.register_forward_hook(link.give)
    return made


def fuse(convolution: Any, norm: Any) -> tuple[Tensor, Tensor]:
    """Weight and bias of the convolution that does both. Factors are computed in float64 where the device has it."""
    weight, bias = convolution.weight.detach(), convolution.bias
    exact = weight.dtype if weight.device.type == "mps" else torch.float64
    factor = (norm.running_var.to(exact) + norm.eps).rsqrt()
    if norm.weight is not None:
        factor = factor * norm.weight.detach().to(exact)
    shift = -norm.running_mean.to(exact) if bias is None else bias.detach().to(exact) - norm.running_mean.to(exact)
    shift = shift * factor
    if norm.bias is not None:
        shift = shift + norm.bias.detach().to(exact)
    fused = weight * factor.to(weight.dtype).view(-1, *[1] * (weight.dim() - 1))
    return match_memory_format(fused, weight), shift.to(weight.dtype)


def _identity(link: _Link) -> nn.Module:
    made = nn.Identity().eval()
    made.register_forward_pre_hook(link.take)
    return made
