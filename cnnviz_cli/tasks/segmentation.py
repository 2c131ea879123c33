"""Segmentation: one score for each class, the sum of its map over a region of the image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from cnnviz_cli.core.classes import Labels, is_background
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.geometry import RegionAnnotation
from cnnviz_cli.core.scores import Readout, ValueKind, maps_in, round_score, to_logits
from cnnviz_cli.core.value import value
from cnnviz_cli.tasks.description import Describer, TargetDescription
from cnnviz_cli.tasks.spec import Check, TaskContext, TaskQuestion, TaskSettings, TaskSpec, ranks_of_parts, register

if TYPE_CHECKING:
    from torch import Tensor

    from cnnviz_cli.tasks.description import Numbers

# What is held has either dimension: without masks (B, H, W), the class that each position is taken for; with masks
# (B, 2, H, W), that and whether the position is within the mask.


@value
class Regions(Readout):
    """The sum of a class's map of scores y_k over its region, sum over p in R_k of y_k(p).

    R_k are the positions that the network takes for class k; or, where there is a mask, the positions within that, for
    every class. Regions are found once, in the image as it is: of altered versions the same positions are read.

    Networks return a (B, K, H, W) tensor of scores, or it is ``out`` in a mapping (torchvision), an attribute
    ``logits`` (Hugging Face), or the first of several values. One map z alone, a question of yes or no, is read as the
    two maps -z and z, so the region of yes is where z > 0. Of probabilities y is the logarithm, or the logit, so the
    region of yes is where the network says more than 0.5.

    Attributes:
        background: the class that stands for none; it ranks after all others that are there.
        head: the name of the part of the output that holds the maps, see `core.scores`; None finds it as above.
        exclusive: whether probabilities of a position add up to 1.
    """

    background: int | None = None
    head: str | None = None
    returns: ValueKind = "logits"
    exclusive: bool = True

    def hold(self, output: Any, masks: Tensor | None, /) -> Tensor:
        """(B, H, W) int64, or (B, 2, H, W) with masks: see `predicted_classes` and `within`.

        Masks are (B, h, w) bool or uint8 of any size, other than 0 within; each position of the maps takes what the
        mask has at its centre.
        """
        import torch
        from torch.nn.functional import interpolate

        found = self._class_maps(output).detach()
        maps = _to_two_classes(found)
        classes = (maps[:, 1] > 0).long() if found.shape[1] == 1 else maps.argmax(1)
        if masks is None:
            return classes
        if masks.dim() != 3 or len(masks) != len(maps):
            raise ValueError(f"masks of shape {tuple(masks.shape)} for {len(maps)} images")
        whole = (masks != 0)[:, None].to(maps.device, torch.float32)
        inside = interpolate(whole, size=(maps.shape[2], maps.shape[3]), mode="nearest-exact")[:, 0]
        return torch.stack([classes, inside.long()], 1)

    def scores(self, output: Any, anchor: Tensor | None, /) -> Tensor:
        """(B, K) float32, of a float64 network float64: the sums. 0 for a class without a position, with a gradient of
        zeros. Raises UsageError if the network does not return maps of scores."""
        import torch

        maps = _to_two_classes(self._class_maps(output))
        if anchor is None:
            raise ValueError("the sum over a region needs what `hold` gave")
        if anchor.dim() == 4:
            # Autocast would multiply in half precision.
            with torch.autocast(maps.device.type, enabled=False):
                flat = maps.flatten(2)
                flat = flat if flat.dtype == torch.float64 else flat.float()
                return torch.bmm(flat, anchor[:, 1].flatten(1)[:, :, None].to(flat.dtype)).flatten(1)
        # Of each position the one score that counts: a fifth of the time that K masks over K maps take.
        own = maps.gather(1, anchor[:, None]).flatten(1)
        # In double precision, where there is any, so that the order of so many summands leaves no trace.
        exact = own.float() if own.device.type == "mps" else own.double()
        sums = exact.new_zeros(len(maps), maps.shape[1]).scatter_add(1, anchor.flatten(1), exact)
        return sums if own.dtype == torch.float64 else sums.float()

    def order(self, scores: Tensor, anchor: Tensor | None, /) -> Tensor:
        """(B, K) by the share of the image, or of the mask, that is taken for each class.

        Minus infinity for a class that no position is taken for. Within a mask that has positions every class has its
        sum, so there it is -1; of the background it is 1 less, so that it comes after all that are there.
        """
        import torch

        if anchor is None:
            raise ValueError("the order of regions needs what `hold` gave")
        inside = within(anchor)
        found = _counts(predicted_classes(anchor), scores.shape[1], inside)
        size = inside.flatten(1).sum(1, keepdim=True)
        masked = torch.full_like(size, anchor.dim() == 4, dtype=torch.bool) & (size > 0)
        absent = torch.where(masked, -1.0, float("-inf"))
        order = torch.where(found > 0, found / size.clamp(min=1), absent).to(scores.dtype)
        if self.background is not None:
            order[:, self.background] -= 1
        return order

    def _class_maps(self, output: Any) -> Tensor:
        """(B, K, H, W) scores."""
        found = maps_in(output, self.head)
        shape: tuple[int, ...] = tuple(getattr(found, "shape", ()))
        if len(shape) != 4:
            raise UsageError(
                "the network does not return a map of scores for each class, so there are no regions to explain",
                fix="A classifier's scores are explained by themselves, without an objective",
            )
        return to_logits(found, self.returns, exclusive=self.exclusive)


def predicted_classes(anchor: Tensor) -> Tensor:
    """(B, H, W) int64 the class that each position is taken for, of what `Regions` holds."""
    return anchor[:, 0] if anchor.dim() == 4 else anchor


def within(anchor: Tensor) -> Tensor:
    """(B, H, W) bool whether a position may count at all: within the mask, or anywhere where there is none."""
    import torch

    return anchor[:, 1] > 0 if anchor.dim() == 4 else torch.ones_like(anchor, dtype=torch.bool)


def region(anchor: Tensor, classes: Tensor) -> Tensor:
    """(B, H, W) bool over what the score of each image's class, of (B,), is summed."""
    return anchor[:, 1] > 0 if anchor.dim() == 4 else anchor == classes.to(anchor.device)[:, None, None]


