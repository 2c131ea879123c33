"""Similarity: one score, how alike the embeddings of the image and of another one are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnviz_cli.core.classes import Labels
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.layers import FLAT_ULPS
from cnnviz_cli.core.scores import Readout, embedding, rank_second_first, round_score
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.core.value import value
from cnnviz_cli.tasks.description import Describer, TargetDescription
from cnnviz_cli.tasks.spec import TaskContext, TaskQuestion, TaskSettings, TaskSpec, register

if TYPE_CHECKING:
    from torch import Tensor

    from cnnviz_cli.tasks.description import Numbers

SHORT = 4
"""As `FLAT_ULPS`, of half precision, in which networks are off by units of the last place instead of tens of them."""


@value
class Similarity(Readout):
    """The cosine z.r / (|z| |r|) of each image's embedding z with the one r of a reference image.

    Its slope by z is (r/|r| - cos z/|z|) / |z|: nothing along z itself, and shorter the more alike the two are. Where
    they point the same way, or the opposite one, but for rounding, as of an image compared with itself, the slope is
    rounding alone and is taken for zero, so that maps made of it are flat. Of an embedding of zeros the cosine is 0,
    and so is its slope.

    The one score z is read as the two -z and z, see `to_two_classes`: class 1 is similar and always first, 0 is not.

    Networks return (B, D) or (B, D, 1, 1) embeddings, or these are an attribute ``logits`` or the first of several
    values.

    Attributes:
        reference: (D,) the reference image's embedding, finite and not all zeros; any but float64 becomes float32.
        lowered: the same by the network in the lower precision in which images pass it, if some do.
    """

    reference: Tensor = field(compare=False, repr=False)
    head: str | None = None
    lowered: Tensor | None = field(default=None, compare=False, repr=False)
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        kept = _checked_reference(self.reference)
        lowered = None if self.lowered is None else _checked_reference(self.lowered)
        digest = sha256(str(kept.dtype).encode() + kept.numpy().tobytes())
        if lowered is not None:
            digest.update(lowered.numpy().tobytes())
        self.__dict__.update(reference=kept, lowered=lowered, digest=digest.hexdigest())

    def scores(self, output: Any, _anchor: Tensor | None, /) -> Tensor:
        """(B, 1) float32, of a float64 network float64: the cosines, -1 to 1 up to rounding.

        Raises:
            UsageError: the network does not return embeddings, or others than the reference's network, or it is asked
                for parts (lrp, deeplift) that a cosine does not have.
        """
        import torch

        found = embedding(output, self.head)
        if found.shape[1] != len(self.reference):
            raise UsageError(
                f"the network returns {found.shape[1]:,} numbers for an image, and the reference image has "
                f"{len(self.reference):,}"
            )
        # Under autocast networks that end in a normalisation return float32 that is no better than what it was made of.
        lowered = torch.is_autocast_enabled(found.device.type)
        own = torch.finfo(torch.get_autocast_dtype(found.device.type) if lowered else found.dtype)
        units = SHORT if own.bits < 32 else FLAT_ULPS
        rounding = max(units * own.eps, FLAT_ULPS * torch.finfo(self.reference.dtype).eps)
        exact = found if found.dtype == torch.float64 else found.float()
        reference = self.lowered if lowered and self.lowered is not None else self.reference
        try:
            return _cosines(exact, reference.to(exact), rounding)
        except UsageError as error:  # of methods that follow each operation by rules of their own
            raise UsageError(
                "similarity is a cosine, and there is no rule by which that is the sum of parts",
                fix="Use integrated-gradients, whose shares add up for any score, or gradcam",
            ) from error

    def order(self, scores: Tensor, _anchor: Tensor | None, /) -> Tensor:
        """(B, 2): similar first, whatever the cosine, and not similar after it."""
        return rank_second_first(scores)


def _checked_reference(embedding: Tensor) -> Tensor:
    import torch

    kept = embedding.detach().cpu()
    kept = kept.clone() if kept.dtype == torch.float64 else kept.float().clone()
    if kept.dim() != 1 or not kept.any() or not kept.isfinite().all():
        raise ValueError(f"a reference of shape {tuple(kept.shape)}, to be finite, one row and not all zeros")
    return kept


def reference_of(net: Callable[[Tensor], Any], batch: Tensor, head: str | None = None) -> Tensor:
    """(D,) the embedding of one image (1, C, H, W), detached, float32, on its device.

    The autocast has to be that of the images compared with it, so that it differs from itself by rounding alone.

    Raises:
        UsageError: the network returns no embedding, or one that nothing can be compared with.
    """
    import torch

    with torch.no_grad():
        found = embedding(net(batch.clone()), head)[0].float()
    if not found.isfinite().all():
        raise UsageError("the embedding of the reference image is not finite", fix="Check the weights, and that image.")
    if not found.any():
        raise UsageError(
            "the embedding of the reference image is all zeros, which is like nothing",
            fix="Compare with another image, or another part of the network: --embedding output",
        )
    return found


def _cosines(vectors: Tensor, reference: Tensor, rounding: float) -> Tensor:
    """(B, 1) cosines of (B, D) vectors with a (D,) reference; constant where they are 1 or -1 up to `rounding`."""
    import torch

    # Over their largest numbers first, so that no square overflows or vanishes.
    reference = reference / reference.abs().amax()
    reference = reference / torch.linalg.vector_norm(reference)
    largest = vectors.detach().abs().amax(1, keepdim=True)
    there = largest != 0
    vectors = torch.where(there, vectors / torch.where(there, largest, 1), 1)
    units = vectors / torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    cosines = (units * reference).sum(1, keepdim=True)
    with torch.no_grad():
        across = torch.linalg.vector_norm(reference - cosines * units, dim=1, keepdim=True)
    cosines = torch.where(across > rounding, cosines, cosines.detach())
    return torch.where(there, cosines, 0)


@value
class SimilarityDescriber(Describer):
    """How alike the image is to `other`, to the network."""

    readout: Similarity
    other: str

    def describe(self, index: int, number: float, _anchor: Any, _size: Any, /) -> TargetDescription:
        from cnnviz_cli.core.records import Prediction

        label = f"{'similar' if index else 'not similar'} to {self.other}"
        opposite = f"{'not similar' if index else 'similar'} to {self.other}"
        prediction = Prediction(index=index, label=label, probability=None, similarity=round_score(number, -1.0))
        return TargetDescription(prediction, label, against=opposite)

    def foremost(self, _numbers: Numbers, _order: Numbers, /) -> list[int]:
        return [1]


@register
class SimilarityTask(TaskSpec):
    """How alike the image is to another one."""

    name = "similarity"
    word = "similarity"
    usage = "similarity:FILE (to another image)"
    sample = "similarity:other.jpg"
    place = 5
    reads = ("scores",)
    names_file = True

    def ask(self, settings: TaskSettings, what: str, context: TaskContext, /) -> TaskQuestion:
        import torch

        path, head = Path(what), context.output.head
        net = context.embedding_network(settings.embedding)
        batch = context.read_image(path)
        reference, lowered = reference_of(net, batch, head), None
        with context.autocast():
            if torch.is_autocast_enabled(batch.device.type):  # or an image would not be the same as itself
                lowered = reference_of(net, batch, head)
        other = escape_text(path.name, 80)
        labels = Labels((f"not similar to {other}", f"similar to {other}"))
        return TaskQuestion(labels, (0,), SimilarityDescriber(Similarity(reference, head, lowered), other))

    def check_objective(self, what: str, _text: str, /) -> None:
        if not what:
            raise UsageError("similarity to which image?", where="--objective", fix=self.sample)

    def check_settings(self, settings: TaskSettings) -> None:
        super().check_settings(settings)
        if "target" in settings.model_fields_set:
            raise UsageError("there is one thing to explain, the similarity", where="--target", fix="Leave it out.")

    def check_unused(self, settings: TaskSettings, _explained: TaskSpec, /) -> None:
        if settings.embedding != "auto":
            raise UsageError("nothing is compared", where="--embedding", fix=f"Add --objective {self.sample}")

    def mismatch(self, model: str, fitting: TaskSpec) -> UsageError:
        what = f"{model} returns {fitting.output}, and images are compared by vectors"
        fix = "Use a classifier, or a network that returns (batch, numbers)."
        return UsageError(what, where="--objective", fix=fix)
