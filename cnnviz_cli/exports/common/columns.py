"""The columns of a table of outputs, and its rows: one for each output, with the facts of its image repeated."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from cnnviz_cli.core.accuracy import AccuracyCounter
from cnnviz_cli.core.records import Subject
from cnnviz_cli.exports.api import records_of
from cnnviz_cli.files.output.saved_run import SavedRun

Kind = Literal["text", "whole", "number", "yes"]
"""whole: a whole number; number: of double precision; yes: true or false. A cell of any kind may be empty."""


class Column(NamedTuple):
    """One column of the table."""

    name: str
    kind: Kind
    about: str


_SIDES = ("left", "top", "right", "bottom")


def _numbers(prefix: str, of: str) -> tuple[Column, ...]:
    """What a prediction says beside its class: one of four."""
    return (
        Column(f"{prefix}_probability", "number", f"Of {of}."),
        Column(f"{prefix}_share", "number", "How much of what the network saw it takes for it; of segmentation."),
        Column(f"{prefix}_similarity", "number", "To the reference image."),
        Column(f"{prefix}_value", "number", "What the network returned; of regression."),
    )


COLUMNS: tuple[Column, ...] = (
    Column("model", "text", "The network, as `--model` names it."),
    Column("weights", "text", "Its weights."),
    Column("source", "text", "The image's path below what was named; of a dream the unit's name."),
    Column("image_sha256", "text", "Of the image's file."),
    Column("image_width", "whole", "Of the upright image, in pixels."),
    Column("image_height", "whole", "The same."),
    *(Column(f"seen_{side}", "number", "Of what the network saw, in pixels of the upright image.") for side in _SIDES),
    Column("status", "text", "`ok` or `failed`."),
    Column("error", "text", "Why it failed."),
    Column("truth", "text", "The true class, where it is known."),
    Column("truth_index", "whole", "Its number."),
    Column("truth_probability", "number", "What the network gives it."),
    Column("right", "yes", "Whether the likeliest class is the true one; with `--multilabel` whether that has 0.5."),
    Column("predicted", "text", "The foremost prediction."),
    Column("predicted_index", "whole", "The number of its class."),
    *_numbers("predicted", "the foremost prediction"),
    Column("predictions", "text", "All predictions, as JSON."),
    Column("family", "text", "Of the method."),
    Column("method", "text", "Empty for a figure of several maps."),
    Column("layer", "text", "That was read; empty where none or several were."),
    Column("subject", "text", "What of the network the figure shows, where it is not about the image."),
    Column("target", "text", "The class that was explained."),
    Column("target_index", "whole", "Its number."),
    *_numbers("target", "that class"),
    Column("target_rank", "whole", "Of a box among all that was found, from 1."),
    *(Column(f"target_{side}", "number", "Of the box, in pixels of the upright image.") for side in _SIDES),
    Column("contrast", "text", "The class that it was told apart from."),
    Column("contrast_index", "whole", "Its number."),
    Column("counterfactual", "yes", "Whether what speaks against the target was explained."),
    Column("state", "text", "`ok`, or why the map cannot be read."),
    Column("range_low", "number", "The lowest value of the raw map."),
    Column("range_high", "number", "The highest."),
    Column("scale_low", "number", "The value drawn in the first colour."),
    Column("scale_high", "number", "The value drawn in the last."),
    Column("path", "text", "Of the figure, below the run's folder."),
    Column("sha256", "text", "Of the figure's file."),
    Column("width", "whole", "Of the figure."),
    Column("height", "whole", "The same."),
    Column("arrays", "text", "The file of the raw numbers, below the run's folder."),
    Column("array", "text", "The map's key in it."),
    Column("objective", "text", "Of a dream: what was climbed."),
    Column("dream_start", "text", "`noise` or `image`."),
    Column("dream_number", "whole", "Of several dreams of one subject, from 1."),
    Column("dream_steps", "whole", "In all sizes together."),
    Column("dream_score", "number", "The objective, as the network receives the file."),
    Column("dream_start_score", "number", "The same in what it was painted from."),
    Column("dream_probability", "number", "Of the class that it was painted for."),
    Column("dream_rank", "whole", "Of that class among all, from 1."),
    Column("dream_percentile", "number", "The share of the images of a folder that the score exceeds, of 100."),
)

STATISTIC, MEASURE = "statistic.", "measure."
"""What the names of columns begin with that not every run has: a method's own numbers, and a measure's."""


class OutputTable:
    """The table of a run's outputs; rows are made as they are asked for."""

    def __init__(self, run: SavedRun) -> None:
        self._run = run
        found: set[str] = set()
        for record in records_of(run):
            for output in outputs_of(record):
                found.update(STATISTIC + name for name in output.get("statistics") or ())
                found.update(MEASURE + name for name in output.get("measures") or ())
        added = [Column(name, "number", "") for name in sorted(found, key=lambda name: (name[0] == "m", name))]
        self.columns: Sequence[Column] = (*COLUMNS, *added)
        self._model = {name: text(run.facts, "model", name.replace("model", "name")) for name in ("model", "weights")}
        self._multilabel = multilabel(run)

    def rows(self) -> Iterator[Mapping[str, Any]]:
        """For each output the cells by column, those that are empty left out; an image without output has one row."""
        for record in records_of(self._run):
            about = {**self._model, **_image_cells(record, multilabel=self._multilabel)}
            for output in outputs_of(record) or ({},):
                cells = {**about, **_output_cells(output, record)}
                yield {name: cell for name, cell in cells.items() if cell is not None}


