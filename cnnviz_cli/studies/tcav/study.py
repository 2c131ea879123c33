"""The study of concepts that are named: their folders are shown to the network, then the class's images, each of which
has one gradient a layer, the one that Grad-CAM needs as well."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cnnviz_cli.config.concepts_fields import ConceptsSection, concepts_fields
from cnnviz_cli.config.tcav_fields import LEAST, check_tcav
from cnnviz_cli.core.draws import generator
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.findings import ImageFindings
from cnnviz_cli.core.needs import Activation, Gradient, Need
from cnnviz_cli.core.network import explain_memory_errors, to_memory_format
from cnnviz_cli.core.records import Cost, ImageRecord
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.tcav_records import ConceptInImage, ConceptScore, Estimate, TcavFound
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.engine.plan import Plan
from cnnviz_cli.files.inputs.folder_walk import suggest_path
from cnnviz_cli.files.inputs.image_source import Source
from cnnviz_cli.files.output.resume import Input
from cnnviz_cli.files.output.sink import Sink
from cnnviz_cli.files.output.study_kit import Kit
from cnnviz_cli.render.figures import Figure, Scene, fit_width
from cnnviz_cli.render.style import Caption
from cnnviz_cli.render.tcav import SIGNIFICANT
from cnnviz_cli.render.tcav_image import ConceptMap, Likeness, compose_concept_maps
from cnnviz_cli.run.against import Folder
from cnnviz_cli.run.dream_pictures import round_number
from cnnviz_cli.run.feature_pass import FeaturePass, SeenBatch
from cnnviz_cli.run.image_data import LoadedImage, style_of
from cnnviz_cli.run.looking import Looking
from cnnviz_cli.run.session import Session
from cnnviz_cli.run.study import Study
from cnnviz_cli.studies.tcav.class_question import GradientPass, layers_of, one_class, refuse_layers
from cnnviz_cli.studies.tcav.statistics import count_cuts, holm
from cnnviz_cli.studies.tcav.verdicts import (
    NEEDED,
    Estimated,
    Groups,
    HowToFit,
    Told,
    Verdict,
    ask_class,
    tell_apart,
)

MOST = 500
"""Images of a folder that take part; of a larger one as many are drawn."""

SHOWN = 4
"""Images of a concept that are shown, the surest first."""

SIDE = 132
"""Their side in pixels."""

CHUNK = 256
"""Rows that are in memory at a time."""


@dataclass(frozen=True)
class ConceptFolder:
    """Images that belong together.

    Attributes:
        name: of the folder.
        sources: those that take part.
        left_out: how many do not.
    """

    name: str
    sources: tuple[Source, ...]
    left_out: int
    sha256: str


class TcavStudy(Study):
    """How far a class depends on concepts (Kim et al., Interpretability Beyond Feature Attribution, 2018).

    Attributes:
        layers: by name, with the channels, height and width of their maps.
        target: the class, by its index.
    """

    name: ClassVar[str] = "tcav"

    def __init__(self, session: Session, sources: Sequence[Source], sink: Sink, reporter: Reporter) -> None:
        super().__init__(session, sources, sink, reporter)
        fields = self.fields
        check_tcav(fields, targets="target" in self.settings.model_fields_set)
        self.target = one_class(session)
        self.layers = layers_of(session, fields)
        self.how = HowToFit(fields.cav, fields.penalty, fields.cuts, session.settings.seed)
        refuse_layers(session, list(self.layers))
        self.concepts = tuple(self._open(path, "--concept") for path in fields.concept)
        assert fields.against is not None
        self.against = self._open(fields.against, "--against")
        self.instead = None if fields.rather_than is None else self._open(fields.rather_than, "--rather-than")
        if len(names := {one.name for one in self.concepts}) < len(self.concepts):
            what = f"two concepts are called {escape_text(min(names), 60)}"
            raise UsageError(
                what, where="--concept", fix="Their folders' names are what figures call them: rename one."
            )

    @property
    def fields(self) -> ConceptsSection:
        return concepts_fields(self.settings)

    @property
    def label(self) -> str:
        return self.session.model.labels[self.target]

    @property
    def _folders(self) -> list[ConceptFolder]:
        return [*self.concepts, self.against, *([] if self.instead is None else [self.instead])]

    @property
    def identity(self) -> Mapping[str, Any]:
        named = ["concept"] * len(self.concepts) + ["against", "rather_than"]
        return {
            f"{what} {number}": [one.name, one.sha256]
            for number, (what, one) in enumerate(zip(named, self._folders, strict=False), 1)
        }

    @property
    def cost(self) -> Cost:
        needs: list[Need] = [Gradient(layer, self.session.context.target) for layer in self.layers]
        return Plan.of([*needs, *map(Activation, self.layers)]).cost()

    @property
    def lines(self) -> list[str]:
        found = [f"{len(one.sources)} images of {escape_text(one.name, 60)}: a forward each" for one in self._folders]
        what = self.session.context.target.label()
        found.append(f"each image: a forward, and one backward of {what} for {', '.join(self.layers)}")
        found.append(f"{self.how.cuts:,} random directions of {escape_text(self.against.name, 60)} a layer, no passes")
        return found

    def _open(self, path: Any, where: str) -> ConceptFolder:
        """The images of a folder; raises UsageError if they are too few."""
        if not os.path.lexists(path):
            shown = escape_text(str(path), 200)
            raise UsageError(f"there is no folder '{shown}'", where=where, fix=suggest_path(path))
        try:
            folder = Folder.open(path, self.settings)
        except UsageError as error:
            error.where = where
            raise
        count = len(folder.sources)
        self._check_count(folder.name, count, where)
        if count <= MOST:
            return ConceptFolder(folder.name, folder.sources, 0, folder.sha256)
        order = torch.randperm(
            count, generator=generator(self.settings.seed, 0), device="cpu", dtype=torch.int64
        )[:MOST]  # fmt: skip
        self.reporter.say(
            f"{MOST} of the {count:,} images of {escape_text(folder.name, 60)} take part, drawn by --seed"
        )
        drawn = tuple(folder.sources[at] for at in sorted(order.tolist()))
        return ConceptFolder(folder.name, drawn, count - MOST, folder.sha256)

    def _check_count(self, name: str, count: int, where: str) -> None:
        if count < LEAST:
            images = f"{count} image{'s' * (count != 1)}"
            what = (
                f"'{escape_text(name, 60)}' has {images} that can be shown, and a direction takes {LEAST} at the least"
            )
            raise UsageError(what, where=where, fix="30 to 100 of each are usual.")

    def look(self, looking: Looking) -> None:
        shown = FeaturePass(self.session, list(self.layers))
        columns = {_table(number): self._width(layer) for number, layer in enumerate(self.layers)}
        listed = [source for one in self._folders for source in one.sources]
        called = ", ".join(one.name for one in self._folders)
        self._store = looking.gather("concepts", shown, listed, columns, self._activations, called=called)
        self._refuse_few()
        self._read_activations()
        count = len(self._centred[0])
        tables = {_table(number): count for number in range(len(self.layers))}
        gradients = GradientPass(self.session, list(self.layers))
        self._slopes = looking.gather("class", gradients, self.sources, tables, self._slopes_of)
        looking.seen.insert(0, looking.seen.pop())  # the images that were named first
        looking.refuse_none()

    def _width(self, layer: str) -> int:
        channels, height, width = self.layers[layer]
        return channels if self.fields.pool == "mean" else channels * height * width

    def _pooled(self, layer: str, maps: Tensor, *, gradient: bool = False) -> Tensor:
        """(B, D) of (B, C, h, w): the mean over positions, of which a gradient is the sum; or all positions."""
        if self.fields.pool == "mean":
            return maps.double().sum((2, 3)) if gradient else maps.double().mean((2, 3))
        if tuple(maps.shape[1:]) != self.layers[layer]:
            sides = " x ".join(map(str, maps.shape[2:]))
            what = f"its maps of {layer} have {sides} positions, and others have another number"
            raise UsageError(what, where="--pool", fix="Average over positions: --pool mean")
        return maps.double().flatten(1)

    def _activations(self, seen: SeenBatch) -> list[Mapping[str, NDArray[Any]]]:
        found = [self._pooled(layer, seen.maps[layer]).cpu().numpy() for layer in self.layers]
        return [{_table(at): rows[image] for at, rows in enumerate(found)} for image in range(len(seen.at))]

    def _slopes_of(self, seen: SeenBatch) -> list[Mapping[str, NDArray[Any]]]:
        found = []
        for layer, centred in zip(self.layers, self._centred, strict=True):
            gradients = self._pooled(layer, seen.maps[layer], gradient=True).cpu()
            found.append((gradients @ centred.double().T).numpy())
        return [{_table(at): rows[image] for at, rows in enumerate(found)} for image in range(len(seen.at))]

    def _refuse_few(self) -> None:
        """Raise UsageError where too few images of a folder could be shown, or one is on both sides."""
        wheres = ["--concept"] * len(self.concepts) + ["--against", "--rather-than"]
        known = {at: about.sha256 for at, about in self._store.all_about() if not about.why}
        digests = []
        for where, folder, seen in zip(wheres, self._folders, self._seen, strict=False):
            self._check_count(folder.name, len(seen), where)
            digests.append({known[at] for at in seen})
        others = self._folders[len(self.concepts) :]
        for folder, own in zip(self.concepts, digests, strict=False):
            for other, theirs in zip(others, digests[len(self.concepts) :], strict=True):
                if both := len(own & theirs):
                    images = f"{both} image{'s' * (both != 1)} of '{escape_text(folder.name, 60)}'"
                    what = f"{images} {'is' if both == 1 else 'are'} in '{escape_text(other.name, 60)}' as well"
                    raise UsageError(what, where="--concept", fix="Take them out of one of both folders.")

    @cached_property
    def _seen(self) -> list[list[int]]:
        """Of each folder which images of the list could be shown."""
        ends = np.cumsum([0, *(len(one.sources) for one in self._folders)])
        seen = self._store.seen
        return [seen[(seen >= start) & (seen < end)].tolist() for start, end in pairwise(ends)]

    def _read_activations(self) -> None:
        """By layer all folders' activations less their mean, and their inner products."""
        self._centred, self._means, self._products = [], [], []
        for number in range(len(self.layers)):
            whole = torch.from_numpy(np.concatenate(list(self._store.rows(_table(number)).chunks(CHUNK))))
            mean = whole.double().mean(0)
            centred = (whole.double() - mean).float()
            products = torch.zeros(len(whole), len(whole), dtype=torch.float64, device="cpu")
            for start in range(0, centred.shape[1], 1 << 14):
                part = centred[:, start : start + (1 << 14)].double()
                products += part @ part.T
            self._means.append(mean)
            self._centred.append(centred)
            self._products.append(products)
        ends = np.cumsum([0, *map(len, self._seen)]).tolist()
        parts = [torch.arange(start, end, dtype=torch.int64, device="cpu") for start, end in pairwise(ends)]
        many = len(self.concepts)
        self._groups = Groups(parts[:many], parts[many], None if self.instead is None else parts[many + 1])

    @cached_property
    def _told(self) -> list[list[Told]]:
        """By layer and concept the directions."""
        return [tell_apart(products, self._groups, self.how) for products in self._products]

    def _all_slopes(self, layer: int) -> Iterator[Tensor]:
        for chunk in self._slopes.rows(_table(layer)).chunks(CHUNK):
            yield torch.from_numpy(np.array(chunk))

    def kit(self) -> Kit:
        verdicts = [
            ask_class(products, self._groups, told, partial(self._all_slopes, at), self.how)
            for at, (products, told) in enumerate(zip(self._products, self._told, strict=True))
        ]
        scores = self._scores(verdicts)
        self._warn_of_few_cuts(sum(one.share is not None for one in scores))
        found = TcavFound(
            target=self.target,
            label=escape_text(self.label),
            images=len(self._slopes.seen),
            against=escape_text(self.against.name),
            rather_than=None if self.instead is None else escape_text(self.instead.name),
            cuts=self._cuts,
            pool=self.fields.pool,
            cav=self.fields.cav,
            penalty=self.fields.penalty,
            scores=scores,
        )
        arrays: dict[str, NDArray[Any]] = {}
        for number, folder in enumerate(self.concepts):
            arrays[f"examples {number}"] = self._examples(number)
            for at, layer in enumerate(self.layers):
                arrays[f"vector {folder.name}, {layer}"] = self._vector(at, number).numpy().astype(np.float32)
        values: dict[str, Any] = {
            "found": found.model_dump(mode="json"),
            "counts": list(map(len, self._seen)),
            "layers": dict(self.session.wording.layers),
            "steady": [layer for at, layer in enumerate(self.layers) if self._is_steady(at)],
        }
        return Kit(values, arrays)

    @property
    def _cuts(self) -> int:
        """How many random directions there are a layer."""
        return count_cuts(len(self._groups.against), self.how.cuts)

    def _warn_of_few_cuts(self, asked: int) -> None:
        """Where no p can be small enough, whatever the concepts are."""
        least = asked / (1 + self._cuts)
        if least > SIGNIFICANT:
            directions = f"{self._cuts} random directions and {asked} concepts and layers"
            fix = "ask for more with --cuts" if self._cuts == self.how.cuts else "name more images with --against"
            self.reporter.warn(f"{directions} leave no corrected p below {least:.2g}: {fix}")

    def _scores(self, verdicts: Sequence[Sequence[Verdict | None]]) -> list[ConceptScore]:
        """By concept, then by layer, all p corrected."""
        cells = [(number, at) for number in range(len(self.concepts)) for at in range(len(self.layers))]
        asked = [(cell, one) for cell in cells if (one := verdicts[cell[1]][cell[0]]) is not None]
        shares = holm([one.share.chance for _, one in asked])
        means = holm([one.mean.chance for _, one in asked])
        corrected = {cell: pair for (cell, _), pair in zip(asked, zip(shares, means, strict=True), strict=True)}
        layers, found = list(self.layers), []
        for number, at in cells:
            told, one = self._told[at][number], verdicts[at][number]
            known: dict[str, Any] = {
                "concept": escape_text(self.concepts[number].name),
                "layer": layers[at],
                "accuracy": round_number(told.accuracy),
            }
            if one is None:
                other = self.against if self.instead is None else self.instead
                told_of = f"{100 * told.accuracy:.0f} % of the images are told from those of {escape_text(other.name)}"
                found.append(ConceptScore(**known, refused=f"{told_of}, and {100 * NEEDED:.0f} % are needed"))
                continue
            share, mean = corrected[number, at]
            found.append(
                ConceptScore(
                    **known,
                    share=_estimate(one.share, share),
                    mean=_estimate(one.mean, mean),
                    magnitude=round_number(one.magnitude) if np.isfinite(one.magnitude) else None,
                )
            )
        return found

    def _is_steady(self, layer: int) -> bool:
        """Whether all images have one and the same gradient, as before a head that averages and weighs."""
        first: Tensor | None = None
        for chunk in self._all_slopes(layer):
            first = chunk[:1] if first is None else first
            if float((chunk - first).abs().max()) > 1e-4 * float(first.abs().max()):
                return False
        return len(self._slopes.seen) > 1

    def _vector(self, layer: int, concept: int) -> Tensor:
        """(D,) a direction, of length 1."""
        return self._told[layer][concept].weights @ self._centred[layer].double()

    def _examples(self, concept: int) -> NDArray[np.uint8]:
        """(n, side, side, 3) the images that the concept's first direction is surest of, cut to squares."""
        listed = [source for one in self._folders for source in one.sources]
        found = []
        for one in self._told[0][concept].typical[:SHOWN]:
            image = self.read(listed[self._seen[concept][one]], "").crop
            side = min(image.size)
            left, top = (image.width - side) // 2, (image.height - side) // 2
            square = image.crop((left, top, left + side, top + side))
            found.append(np.asarray(square.resize((SIDE, SIDE), Image.Resampling.LANCZOS), np.uint8))
        return np.stack(found)

    def record(self, source: Input, folder: str) -> ImageRecord:
        assert isinstance(source, Source)
        loaded = self.read(source, folder)
        session, at = self.session, self.number_of(source)
        needs = [Activation(layer) for layer in self.layers]
        with explain_memory_errors(1):
            pixels = session.model.preprocessing.normalize([loaded.network_input.pixels]).to(session.device)
            inputs = to_memory_format(pixels, session.model.facts.memory_format)
            seen = session.observe(inputs, needs, digests=[loaded.original.sha256])
        described = session.question.describe(seen, tuple(inputs.shape[2:]), require_target=False)[0]  # type: ignore[arg-type]
        maps, told = [], []
        for number, layer in enumerate(self.layers):
            slopes = torch.from_numpy(np.array(self._slopes.values(_table(number), at))).double()[0]
            own = [
                self._in_image(number, one, slopes, seen.evidence[needs[number]]) for one in range(len(self.concepts))
            ]
            largest = max((abs(one.derivative) for one, _ in own), default=0.0)
            for (found, likeness), one in zip(own, self._told[number], strict=True):
                named = (found.concept, session.wording.layers.get(layer, layer))
                if not one.accepted:
                    note = f"its images cannot be told from the others ({100 * one.accuracy:.0f} %)"
                    maps.append(ConceptMap(*named, None, note=note))
                    continue
                told.append(found)
                maps.append(ConceptMap(*named, likeness, found.derivative, largest))
        predictions = [] if isinstance(described, str) else list(described.predictions)
        figure = self._draw(loaded, maps, [one.brief for one in predictions[:1]])
        output = self.write_figure(folder, self.name, figure)
        return self.image_record(source, loaded, [output], predictions, findings=ImageFindings(tcav=told))

    def _in_image(self, layer: int, concept: int, slopes: Tensor, maps: Tensor) -> tuple[ConceptInImage, Likeness]:
        """What an image has of a concept: the derivative, and position by position what the direction says of it, whose
        mean is what it says of the image."""
        one, name = self._told[layer][concept], list(self.layers)[layer]
        vector = self._vector(layer, concept)
        bias = one.bias - float(vector @ self._means[layer])
        if self.fields.pool == "mean":
            likeness = torch.einsum("c,chw->hw", vector, maps[0].double().cpu()) + bias
        else:
            by_position = vector.view(self.layers[name]) * maps[0].double().cpu()
            likeness = by_position.sum(0) * by_position[0].numel() + bias
        values = likeness.float().numpy()[None]
        found = ConceptInImage(
            concept=escape_text(self.concepts[concept].name),
            layer=name,
            derivative=round_number(float(one.weights @ slopes)),
            decision=round_number(float(likeness.mean())),
        )
        return found, Likeness(np.maximum(values, 0), values.max(), values.min(), layer=name)

    def _draw(self, loaded: LoadedImage, maps: Sequence[ConceptMap], said: Sequence[str]) -> Figure:
        session, style = self.session, style_of(self.settings)
        facts = [*said, f"concepts tested for {self.label}", session.wording.model]
        scene = Scene(loaded.original.image, loaded.view, loaded.crop, Caption(self.name), style)
        return fit_width(lambda one: compose_concept_maps(loaded.source.name, facts, maps, one), scene)


def _table(layer: int) -> str:
    return f"layer{layer}"


def _estimate(one: Estimated, corrected: float) -> Estimate:
    return Estimate(
        value=round_number(one.value),
        interval=(round_number(one.interval[0]), round_number(one.interval[1])),
        random=(round_number(one.random[0]), round_number(one.random[1])),
        p=round_number(one.chance),
        corrected_p=round_number(corrected),
    )