def shares(anchor: Tensor, count: int) -> Tensor:
    """(B, K) float32 the share of the image that is taken for each of `count` classes, whatever the mask."""
    classes = predicted_classes(anchor)
    return _counts(classes, count, within(classes)).float() / classes[0].numel()


def _counts(classes: Tensor, count: int, inside: Tensor) -> Tensor:
    zeros = classes.new_zeros(len(classes), count)
    return zeros.scatter_add(1, classes.flatten(1), inside.flatten(1).long())


def _to_two_classes(maps: Tensor) -> Tensor:
    """(B, K, H, W) maps of scores, K at least 2: of one map z alone -z and z."""
    import torch

    return torch.cat([-maps, maps], 1) if maps.shape[1] == 1 else maps


@value
class RegionDescriber(Describer):
    """Classes, and how much of the image each of them covers."""

    readout: Regions
    labels: Sequence[str]

    def numbers(self, scores: Tensor, anchor: Tensor | None, /) -> Numbers:
        assert anchor is not None
        covered = shares(anchor, scores.shape[1]).cpu().double()
        found: Numbers = covered.where(scores.cpu().isfinite(), float("nan")).numpy()
        return found

    def describe(
        self, index: int, number: float, anchor: Numbers | None, _size: tuple[int, int], /
    ) -> TargetDescription:
        import torch

        from cnnviz_cli.core.records import Prediction

        label = self.labels[index]
        assert anchor is not None
        masked = anchor.ndim == 3
        (inside,) = region(torch.from_numpy(anchor)[None], torch.tensor([index], dtype=torch.int64, device="cpu"))
        prediction = Prediction(index=index, label=label, probability=None, share=round_score(number))
        where = "within its mask" if masked else ""
        return TargetDescription(prediction, f"{index}-{label}", RegionAnnotation(inside.numpy()), where)

    def missing(self, indices: Sequence[int], /) -> str:
        names = " or ".join(f"'{self.labels[index]}'" for index in dict.fromkeys(indices))
        return f"the network takes no part of it for {names}"


@register
class Segmentation(TaskSpec):
    """The score of a class over its region."""

    name = "segmentation"
    word = "segment"
    usage = "segment[:CLASS] (of its region)"
    example = "segment:CLASS"
    sample = "segment:person"
    place = 2
    reads = ("maps",)
    returns = "maps"
    output = "maps of class scores"
    located = True
    probabilities = True
    own_settings = ("region",)

    def ask(self, settings: TaskSettings, what: str, context: TaskContext, /) -> TaskQuestion:
        labels, output = context.labels(), context.output
        background = next((index for index, name in enumerate(labels.names) if is_background(name)), None)
        ranks = _ranks(settings, what, labels)
        readout = Regions(background, output.head, output.values, output.exclusive)
        if settings.region is not None:
            context.read_masks(settings.region)
        return TaskQuestion(labels, ranks, RegionDescriber(readout, labels.names))

    def checks(self, settings: TaskSettings, what: str, labels: Labels, /) -> Iterator[Check]:
        if labels.names:
            yield "target", partial(_ranks, settings, what, labels)

    def check_objective(self, what: str, text: str, /) -> None:
        """Any class may follow."""


_ranks = partial(ranks_of_parts, parts="their regions", one="a class")
"""The classes that are explained."""