def outputs_of(record: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The figures of a record."""
    found: Sequence[Mapping[str, Any]] = record["outputs"]
    return found


def fact(facts: Mapping[str, Any], *keys: str) -> Any:
    """What a manifest or a journal's header has under keys in keys; None where it has nothing."""
    found: Any = facts
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def text(facts: Mapping[str, Any], *keys: str) -> str:
    """The same, if it is a text; else an empty one."""
    found = fact(facts, *keys)
    return found if isinstance(found, str) else ""


def multilabel(run: SavedRun) -> bool:
    """Whether each class has a probability by itself."""
    return fact(run.facts, "run", "config", "multilabel") is True


def is_right(record: Mapping[str, Any], *, multilabel: bool) -> bool | None:
    """Whether the network is right of an image, as a run's accuracy counts it; None where that is not known."""
    counter = AccuracyCounter(0, multilabel=multilabel)
    counter.add(record)
    return None if counter.accuracy is None else not counter.mistakes


def _image_cells(record: Mapping[str, Any], *, multilabel: bool) -> dict[str, Any]:
    predictions = record["predictions"]
    truth, first = record.get("truth") or {}, (predictions or [{}])[0]
    seen = (record.get("seen") or {}).get("box") or [None] * 4
    return {
        "source": record["source"],
        "image_sha256": record["sha256"],
        "image_width": record["width"],
        "image_height": record["height"],
        **{f"seen_{side}": place for side, place in zip(_SIDES, seen, strict=True)},
        "status": record["status"],
        "error": record["error"],
        "truth": truth.get("label"),
        "truth_index": truth.get("index"),
        "truth_probability": truth.get("probability"),
        "right": is_right(record, multilabel=multilabel),
        "predicted": first.get("label"),
        "predicted_index": first.get("index"),
        **_number_cells("predicted", first),
        "predictions": json.dumps(predictions, ensure_ascii=False, separators=(",", ":")) if predictions else None,
    }


def _output_cells(output: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    if not output:
        return {}
    target, contrast = output["target"] or {}, output.get("contrast") or {}
    box = target.get("box") or [None] * 4
    low, high = output["range"] or (None, None)
    first, last = output.get("scale") or (None, None)
    subject = output.get("subject")
    return {
        **{name: output[name] for name in ("family", "method", "layer", "state", "path", "sha256", "width", "height")},
        "subject": Subject.model_validate(subject).name if subject else None,
        "target": target.get("label"),
        "target_index": target.get("index"),
        **_number_cells("target", target),
        "target_rank": target.get("rank"),
        **{f"target_{side}": place for side, place in zip(_SIDES, box, strict=True)},
        "contrast": contrast.get("label"),
        "contrast_index": contrast.get("index"),
        "counterfactual": output.get("counterfactual", False),
        "range_low": low,
        "range_high": high,
        "scale_low": first,
        "scale_high": last,
        "arrays": (record.get("arrays") or {}).get("path"),
        "array": output.get("array"),
        **_dream_cells(output.get("dream") or {}),
        **{STATISTIC + name: number for name, number in (output.get("statistics") or {}).items()},
        **{MEASURE + name: number for name, number in (output.get("measures") or {}).items()},
    }


def _number_cells(prefix: str, prediction: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{prefix}_{name}": prediction.get(name) for name in ("probability", "share", "similarity", "value")}


def _dream_cells(dream: Mapping[str, Any]) -> dict[str, Any]:
    names = ("start", "number", "steps", "score", "start_score", "probability", "rank", "percentile")
    return {"objective": dream.get("objective"), **{f"dream_{name}": dream.get(name) for name in names}}
