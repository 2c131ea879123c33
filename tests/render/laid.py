"""What lies where in a figure that was laid out."""

from __future__ import annotations

from collections.abc import Iterator

from cnnviz_cli.render.axes import Box, overlaps
from cnnviz_cli.render.layout import Block, Dots, Leaf, Polygon, Polyline, Text


def texts(block: Block) -> list[tuple[float, int, Text]]:
    return [(left, base, item) for left, base, item in block.leaves() if isinstance(item, Text) and item.text.strip()]


def box_of(left: float, top: float, item: Leaf) -> Box:
    if isinstance(item, Text):
        return left, top - 0.74 * item.size, left + item.width, top + 0.2 * item.size
    if isinstance(item, Dots):
        reach = item.radius
        across, down = zip(*item.points, strict=True)
        return (
            left + min(across) - reach,
            top + min(down) - reach,
            left + max(across) + reach,
            top + max(down) + reach,
        )
    if not isinstance(item, Polyline | Polygon):
        return left, top, left + item.width, top + item.height
    across, down = zip(*item.points, strict=True)
    return left + min(across), top + min(down), left + max(across), top + max(down)


def clipped(block: Block) -> Iterator[tuple[Block, Leaf]]:
    """What reaches out of the block that it is in, by more than half a unit."""
    for across, down, item in block.items:
        if isinstance(item, Block):
            yield from clipped(item)
            if down + item.height > block.height + 0.5 or across + item.width > block.width + 0.5:
                yield block, item  # type: ignore[misc]
        else:
            box = box_of(across, down, item)
            if box[0] < -0.6 or box[1] < -0.6 or box[2] > block.width + 0.6 or box[3] > block.height + 0.6:
                yield block, item


def dots(block: Block) -> list[tuple[float, float, Dots]]:
    """Every single dot with its place."""
    return [
        (left + item.points[0][0], top + item.points[0][1], item)
        for left, top, item in block.leaves()
        if isinstance(item, Dots)
    ]


def check_layout(block: Block) -> None:
    """No text lies over another, and nothing reaches out of the block that it is in."""
    boxes = [(box_of(left, base, item), item.text) for left, base, item in texts(block)]
    boxes.sort(key=lambda one: one[0][1])
    for number, (box, text) in enumerate(boxes):
        for other, words in boxes[number + 1 :]:
            if other[1] > box[3]:
                break
            assert not overlaps(box, other, -0.3), (text, words)
    assert list(clipped(block)) == []
