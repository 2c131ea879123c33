"""What a study of concepts leaves for the sheet of all images, so that it can be drawn without network and images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz_cli.config.concepts_fields import concepts_fields
from cnnviz_cli.core.concept_records import ConceptFacts
from cnnviz_cli.core.records import Json
from cnnviz_cli.files.inputs.image_source import Source
from cnnviz_cli.files.output.study_kit import Kit
from cnnviz_cli.files.tables.concept_file import ConceptFile
from cnnviz_cli.render.concept_maps import color_of
from cnnviz_cli.render.concepts import CROPS, MOST_IMAGES, MOST_ROWS
from cnnviz_cli.run.feature_pass import Crops
from cnnviz_cli.run.session import Session
from cnnviz_cli.studies.concepts.basis import Found
from cnnviz_cli.studies.concepts.boards import ImageMaps, Picture
from cnnviz_cli.studies.concepts.places import Frame, Place, Places, images_to_show
from cnnviz_cli.studies.concepts.survey import ImageSurvey, RowSurvey, Tables, maps_of

COLUMN_PIXELS = 512  # the longer side of an image on the sheet of all, at the most


@dataclass(frozen=True)
class KitMaker:
    """Puts the kit together.

    Attributes:
        table: the table that was factorised.
        called, classes: names of the concepts, and the classes that they stand for.
        file: whose concepts these are, if an earlier run's.
        exact: whether what concepts add is known exactly.
        frame, maps, picture: give what is known of an image by its number in the list.
    """

    session: Session
    store: Tables
    sources: Sequence[Source]
    layer: str
    crops: Crops | None
    table: str
    found: Found
    rows: RowSurvey
    images: ImageSurvey
    called: Sequence[str | None]
    classes: Sequence[Sequence[str]]
    file: ConceptFile | None
    exact: bool
    frame: Callable[[int], Frame]
    maps: Callable[[int], ImageMaps]
    picture: Callable[[int], Picture]

    def make(self) -> Kit:
        """The kit: values that are known of the concepts, their arrays, and pictures."""
        arrays: dict[str, NDArray[Any]] = {f"file.{name}": values for name, values in self._file_arrays().items()}
        pictures = _Pictures(self.picture)
        places = Places(self.store.seen, self.store.counts(self.table), self.crops)
        examples = [places.choose(one, self.frame, CROPS) for one in self.rows.concepts]
        unexplained = places.choose(self.rows.unexplained, self.frame, CROPS)
        shown = self._most_important()
        for number, chosen in [(0, unexplained), *((one + 1, examples[one]) for one in shown)]:
            for at, place in enumerate(chosen):
                arrays[f"crop.{number}.{at}"] = np.asarray(pictures.of(place.image).crop(place.box))
        columns: list[Any] = []
        for number, at in enumerate(self._columns(shown)):
            picture, maps = pictures.of(at).reduced(COLUMN_PIXELS), self.maps(at)
            arrays[f"column.{number}.picture"] = np.asarray(picture.image)
            arrays[f"column.{number}.concepts"] = maps.concepts
            arrays[f"column.{number}.rest"] = maps.rest
            view = picture.view
            columns.append({"source": picture.name, "size": list(view.size), "box": list(map(_six, view.box))})
        values: Json = {
            "facts": self._facts().model_dump(mode="json"),
            "found": self._known(examples, unexplained),
            "columns": columns,
            "images": len(self.store.seen),
        }
        return Kit(values, arrays)

    def _file_arrays(self) -> Mapping[str, NDArray[Any]]:
        # An old basis keeps how much there was of each where it was found, too.
        if self.file is not None:
            return self.file.arrays
        most = np.array([one.values[0] if len(one.values) else 0.0 for one in self.rows.concepts], np.float32)
        return {**self.found.dictionary.arrays(), "peaks": self.images.peaks.astype(np.float32), "most": most}

    def _facts(self) -> ConceptFacts:
        model, settings = self.session.model, self.session.settings
        if self.file is not None:
            return self.file.facts.model_copy(update={"names": list(self.called)} if any(self.called) else {})
        height, width = self.session.context.input_spec.size
        return ConceptFacts(
            format=1,
            dictionary=concepts_fields(settings).dictionary,
            layer=self.layer,
            model=model.name,
            weights=model.weights,
            weights_sha256=model.weights_sha256,
            size=(height, width),
            head=self.layer if self.exact else None,
            of="positions" if self.crops is None else "crops",
            share=None if self.crops is None else self.crops.share,
            rows=self.store.rows(self.table).shape[0],
            error=_six(self.found.dictionary.error),
            seed=settings.seed,
            names=list(self.called),
            classes=[list(one) for one in self.classes],
            colors=[color_of(number) for number in range(1, self.found.dictionary.count + 1)],
        )

    def _known(self, examples: Sequence[Sequence[Place]], unexplained: Sequence[Place]) -> dict[str, Any]:
        """The fields of `ConceptsFound` that no record has to tell."""
        knee, settings, file = self.found.knee, self.session.settings, self.file
        kind = self._facts().dictionary
        total = float(self.rows.weights.sum()) or 1.0
        return {
            "layer": self.layer,
            "dictionary": kind,
            "rows": self.store.rows(self.table).shape[0],
            "of": "positions" if self.crops is None else "crops",
            "share": None if self.crops is None else self.crops.share,
            "error": _six(self.rows.error),
            "seed": settings.seed if kind == "sae" and file is None else None,
            "curve": None if knee is None else {"counts": list(knee.counts), "errors": list(map(_six, knee.errors))},
            "basis": None
            if file is None
            else {"name": file.name, "sha256": file.sha256, "error": file.facts.error, "rows": file.facts.rows},
            "how": "exact" if self.exact else "sobol",
            "shares": [_six(weight / total) for weight in self.rows.weights],
            "examples": [
                self._records(chosen, most) for chosen, most in zip(examples, self._file_arrays()["most"], strict=True)
            ],
            "unexplained": self._records(unexplained, unexplained[0].value if unexplained else 1.0),
        }

    def _records(self, places: Sequence[Place], most: float) -> list[dict[str, Any]]:
        """Places as fields of `ConceptExample`, their values beside the most that there was when the concepts were
        found."""
        return [
            {
                "source": self.sources[one.image].name,
                "box": [round(edge, 2) for edge in one.box],
                "value": _six(one.value / float(most)) if most > 0 else 0.0,
            }
            for one in places
        ]

    @property
    def _parts(self) -> NDArray[np.float64]:
        """(N, k) how much each concept does in each image: what it adds, or how much of it there is."""
        if self.images.adds is not None:
            return self.images.adds
        basis = self.found.dictionary
        found = [basis.encode_maps(maps_of(self.store, int(at))).mean((0, 2, 3)).numpy() for at in self.store.seen]
        return np.asarray(found, np.float64)

    def _most_important(self) -> list[int]:
        """The concepts that may stand on the sheet. What has no exact share is known when all records are."""
        count = self.found.dictionary.count
        if self.images.adds is None:
            return list(range(count))[: 4 * MOST_ROWS]
        order = sorted(range(count), key=lambda one: (-float(self._parts[:, one].mean()), one))
        return order[:MOST_ROWS]

    def _columns(self, shown: Sequence[int]) -> list[int]:
        """The images that stand on the sheet."""
        chosen = images_to_show(self._parts[:, list(shown)], MOST_IMAGES)
        return [int(self.store.seen[number]) for number in chosen]


class _Pictures:
    """Images that are drawn, read once each as long as they come one after the other."""

    def __init__(self, read: Callable[[int], Picture]) -> None:
        self._read = read
        self._kept: dict[int, Picture] = {}

    def of(self, at: int) -> Picture:
        if at not in self._kept:
            if len(self._kept) >= MOST_IMAGES:
                self._kept.pop(next(iter(self._kept)))
            self._kept[at] = self._read(at)
        return self._kept[at]


def _six(value: float) -> float:
    return float(f"{float(value):.6g}") + 0.0
