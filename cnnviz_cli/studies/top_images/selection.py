"""Which images of a folder excite each channel most, of the rows that a pass over the folder has kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cnnviz_cli.core.rows import Rows
from cnnviz_cli.core.strongest import Peak, Strongest, StrongestPatches

COLUMNS = 3
"""Numbers that are kept of a channel in one image: its highest value, the position where it is, the mean of its map."""

CHUNK = 256
"""Images that are looked at together."""

Row = NDArray[np.float32]


def peaks_of(maps: Mapping[str, Tensor], channels: Mapping[str, Sequence[int]]) -> list[Row]:
    """For each image of a batch a row of `COLUMNS` times all channels: first all values, then all positions.

    Of equal positions the first counts, row by row. A position is a whole number, exact up to 2 ** 24.

    Args:
        maps: by layer (B, C, h, w) float32.
        channels: by layer the channels that count, in the order of the columns.
    """
    values, places, means = [], [], []
    for layer, wanted in channels.items():
        index = torch.tensor(wanted, dtype=torch.int64, device=maps[layer].device)
        flat = maps[layer].index_select(1, index).flatten(2)
        best = flat.max(2)
        values.append(best.values)
        places.append(best.indices.to(torch.float32))
        means.append(flat.mean(2))
    rows = torch.cat([*values, *places, *means], 1).cpu().numpy()
    return list(rows)


def strongest_images(rows: Rows, images: Iterable[tuple[str, str]], widths: Sequence[int], wanted: int) -> Strongest:
    """The images that excite each channel most, with values above zero; of any two another file.

    Memory does not grow with the number of images: a channel keeps `wanted`.

    Args:
        rows: (images, `COLUMNS` x channels) as `peaks_of` makes them.
        images: name and digest of the image of each row.
        widths: of the maps of each channel, in positions.
        wanted: images for each channel.
    """
    count = len(widths)
    fold, names = StrongestPatches(most_patches=wanted), iter(images)
    floors = np.full(count, -np.inf)
    for chunk in rows.chunks(CHUNK):
        values, places, means = chunk[:, :count], chunk[:, count : 2 * count], chunk[:, 2 * count :]
        for number in range(len(chunk)):
            name, sha256 = next(names)
            # Most images are far from the strongest, and are done with here.
            near = np.flatnonzero((values[number] > 0) & (values[number] >= floors)).tolist()
            peaks = {}
            for channel in near:
                row, column = divmod(int(places[number, channel]), widths[channel])
                peaks[channel] = Peak(float(values[number, channel]), row, column, float(means[number, channel]))
            fold.add_strong(name, sha256, peaks, count)
            for channel in peaks:
                floors[channel] = fold.floor(channel)
    found = fold.finish()
    return found if found.examples else Strongest(0, (), ((),) * count, (), ())
