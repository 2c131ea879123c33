"""What a picture is painted on: Fourier coefficients, phases alone, or pixels at growing sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from cnnviz_cli.core.ascent import Picture, Region, Spectrum
from cnnviz_cli.core.draws import normal
from cnnviz_cli.core.needs import Evidence, Need, Seeds
from cnnviz_cli.core.value import value
from cnnviz_cli.methods.common.climbing import recolour

if TYPE_CHECKING:
    from torch import Tensor

Colours = tuple[tuple[float, ...], ...]

KLT: Colours = (
    (0.56282854, 0.19482528, 0.04329450),
    (0.58447580, 0.0, -0.10823626),
    (0.58447580, -0.19482528, 0.06494176),
)
"""The principal colours of ImageNet, each as far as colours vary along it (Horama's): brightness, blue against yellow,
green against magenta, roughly."""

_LUCID = ((0.26, 0.09, 0.02), (0.27, 0.0, -0.05), (0.27, -0.09, 0.03))
_LONGEST = max(sum(row[column] ** 2 for row in _LUCID) for column in range(3)) ** 0.5
LUCID: Colours = tuple(tuple(part / _LONGEST for part in row) for row in _LUCID)
"""The square root of the correlation of ImageNet's colours, its longest column of length 1."""

LUCID_ROOT: Colours = (
    (0.6442273903375981, 0.21327903629436687, 0.1285373716894921),
    (0.21327903629436687, 0.5813780175438121, 0.2133564531188779),
    (0.1285373716894921, 0.2133564531188779, 0.6635156421939058),
)
"""(M M^T) ** (1/4) of `LUCID`: symmetric, and half as strong. In numbers, since methods are listed without numpy."""

_START_DRAW = 1 << 43
"""The number of the draw that a picture starts from."""

_GAIN = 0.25
"""Lucid's: between coefficients and pixels, "magic constant?"."""

_LEAST_DEVIATION = 1e-4


def frequencies(height: int, width: int) -> Tensor:
    """(h, w // 2 + 1) cycles a pixel of each coefficient of a real picture; the mean counts as one cycle a picture."""
    import torch

    down = torch.fft.fftfreq(height, dtype=torch.float64, device="cpu")[:, None]
    across = torch.fft.rfftfreq(width, dtype=torch.float64, device="cpu")
    found: Tensor = (down.square() + across.square()).sqrt().clamp(min=1 / max(height, width))
    return found


@value
class Fourier:
    """Coefficients that fall with frequency as photographs' do, decorrelated colours, a sigmoid (Olah et al., 2017).

    Attributes:
        size: height and width; None for a photograph's.
        decay: how fast amplitudes fall: f ** -decay.
        contrast: standard deviation before colours and sigmoid, held at every step (Horama's); 0 lets it go free.
        deviation: of the coefficients that it starts from; 0 starts from the photograph.
        colours: what a pixel's three numbers are multiplied by; networks of one or four channels take them as they are.
    """

    size: tuple[int, int] | None
    decay: float = 1.3
    contrast: float = 1.3
    deviation: float = 0.05
    colours: Colours = KLT
    octaves: ClassVar[int] = 1
    exact: ClassVar[bool] = False

    @property
    def needs(self) -> tuple[Need, ...]:
        return (Seeds(),) if self.size else (Seeds(), Picture())

    def begin(self, evidence: Evidence, image: int, like: Tensor) -> FourierPainting:
        size = self.size
        if size is None:
            photograph = evidence[Picture()][image : image + 1].to(like)
            size = (photograph.shape[2], photograph.shape[3])
        painting = FourierPainting(self, like, size)
        if not self.deviation:
            painting.numbers = painting.coefficients_of(photograph)
            return painting
        shape = (like.shape[1], *painting.scale.shape, 2)
        drawn = normal(int(evidence[Seeds()][image]), _START_DRAW, shape)
        painting.numbers = (drawn * self.deviation).to(like)[None]
        return painting

    def label(self) -> str:
        of = "the image" if self.size is None else f"{self.size[1]}x{self.size[0]} pixels"
        return f"the spectrum of {of}"


class FourierPainting:
    """Numbers: (1, C, h, w // 2 + 1, 2) coefficients over what the decay leaves of them."""

    octaves = 1

    def __init__(self, canvas: Fourier, like: Tensor, size: tuple[int, int]) -> None:
        self.canvas, self.size = canvas, size
        self.scale = (_GAIN * frequencies(*size) ** -canvas.decay).to(like)
        self.colours = canvas.colours if like.shape[1] == len(canvas.colours) else ()
        # One multiplication for both.
        self.contrasted = tuple(tuple(canvas.contrast * part for part in row) for row in self.colours)
        self.numbers = like

    def enter(self, octave: int) -> None:
        """There is one size."""

    def draw(self, numbers: Tensor) -> Tensor:
        import torch
        from torch.nn.functional import layer_norm

        waves = torch.fft.irfft2(torch.view_as_complex(numbers) * self.scale, s=self.size, norm="ortho")
        if not self.canvas.contrast:
            return recolour(waves, self.colours).sigmoid()
        # `standardize` but for a few millionths, in one operation.
        held = layer_norm(waves, waves.shape, eps=_LEAST_DEVIATION**2)
        return (recolour(held, self.contrasted) if self.colours else held * self.canvas.contrast).sigmoid()

    def put(self, numbers: Tensor) -> None:
        self.numbers = numbers

    def coefficients_of(self, picture: Tensor) -> Tensor:
        """The numbers of a picture: `draw` backwards, where contrast goes free."""
        import torch

        waves = picture.clamp(_BLACKEST, 1 - _BLACKEST).logit()
        if self.colours:
            inverse = torch.linalg.inv(torch.tensor(self.colours, dtype=torch.float64, device="cpu"))
            waves = recolour(waves, tuple(tuple(row) for row in inverse.tolist()))
        return torch.view_as_real(torch.fft.rfft2(waves, norm="ortho") / self.scale)


_BLACKEST = 1 / 1020
"""A quarter of one of 255 steps: where a photograph's black is taken to lie, which no sigmoid reaches."""


def standardize(values: Tensor) -> Tensor:
    """(1, ...) at mean 0 and standard deviation 1."""
    centred = values - values.mean()
    return centred / (centred.std() + _LEAST_DEVIATION)


@value
class Phase:
    """Phases are moved, and amplitudes stay: those of a power law, or of photographs (MACO: Fel et al., 2023).

    A real picture's coefficients of no and of the highest horizontal frequency are conjugate to those above and below;
    the phases of one half are mirrored there, so that no amplitude is lost in the inverse transform.

    Attributes:
        decay: of the power law f ** -decay; None takes the amplitudes that the caller brings as ``spectrum``,
            (B, C, h, w // 2 + 1) in decorrelated colours.
    """

    size: tuple[int, int]
    decay: float | None = 1.4
    contrast: float = 1.0
    octaves: ClassVar[int] = 1
    exact: ClassVar[bool] = False

    @property
    def needs(self) -> tuple[Need, ...]:
        return (Seeds(), _SPECTRUM) if self.decay is None else (Seeds(),)

    def begin(self, evidence: Evidence, image: int, like: Tensor) -> PhasePainting:
        height, width = self.size
        shape = (like.shape[1], height, width // 2 + 1)
        if self.decay is None:
            template = evidence[_SPECTRUM][image : image + 1].to(like)
            if tuple(template.shape[1:]) != shape:
                raise ValueError(f"the spectrum is {tuple(template.shape[1:])}, and the picture takes {shape}")
            template = mirror_amplitudes(template, self.size)
        else:
            template = (frequencies(height, width) ** -self.decay).to(like).expand(1, *shape)
        drawn = normal(int(evidence[Seeds()][image]), _START_DRAW, shape)
        return PhasePainting(self, template, drawn.to(like)[None])

    def label(self) -> str:
        kept = "a given spectrum" if self.decay is None else f"a spectrum of f^-{self.decay:g}"
        return f"the phases of {self.size[1]}x{self.size[0]} pixels with {kept}"


_SPECTRUM = Spectrum(colours=KLT)


class PhasePainting:
    """Numbers: (1, C, h, w // 2 + 1) phases, at mean 0 and standard deviation 1 when they are used."""

    octaves = 1

    def __init__(self, canvas: Phase, template: Tensor, numbers: Tensor) -> None:
        self.canvas, self.numbers = canvas, numbers
        self.template = template.clone()
        self.template[:, :, 0, 0] = 0  # the mean, which is taken off
        self.colours = KLT if template.shape[1] == len(KLT) else ()

    def enter(self, octave: int) -> None:
        """There is one size."""

    def draw(self, numbers: Tensor) -> Tensor:
        return recolour(self.canvas.contrast * self.waves(numbers), self.colours).sigmoid()

    def put(self, numbers: Tensor) -> None:
        self.numbers = numbers

    def waves(self, numbers: Tensor) -> Tensor:
        """(1, C, h, w) at mean 0 and standard deviation 1, of the template's amplitudes but for one factor."""
        import torch

        phases = mirror_phases(standardize(numbers), self.canvas.size)
        # Of one number that is its own mirror image the phase is 0 or pi, which mirroring has seen to.
        spectrum = torch.polar(self.template.expand_as(phases), phases)
        return standardize(torch.fft.irfft2(spectrum, s=self.canvas.size))


def mirror_amplitudes(amplitudes: Tensor, size: tuple[int, int]) -> Tensor:
    """(1, C, h, w // 2 + 1) amplitudes that a real picture of that size can have: in the columns of no and of the
    highest horizontal frequency the mean of those above and below, as photographs have it but for rounding."""
    found = amplitudes.clone()
    for column in _own_columns(size):
        part = amplitudes[..., column]
        found[..., column] = (part + part.roll(-1, 2).flip(2)) / 2
    return found


def _own_columns(size: tuple[int, int]) -> list[int]:
    """Those whose lower half a real picture's spectrum mirrors."""
    return [0] if size[1] % 2 else [0, size[1] // 2]


def mirror_phases(phases: Tensor, size: tuple[int, int]) -> Tensor:
    """(1, C, h, w // 2 + 1) phases that a real picture of that size can have: in the columns of no and of the highest
    horizontal frequency the lower half is minus the upper one, and what is its own mirror image is 0 or pi."""
    import torch

    height = size[0]
    half = (height - 1) // 2
    parts = list(phases.unbind(3))
    for column in _own_columns(size):
        part = parts[column]
        upper = part[:, :, 1 : half + 1]
        own = torch.where(part.detach().cos() < 0, torch.pi, 0.0).to(part)
        middle = own[:, :, half + 1 : half + 2] if height % 2 == 0 else own[:, :, :0]
        parts[column] = torch.cat([own[:, :, :1], upper, middle, -upper.flip(2)], 2)
    return torch.stack(parts, 3)


@value
class Pixels:
    """Pixels themselves, at sizes that grow by `ratio` to the whole (octaves).

    From a photograph what is painted at one size is carried on to the next as a difference to the photograph, whose
    detail stays (Mordvintsev et al., 2015). From noise the picture itself is carried on.

    Attributes:
        size: height and width; None for a photograph's, which it then starts from.
        octaves: how many sizes, at the most.
        least: the shortest side of the smallest size.
        region: whether the caller says which part may change, see `core.ascent.Region`.
        grey: whether all colours change alike, so that a photograph keeps its colours.
        noise: standard deviation of what it starts from, around grey.
        exact: whether so many sizes were asked for, and fewer are worth a word.
    """

    size: tuple[int, int] | None
    octaves: int
    ratio: float
    least: int = 64
    region: bool = False
    grey: bool = False
    noise: float = 0.02
    exact: bool = False

    @property
    def needs(self) -> tuple[Need, ...]:
        if self.size is not None:
            return (Seeds(),)
        return (Seeds(), Picture(), Region()) if self.region else (Seeds(), Picture())

    def begin(self, evidence: Evidence, image: int, like: Tensor) -> PixelPainting:
        if self.size is None:
            base = evidence[Picture()][image : image + 1].to(like)
            region = evidence[Region()][image : image + 1].to(like) if self.region else None
            return PixelPainting(self, base, region, base[:, :, :0, :0])
        sizes = octave_sizes(self.size, self.octaves, self.ratio, self.least)
        shape = (like.shape[1], *sizes[0])
        drawn = normal(int(evidence[Seeds()][image]), _START_DRAW, shape)
        return PixelPainting(self, None, None, (0.5 + self.noise * drawn).to(like)[None])

    def label(self) -> str:
        of = "the image" if self.size is None else f"{self.size[1]}x{self.size[0]}"
        return f"the pixels of {of} at up to {self.octaves} sizes"


class PixelPainting:
    """Numbers: (1, C, h, w) in [0, 1], the picture itself."""

    def __init__(self, canvas: Pixels, photograph: Tensor | None, region: Tensor | None, numbers: Tensor) -> None:
        self.canvas, self.photograph, self.whole_region, self.numbers = canvas, photograph, region, numbers
        size = canvas.size or (self._photograph.shape[2], self._photograph.shape[3])
        self.sizes = octave_sizes(size, canvas.octaves, canvas.ratio, canvas.least)
        self.base: Tensor | None = None
        self.region: Tensor | None = None

    @property
    def octaves(self) -> int:
        return len(self.sizes)

    @property
    def _photograph(self) -> Tensor:
        assert self.photograph is not None  # without a size there is one
        return self.photograph

    def enter(self, octave: int) -> None:
        size = self.sizes[octave]
        if self.photograph is None:
            self.numbers = resample(self.numbers, size).clamp_(0, 1)
            return
        change = None if self.base is None else self.numbers.sub_(self.base)
        # Cubic curves overshoot, and what is cut off there must not be carried on as a change.
        self.base = _resample_within(self.photograph, size)
        self.region = None if self.whole_region is None else _resample_within(self.whole_region, size)
        if change is None:
            self.numbers = self.base.clone()
            return
        grown = resample(change, size)
        if self.region is not None:
            grown = grown.mul_(self.region)
        self.numbers = grown.add_(self.base)

    def draw(self, numbers: Tensor) -> Tensor:
        return numbers

    def put(self, numbers: Tensor) -> None:
        if self.base is not None and (self.region is not None or self.canvas.grey):
            change = numbers - self.numbers
            if self.canvas.grey:
                change = change.mean(1, keepdim=True)
            numbers = self.numbers + (change if self.region is None else change * self.region)
        self.numbers = numbers.clamp_(0, 1)


def octave_sizes(size: tuple[int, int], octaves: int, ratio: float, least: int) -> list[tuple[int, int]]:
    """Heights and widths from the smallest to `size`, each `ratio` times the one before: at most `octaves`, and none
    whose shorter side is below `least`, or a single pixel, but the last."""
    sizes = [size]
    for number in range(1, octaves):
        height, width = (max(round(side / ratio**number), 1) for side in size)
        if min(height, width) < max(least, 2):
            break
        sizes.append((height, width))
    return sizes[::-1]


def resample(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """(1, C, h, w) at another size by cubic curves, without aliasing; itself at its own."""
    from torch.nn.functional import interpolate

    if (picture.shape[2], picture.shape[3]) == size:
        return picture
    return interpolate(picture, size, mode="bicubic", antialias=True, align_corners=False)


def _resample_within(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """`resample`, within [0, 1] as the picture is; it shares memory with it at its own size."""
    found = resample(picture, size)
    return found if found is picture else found.clamp_(0, 1)


def zoom(picture: Tensor, factor: float) -> Tensor:
    """(1, C, h, w) the middle of a picture at its whole size: 1 / factor of each side, where the next frame starts."""
    import torch
    from torch.nn.functional import affine_grid, grid_sample

    matrix = torch.tensor([[1 / factor, 0, 0], [0, 1 / factor, 0]], dtype=picture.dtype, device=picture.device)
    grid = affine_grid(matrix.expand(len(picture), -1, -1), list(picture.shape), align_corners=False)
    found = grid_sample(picture, grid, mode="bicubic", padding_mode="border", align_corners=False)
    return found.clamp(0, 1)
