"""What is marked in the images of a dissection, label by label, at the pixels of the network's input."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnviz_cli.core.errors import ImageError
from cnnviz_cli.core.geometry import Framing
from cnnviz_cli.files.annotations.folders import Annotations
from cnnviz_cli.files.annotations.regions import fold_label, regions_by_label, why_unseen
from cnnviz_cli.files.inputs.image_source import Source

BoolArray = NDArray[np.bool_]

_KEPT_BYTES = 256 << 20


class Marked(NamedTuple):
    """What is marked in an image.

    Attributes:
        labels: numbers of its labels.
        inside: (n, H, W) which pixels of the input are marked with each.
    """

    labels: tuple[int, ...]
    inside: BoolArray


@dataclass
class LabelMasks:
    """The annotations of a list of images. What was read stays in memory, a bit a pixel, as far as 256 MiB go.

    Attributes:
        framing_of: of an image, by its number in the list, how it became the network's input.
        names: what labels are called, in alphabetical order; of several spellings the first.
        images: by number of the image the numbers of its labels; of those in which something is marked.
        undone: by number of the image why its annotation does not count.
        unseen: numbers of the labels that are marked, and in no image where the network sees it.
    """

    annotations: Annotations
    sources: Sequence[Source]
    framing_of: Callable[[int], Framing]
    names: tuple[str, ...] = ()
    images: dict[int, tuple[int, ...]] = field(default_factory=dict)
    undone: dict[int, str] = field(default_factory=dict)
    unseen: tuple[int, ...] = ()
    _kept: OrderedDict[int, tuple[NDArray[np.uint8], tuple[int, ...]]] = field(default_factory=OrderedDict)
    _bytes: int = 0

    def read_all(self, images: Sequence[int], tick: Callable[[int], None] = lambda _done: None) -> None:
        """Find out what is marked in images, by their numbers, and what labels there are."""
        spellings: dict[str, str] = {}
        found: dict[int, tuple[str, ...]] = {}
        seen: set[str] = set()
        for done, at in enumerate(images, 1):
            try:
                regions = self._regions(at)
            except ImageError as error:
                self.undone[at] = error.what
                regions = {}
            if regions:
                found[at] = tuple(map(fold_label, regions))
                inside = np.stack(list(regions.values()))
                self._keep(at, inside)
                seen.update(key for key, one in zip(found[at], inside, strict=True) if one.any())
                for name in regions:
                    spellings[fold_label(name)] = min(name, spellings.get(fold_label(name), name))
            tick(done)
        order = sorted(spellings, key=lambda key: (spellings[key].casefold(), spellings[key]))
        self.names = tuple(spellings[key] for key in order)
        number = {key: at for at, key in enumerate(order)}
        self.images = {at: tuple(number[key] for key in keys) for at, keys in found.items()}
        self.unseen = tuple(at for at, key in enumerate(order) if key not in seen)

    def why_unseen(self, at: int) -> str:
        """Why nothing that is marked in one of the `images` lies where the network sees it."""
        found = self.annotations.annotation_of(self.sources[at])
        return "nothing is marked in it" if found is None else why_unseen(found, self.framing_of(at))

    def marked(self, at: int) -> Marked:
        """What is marked in one of the `images`."""
        kept = self._kept.get(at)
        if kept is None:
            inside = np.stack(list(self._regions(at).values()))
            self._keep(at, inside)
        else:
            self._kept.move_to_end(at)
            bits, shape = kept
            inside = np.unpackbits(bits, count=int(np.prod(shape))).reshape(shape).view(np.bool_)
        return Marked(self.images[at], inside)

    def _regions(self, at: int) -> Mapping[str, BoolArray]:
        source = self.sources[at]
        found = self.annotations.annotation_of(source)
        return {} if found is None else regions_by_label(found, self.framing_of(at))

    def _keep(self, at: int, inside: BoolArray) -> None:
        bits = np.packbits(inside)
        self._kept[at] = (bits, inside.shape)
        self._bytes += bits.nbytes
        while self._bytes > _KEPT_BYTES and len(self._kept) > 1:
            _, (oldest, _) = self._kept.popitem(last=False)
            self._bytes -= oldest.nbytes
