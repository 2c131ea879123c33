"""The settings of judging beside the measures' options: which measures, against what, and for how many passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path, PurePath
from typing import Annotated, Any, cast

from pydantic import AfterValidator, BaseModel, BeforeValidator, create_model
from pydantic_core import PydanticCustomError

import cnnviz_cli.measures  # noqa: F401  (registers the measures, whose options are settings)
from cnnviz_cli.config import values
from cnnviz_cli.config.fields import CLOSED_CONFIG, setting
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.families import ALL, EVALUATE
from cnnviz_cli.core.measures import Measure, find_measure, measures
from cnnviz_cli.core.method import option_types

_judging = partial(setting, "Judging")

QUICK = "quick"
"""Where measures or methods are chosen: the few that say most for their passes."""

USUAL_MEASURE = "subsets"
"""What ``--evaluate`` judges by, where no measure is named: one stream for all maps."""

QUICK_METHODS = (
    "gradcam", "layercam", "eigencam", "randomcam", "gradient", "smoothgrad", "guided-backprop", "lrp",
)  # fmt: skip
"""Eight methods of several kinds, a class-blind and a random one among them. Measures run them again, so none of them
takes more than about fifty passes of an image."""


def _check_measures(given: tuple[str, ...]) -> tuple[str, ...]:
    for name in given:
        if name not in (ALL, QUICK):
            try:
                find_measure(name)
            except UsageError as error:
                raise PydanticCustomError("unknown_key", "{what}", {"what": error.what, "fix": error.fix}) from error
    return tuple(dict.fromkeys(given))


MAPS = "maps"
"""The setting that names a finished run, whose maps are judged as they are."""

Measures = Annotated[
    tuple[str, ...],
    AfterValidator(_check_measures),
    BeforeValidator(values.split_at_commas, json_schema_input_type=tuple[str, ...] | str),
]


class EvaluateFields(BaseModel):
    """By what maps are judged."""

    model_config = CLOSED_CONFIG

    measure: Measures = _judging(
        (),
        "Measures that judge every map, of those that cnnviz measures lists; quick is a few of them, all is every one. "
        "Repeatable, or separated by commas.",
        "MEASURE",
    )
    controls: bool = _judging(True, "Judge maps that have never seen the network beside: noise, edges, the centre.")
    agreement: bool = _judging(False, "How alike the maps of each two methods are.")
    budget: int | None = _judging(
        None,
        "The most passes of the network for an image; methods and measures that do not fit are left out, and named.",
        "N",
        ge=1,
    )
    annotations: values.OptionalFile = _judging(
        None,
        "What people have marked in the images: a table of boxes or outlines (.csv, .tsv, .json), or a folder with a "
        "file or a mask for each image.",
        "FILE|DIR",
    )

    @property
    def chosen(self) -> tuple[Measure, ...]:
        """The measures that were asked for, each once, in the order of registration; with the quick ones those of what
        people have marked, where that is named."""
        named = set(self.measure)
        marked = self.annotations is not None
        return tuple(
            one
            for one in measures()
            if ALL in named or one.name in named or (QUICK in named and (one.quick or (marked and one.by_people)))
        )

    @property
    def unmarked(self) -> tuple[Measure, ...]:
        """The chosen measures that have nothing to judge by, since nothing says what is marked in the images."""
        return tuple(one for one in self.chosen if one.by_people and self.annotations is None)

    @property
    def by_people_alone(self) -> bool:
        """Whether no measure is chosen but those of what people have marked."""
        return all(one.by_people for one in self.chosen)

    def options_of(self, measure: Measure) -> Any:
        """A measure's options."""
        return measure.options(**{item.name: getattr(self, item.name) for item in fields(measure.options)})


def evaluate_fields(settings: Any) -> EvaluateFields:
    """By what maps are judged, of the settings of a run."""
    return cast("EvaluateFields", settings.section(EVALUATE))


def recorded_evaluation(settings: Any, whole: dict[str, Any]) -> dict[str, Any] | None:
    """What a manifest has of the section `whole`, as JSON: the chosen measures and the options that they read, of files
    their names; None where nothing is judged."""
    section = evaluate_fields(settings)
    if not section.chosen:
        return None
    read = {item.name for one in section.chosen for item in fields(one.options)} | EvaluateFields.model_fields.keys()
    annotations = whole["annotations"]
    return {name: given for name, given in whole.items() if name in read} | {
        "measure": [one.name for one in section.chosen],
        "annotations": annotations and PurePath(annotations.replace("\\", "/")).name,
        **({MAPS: maps.name} if (maps := maps_of(settings)) else {}),
    }


def check_annotations(settings: Any) -> None:
    """Raise UsageError where a measure is named that judges by what is marked, and nothing is, or the reverse."""
    section = evaluate_fields(settings)
    named = [one.name for one in section.unmarked if one.name in section.measure]
    if named:
        raise UsageError(
            f"it is missing, and {', '.join(named)} judges by what people have marked in the images",
            where="--annotations",
            fix="Say where that is: --annotations FILE|DIR, or leave the measure out.",
        )


def readers_of(option: str) -> list[str]:
    """The measures that read an option."""
    if option == "annotations":
        return [one.name for one in measures() if one.by_people]
    return [one.name for one in measures() if option in {item.name for item in fields(one.options)}]


def evaluation_section(command: str, annotate: Callable[..., Any]) -> type[BaseModel]:
    """The section: `EvaluateFields`, the measures' options, and defaults by the command; `annotate` gives the type of
    an option with its bound."""
    members: dict[str, Any] = {}
    if command == EVALUATE:
        text = {name: info.description or "" for name, info in EvaluateFields.model_fields.items()}
        members["measure"] = (Measures, _judging((QUICK,), text["measure"], "MEASURE"))
        members["agreement"] = (bool, _judging(True, text["agreement"]))
    if command in (EVALUATE, "config"):
        help_text = "A finished run with arrays, whose maps are judged as they are; images are those that it explained."
        members[MAPS] = (values.OptionalFile, _judging(None, help_text, "RUN"))
    for registered in measures():
        hints = option_types(registered.options)
        for item in fields(registered.options):
            if item.name in members:
                continue  # the registry sees to equality
            annotation = annotate(hints[item.name], item.metadata["at_least"], empty=False)
            side = setting(f"Options of {EVALUATE}", item.default, item.metadata["help"])
            members[item.name] = (annotation, side)
    return create_model("EvaluateSection", __base__=EvaluateFields, __module__=__name__, **members)


def annotations_of(settings: Any) -> Path | None:
    """Where what people have marked is read from; None where no measure is judged, or nothing is named."""
    section = evaluate_fields(settings)
    return section.annotations if section.chosen else None


def maps_of(settings: Any) -> Path | None:
    """The finished run whose maps are judged; None where maps are judged as they are made."""
    found: Path | None = getattr(evaluate_fields(settings), MAPS, None)
    return found


def quick_methods(names: Sequence[str]) -> tuple[str, ...]:
    """Those of some methods that are judged where none are named."""
    return tuple(name for name in names if name in QUICK_METHODS)
