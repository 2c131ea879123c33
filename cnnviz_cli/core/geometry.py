"""Where the network's input lies in the photograph."""

from cnnviz_cli.core.value import value

Box = tuple[float, float, float, float]


@value
class View:
    """The part of an upright photograph that the network was shown.

    Resizing and cropping are one affine map without rotation, so a single box says all of it.

    Attributes:
        photo: width and height of the upright photograph, in pixels.
        size: width and height of the network's input, in pixels.
        box: left, top, right, bottom of the input's area, in photo pixels (edges, not centres; fractional).
    """

    photo: tuple[int, int]
    size: tuple[int, int]
    box: Box

    def to_photo(self, box: Box) -> Box:
        """A box in input pixels as a box in photo pixels."""
        left, top, right, bottom = self.box
        across = (right - left) / self.size[0]
        down = (bottom - top) / self.size[1]
        return (left + box[0] * across, top + box[1] * down, left + box[2] * across, top + box[3] * down)

    @property
    def whole(self) -> bool:
        """Whether the network saw the whole photograph (to half a pixel)."""
        left, top, right, bottom = self.box
        return left < 0.5 and top < 0.5 and right > self.photo[0] - 0.5 and bottom > self.photo[1] - 0.5
