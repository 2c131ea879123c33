"""What does not fit between a file's tensors and a network's, and why that usually is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from cnnviz_cli.core.errors import ModelError
from cnnviz_cli.core.text import visible

_SHOWN = 10
_CAUSES = 3


@dataclass(frozen=True, slots=True)
class Misfit:
    """Names of tensors, in the network's or the file's order.

    Attributes:
        missing: the network has them, the file has not.
        unexpected: the other way round.
        reshaped: of another shape.
        others: in the file, outside of the part that was read.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: tuple[str, ...]
    others: tuple[str, ...]

    @classmethod
    def of(cls, wanted: Mapping[str, Tensor], given: Mapping[str, Tensor], others: Sequence[str]) -> Misfit | None:
        """The differences; None if there are none."""
        found = cls(
            # Files from before PyTorch 0.4.1 lack BatchNorm's counter of batches.
            tuple(name for name in wanted if name not in given and not name.endswith("num_batches_tracked")),
            tuple(name for name in given if name not in wanted),
            tuple(name for name in wanted if name in given and given[name].shape != wanted[name].shape),
            tuple(others),
        )
        return found if any((found.missing, found.unexpected, found.reshaped, found.others)) else None

    @property
    def complete(self) -> bool:
        """Whether the network has all it wants, and what is too much lay elsewhere in the file."""
        return not (self.missing or self.unexpected or self.reshaped)


def misfit(found: Misfit, source: str, wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> ModelError:
    """The error: how much of each kind, the first of each by name, and the three most likely causes."""
    shapes = [
        f"{name} {tuple(given[name].shape)}, in the network {tuple(wanted[name].shape)}" for name in found.reshaped
    ]
    kinds = (
        ("missing", found.missing),
        ("unexpected", (*found.unexpected, *found.others)),
        ("of another shape", shapes),
    )
    counts = ", ".join(f"{len(names)} {kind}" for kind, names in kinds if names)
    causes = [*_telling(found, wanted, given), *_usual(found, wanted)][:_CAUSES]
    return ModelError(
        f"The tensors in '{visible(source, 200)}' do not fit the network: {counts}",
        where="--weights",
        excerpt="\n".join(f"  {kind}: {_listed(names)}" for kind, names in kinds if names),
        fix="\n".join(["Most likely:", *(f"{place}. {cause}" for place, cause in enumerate(causes, 1))]),
    )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(visible(name, 120) for name in names[:_SHOWN]) + more


def _telling(found: Misfit, wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> Iterator[str]:
    """Causes of which the names or the shapes speak."""
    head = list(wanted)[-1].rpartition(".")[0]
    place = f"{head.rpartition('.')[0] or head}."
    headless = bool(found.missing) and all(name.startswith(f"{head}.") for name in found.missing)
    if headless and found.unexpected and all(name.startswith(place) for name in found.unexpected):
        yield "The classifier was replaced by other layers: build it as it was, --model module:factory --allow-code"
    elif headless and not found.reshaped:
        yield f"The file holds no classifier ('{head}'), as training without labels leaves it: there are no scores."
    if _channels(found, wanted, given):
        yield "It was trained on pictures of another number of channels: --model module:factory --allow-code"
    if found.reshaped and (set(found.reshaped) <= {f"{head}.weight", f"{head}.bias"} or _longer(found, wanted, given)):
        yield "It was trained for another number of classes, by a head that cannot be rebuilt from its shape."


def _longer(found: Misfit, wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> bool:
    """Whether nothing but the number of outputs is another, in several layers that do not agree on it."""
    return found == Misfit((), (), found.reshaped, found.others) and all(
        given[name].dim() == wanted[name].dim() > 0 and given[name].shape[1:] == wanted[name].shape[1:]
        for name in found.reshaped
    )


def _channels(found: Misfit, wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> bool:
    first = next((name for name in wanted if wanted[name].dim() == 4), None)
    if first is None or first not in found.reshaped:
        return False
    one, other = list(given[first].shape), list(wanted[first].shape)
    return len(one) == 4 and one[1] != other[1] and one[:1] + one[2:] == other[:1] + other[2:]


def _usual(found: Misfit, wanted: Mapping[str, Tensor]) -> Iterator[str]:
    """Causes that are always possible, the likelier first."""
    strange = len(found.missing) + len(found.reshaped) > len(wanted) // 2
    another = "It is of another network: check --model or --arch."
    variant = "It is of a variant or another version of this network (wider, deeper, another head): check the name."
    library = "It is of another library's network of that name: timm:NAME, or module:factory --allow-code"
    yield from (another, library, variant) if strange else (variant, another, library)
