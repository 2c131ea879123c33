"""How to draw and what to write beside it. Imports nothing heavy: names are checked at start-up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Self

from cnnviz_cli.core.figure_settings import NATURAL_SIZE, FigureSize, Scale
from cnnviz_cli.core.geometry import Annotation

# For evidence that starts at zero. All but turbo and jet are perceptually uniform.
PALETTES = ("inferno", "viridis", "magma", "cividis", "grey", "turbo", "jet")
SIGNED_PALETTES = ("blue-red", "purple-green")  # for evidence for and against: the negative and the positive hue

Overlay = Literal["auto", "ramp", "constant", "none"]
"""How a map lies over the image. ramp: its opacity grows with the evidence. constant: the same opacity everywhere.
none: not at all, the map stands by itself. auto: ramp for coarse maps, none for one value a pixel."""

Interpolation = Literal["auto", "bicubic", "bilinear", "nearest"]
"""How a map is enlarged. bicubic: smooth, and nowhere beyond the four cells around a pixel. auto: bilinear under a
constant overlay, as other tools draw it, else bicubic."""

_ALPHAS: Mapping[Overlay, float] = {"ramp": 0.75, "constant": 0.5}
# The formats in which figures are written, the default first, and how their files' names end.
SUFFIXES = {"png": "png", "webp": "webp", "jpeg": "jpg", "svg": "svg", "pdf": "pdf"}
FORMATS = tuple(SUFFIXES)
VECTOR = ("svg", "pdf")  # formats in which text, rules and colour bars are no pixels
RASTER = tuple(name for name in FORMATS if name not in VECTOR)  # formats of pixels alone
VECTOR_DENSITY = 2.0  # pixels a unit of the images in such a file, as far as the image has them


@dataclass(frozen=True, slots=True)
class Style:
    """How to draw."""

    palette: str = PALETTES[0]
    signed_palette: str = SIGNED_PALETTES[0]
    # opacity of an overlay where the evidence is strongest, 0 to 1; by default 0.75 for a ramp, 0.5 for a constant
    # overlay, as in pytorch-grad-cam
    alpha: float | None = None
    overlay: Overlay = "auto"
    interpolation: Interpolation = "auto"
    size: FigureSize = NATURAL_SIZE

    def opacity(self, overlay: Overlay) -> float:
        """The strongest opacity of an overlay, 0 to 1."""
        return _ALPHAS.get(overlay, 1.0) if self.alpha is None else self.alpha

    def interpolation_for(self, overlay: Overlay) -> Interpolation:
        """How maps under an overlay are enlarged: never ``auto``."""
        if self.interpolation != "auto":
            return self.interpolation
        return "bilinear" if overlay == "constant" else "bicubic"

    def for_caption(self, caption: Caption) -> Self:
        """The same with the palette of a caption, if that has one of its own."""
        return replace(self, palette=caption.palette) if caption.palette else self


@dataclass(frozen=True, slots=True)
class Finding:
    """A few words about a map, for instance a number with what it measures; strong, where it is the best of several."""

    text: str
    strong: bool = False


@dataclass(frozen=True, slots=True)
class Caption:
    """What goes with a panel. Plain text as it came; the renderer makes it safe to draw."""

    title: str  # what made the map
    layer: str = ""
    target: str = ""  # what was explained
    detail: str = ""  # what the network says of it, for instance a probability
    model: str = ""
    source: str = ""  # the image's name
    note: str = ""  # one sentence, for instance about a map that cannot be read
    scale: Scale | None = None  # the range to draw the panel in, where it is not its own
    contrast: str = ""  # the class that it was told apart from
    mark: Annotation | None = None  # where the target is, to be drawn around
    outlined: str = ""  # what the mark is, where that is not the target: "what people have marked (cat)"
    values: str = ""  # which of the image's values became black and white, where that had to be chosen
    palette: str = ""  # one of PALETTES, where it is not that of the Style
    counterfactual: bool = False  # whether what speaks against the target was explained
    against: str = ""  # the target, if so, in words: "against espresso"
    joint: str = ", "  # what stands between the title and the layer
    findings: tuple[Finding, ...] = ()  # what was found out about the map, the first the most important
    classes: Mapping[int, str] = field(default_factory=dict)  # by index the names of further classes of the panel

    @property
    def heading(self) -> str:
        """What made the map, and of which layer."""
        return f"{self.title}{self.joint}{self.layer}" if self.layer else self.title

    @property
    def subject(self) -> str:
        """What was explained, in words; empty if nothing was."""
        return (self.against or f"against {self.target}") if self.counterfactual and self.target else self.target

    @property
    def contrast_text(self) -> str:
        """What the class was told apart from, in words."""
        if not self.contrast:
            return ""
        return f"and for {self.contrast}" if self.counterfactual else f"rather than {self.contrast}"
