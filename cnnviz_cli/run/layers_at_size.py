"""A network's layers for inputs of another size than the usual."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.layers import LayerInfo, Layers


@dataclass(frozen=True, slots=True)
class LayersAtSize:
    """The layers at some size, under the selectors of the usual one; implements `core.layers.Layers`.

    What a word such as ``stages`` stands for must not depend on the photograph.

    Attributes:
        usual: what selectors are about.
        there: the layers with an input of that size.
    """

    usual: Layers
    there: Layers

    @property
    def max_pooled(self) -> bool:
        return self.usual.max_pooled

    def __iter__(self) -> Iterator[LayerInfo]:
        return iter(self.there)

    def __getitem__(self, name: str) -> LayerInfo:
        return self.there[name]

    def resolve(self, selectors: Sequence[str]) -> tuple[str, ...]:
        """The layers that the selectors mean at the usual size.

        Raises:
            UsageError: as at the usual size, or one of them has no maps at this.
        """
        names = self.usual.resolve(selectors)
        for name in names:
            try:
                self.there[name]
            except KeyError:
                what = f"the maps of layer '{name}' cannot be told from other tensors"
                raise UsageError(what, where="--layer") from None
        return names
