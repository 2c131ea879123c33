"""How to draw and what to write beside it. Imports nothing heavy: names are checked at start-up."""

from __future__ import annotations

from dataclasses import dataclass

from cnnviz_cli.core.marks import Mark
from cnnviz_cli.core.scales import Scale

PALETTES = ("inferno", "viridis", "magma", "cividis", "turbo", "jet")
"""For evidence that starts at zero. The first four are perceptually uniform."""

SIGNED_PALETTES = ("blue-red", "purple-green")
"""For evidence for and against: negative and positive hue, near-white at zero."""

SUFFIXES = {"png": "png", "webp": "webp", "jpeg": "jpg"}
"""The formats in which pictures are written, the default first, and how their files' names end."""

FORMATS = tuple(SUFFIXES)


@dataclass(frozen=True, slots=True)
class Look:
    """How to draw.

    Attributes:
        palette: one of PALETTES.
        signed_palette: one of SIGNED_PALETTES.
        alpha: opacity of an overlay where the evidence is strongest, 0 to 1.
    """

    palette: str = PALETTES[0]
    signed_palette: str = SIGNED_PALETTES[0]
    alpha: float = 0.75


@dataclass(frozen=True, slots=True)
class Caption:
    """What goes with a panel. Plain text as it came; the renderer makes it safe to draw.

    Attributes:
        title: what made the picture.
        target: what was explained, and `figure` what the network says of it: a class and its probability.
        contrast: the class that it was told apart from.
        source: the photograph's name.
        note: one sentence, for instance about a map that cannot be read.
        scale: the range to draw the panel in, where it is not its own.
        mark: where the target is, to be drawn around.
    """

    title: str
    layer: str = ""
    target: str = ""
    figure: str = ""
    model: str = ""
    source: str = ""
    note: str = ""
    scale: Scale | None = None
    contrast: str = ""
    mark: Mark | None = None

    @property
    def apart(self) -> str:
        """What the class was told apart from, in words."""
        return f"rather than {self.contrast}" if self.contrast else ""
