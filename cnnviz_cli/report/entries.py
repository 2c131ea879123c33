"""An entry of the page: one image, and what every run says of it."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz_cli.core.panels import advice
from cnnviz_cli.core.records import Prediction
from cnnviz_cli.core.text import escape_text, format_percent
from cnnviz_cli.files.output.saved_run import SavedRun
from cnnviz_cli.files.output.sink import locate
from cnnviz_cli.report.maps import (
    MOST_INLINE,
    Map,
    RankedMap,
    common_part,
    disagreement,
    rank_vector,
    shares,
    stored_levels,
    stored_maps,
)
from cnnviz_cli.report.page import Plain, encode_path, to_base64, to_json
from cnnviz_cli.report.pictures import Pictures, Place, grey_picture
from cnnviz_cli.report.survey import NONE, Survey, ViewKey

MOST_PAIRS = 28
"""Pairs of views that are compared: those of eight."""

MOST_RECORD = 1 << 16
"""Letters of a manifest's record that the page repeats; of a longer one it has the address of the manifest."""

Command = Callable[[Mapping[str, Any]], tuple[str, str, str] | None]
"""Of an output the command that draws it: what stands before the image's name, what behind it, and what is asked for of
this image; None where there is none."""

MOST_PIXELS, MOST_SIDE = 1 << 24, 16383
"""Of a map that is shown in grey: all it has, and the longer side, which is what WebP holds."""

_ALWAYS = {"view", "target", "role", "scale", "asked"}

_SMALL = {"folder": 64, "single": 112}  # pixels of a map of pixels within the data, by the page's form


@dataclass
class ViewFacts:
    """What was found of a view's maps."""

    kind: str = "figure"
    signed: bool = False
    command: tuple[str, str] | None = None
    widest: tuple[float, float] | None = None

    def take(self, kind: str, scale: Sequence[float]) -> None:
        """Another map, on this scale."""
        self.kind = "pixels" if "pixels" in (kind, self.kind) else kind
        self.signed = self.signed or scale[0] < 0
        low, high = self.widest or scale
        self.widest = min(low, scale[0]), max(high, scale[1])


@dataclass(frozen=True)
class MadeEntry:
    """An entry, and of each run the manifest's record of it, which the page holds packed."""

    entry: Plain
    records: list[Plain | None]


@dataclass
class EntryMaker:
    """Makes entries, and gathers what only they tell: kinds of views, disagreements, what is missing."""

    runs: Sequence[SavedRun]
    survey: Survey
    place: Place
    pictures: Pictures
    commands: Sequence[Command]
    count: int
    views: dict[ViewKey, ViewFacts] = field(default_factory=dict)
    disagreements: dict[tuple[int, int], NDArray[np.float32]] = field(default_factory=dict)
    missing: Counter[str] = field(default_factory=Counter)

    def make(self, at: int, entry: int) -> MadeEntry:
        """The entry that stands at this place of the page."""
        records: list[Plain | None] = [
            None if positions[entry] == NONE else run.record(positions[entry])
            for run, positions in zip(self.runs, self.survey.positions, strict=True)
        ]
        seen = next((r["seen"]["box"] for r in records if r and r.get("seen")), None)
        size = next(([r["width"], r["height"]] for r in records if r and r["width"]), None)
        maps: list[Plain] = []
        ranked: dict[int, RankedMap] = {}
        said: list[Plain | None] = [None for _ in records]
        for run, record in enumerate(records):
            if record is not None:
                folder = self._folder(self.runs[run].root, record)
                said[run] = self._said(run, entry, record, folder)
                maps += self._maps(at, run, record, folder, seen, ranked)
        apart = [self._compare(at, pair, ranked) for pair in combinations(sorted(ranked), 2)]
        self.missing["apart"] += any(apart)
        found = [(run.root, record) for run, record in zip(self.runs, records, strict=True) if record is not None]
        made = {**self.pictures.of(found, at), "size": size, "seen": seen, "runs": said, "maps": maps}
        return MadeEntry(made, [None if r is None else _brief(r) for r in records])

    def _said(self, run: int, entry: int, record: Plain, folder: tuple[str, str] | None) -> Plain:
        labels, root = self.survey.labels, self.runs[run].root
        quoted = escape_text(shlex.quote(record["source"]))
        sheets = [o for o in record["outputs"] if o["method"] is None]
        return {
            "predictions": [
                [labels.find(run, one["index"], one["label"]), one.get("probability"), said.figure]
                + [escape_text(said.title)] * (said.title != one["label"])
                for one, said in ((one, Prediction.model_validate(one)) for one in record["predictions"])
            ],
            "truth": _true_one(labels.find, run, record.get("truth")),
            "error": escape_text(record["error"]) if record["error"] else None,
            "folder": folder and folder[1],
            "sheets": [[_sheet_title(o), self._link(root, o["path"])] for o in sheets],
            **({} if quoted == self.survey.sources[entry] else {"quoted": quoted}),
        }

    def _link(self, root: Path, relative: str) -> str | None:
        """The address of what a record lists; None where it leads out of the run's folder, or is gone."""
        try:
            place = locate(root, relative)
        except ValueError:
            self.missing["outside"] += 1
            return None
        if not os.path.lexists(place):
            self.missing["figures gone"] += 1
            return None
        return self.place.link(place)

    def _maps(
        self,
        at: int,
        run: int,
        record: Plain,
        folder: tuple[str, str] | None,
        seen: Any,
        ranked: dict[int, RankedMap],
    ) -> list[Plain]:
        root = self.runs[run].root
        stored, why = stored_maps(root, record)
        scaled = [output for output in record["outputs"] if output["scale"] is not None]
        if why == "unsaved":  # a grey picture has its numbers, too
            scaled = [output for output in scaled if not output.get("grey")]
        lacking = {f"arrays {why}"} if why and scaled else set()
        found: list[Plain] = []
        for output in record["outputs"]:
            key = ViewKey.of(run, output)
            if key is None:
                continue
            number, target = self.survey.views[key], output["target"]
            facts = self.views.setdefault(key, ViewFacts())
            drawn = self._numbers(f"{at:06d}-{run}-{len(found)}", root, output, stored.get(output["path"]), facts)
            values = drawn.pop("values")
            if drawn.pop("lost"):
                lacking.add("arrays gone")
            ranks = rank_vector(values) if values is not None and number not in ranked else None
            if ranks is not None:
                ranked[number] = RankedMap(values, tuple(record["seen"]["box"]) if record.get("seen") else None, ranks)
            command = self.commands[run](output)
            facts.command = facts.command or (command and command[:2])
            contrast = output.get("contrast")
            sentence = advice(
                output["state"],
                counter=bool(output.get("counterfactual")),
                contrast=escape_text(contrast["label"]) if contrast else "",
                statistics=output["statistics"],
            )
            label = "" if target is None else target["label"]
            title = "" if target is None else Prediction.model_validate(target).title
            above, _, name = output["path"].rpartition("/")
            inside = folder is not None and above == folder[0] and name not in ("", ".", "..")
            whole: Plain = {
                "view": number,
                "target": None if target is None else self.survey.labels.find(run, target["index"], label),
                "role": _role(record, target),
                "scale": output["scale"],
                "shape": None,
                "file": encode_path(name) if inside else None,
                "figure": None if inside else self._link(root, output["path"]),
                **drawn,
                "asked": None if command is None else command[2],
            }
            said: Plain = {
                "title": escape_text(title) if title != label else None,
                "range": output["range"] if output["range"] != output["scale"] else None,
                "state": output["state"] if output["state"] != "ok" else None,
                "sentence": sentence,
                "box": record["seen"]["box"] if record.get("seen") and record["seen"]["box"] != seen else None,
                "measures": {**(output.get("measures") or {}), **output["statistics"]},
            }
            # What is usual is left out: scripts know it.
            found.append({name: value for name, value in (whole | said).items() if value or name in _ALWAYS})
        self.missing.update(lacking)
        return found

    def _folder(self, root: Path, record: Plain) -> tuple[str, str] | None:
        """The folder of an image's files, as the manifest has it, and its address; None where there is no way."""
        outputs: Any = record["outputs"]
        first = outputs[0]["path"] if outputs else ""
        folder = first.rpartition("/")[0]
        if not folder:
            return None
        try:
            locate(root, first)  # the folder may be a link itself
        except ValueError:
            return None  # which is counted with the figure
        address = self._link(root, folder)
        return None if address is None else (folder, address)

    def _numbers(self, name: str, root: Path, output: Plain, values: Map | None, facts: ViewFacts) -> Plain:
        """How the page draws a map, its `values` or shares (h, w), if there are any, and whether a picture of them is
        `lost`."""
        said: Plain = {"data": "", "small": "", "image": None, "shape": None, "values": None, "lost": False}
        scale, grey = output["scale"], output.get("grey")
        if scale is None:
            return said
        levels = shares(values, scale) if values is not None else stored_levels(root, grey) if grey else None
        said["lost"] = levels is None and values is None and bool(grey)
        if levels is None or levels.size > MOST_PIXELS or max(levels.shape) > MOST_SIDE:
            return said
        kind = "map" if levels.size <= MOST_INLINE else "pixels"
        facts.take(kind, scale)
        said |= {"shape": list(levels.shape), "values": levels if values is None else values}
        if kind == "map":
            return said | {"data": to_base64(levels.tobytes())}
        image = self._link(root, grey["path"]) if grey else None
        if image is None and self.place.mode == "folder":
            image = self.place.keep(f"maps/{name}.webp", grey_picture(levels))
        return said | {"small": to_base64(grey_picture(levels, _SMALL[self.place.mode])), "image": image}

    def _compare(self, at: int, pair: tuple[int, int], ranked: Mapping[int, RankedMap]) -> bool:
        """Whether the maps of a pair lie on no common part of the image; how they disagree goes into its column."""
        column = self.disagreements.get(pair)
        if column is None:
            if len(self.disagreements) >= MOST_PAIRS:
                self.missing["pairs"] += 1
                return False
            column = self.disagreements[pair] = np.full(self.count, np.nan, np.float32)
        one, other = (ranked[view] for view in pair)
        found = disagreement(one, other)
        if found is not None:
            column[at] = found
        return one.box != other.box and common_part(one, other) is None


def _brief(record: Plain) -> Plain | None:
    """A record without curves; None where it is too long all the same."""
    outputs: Any = record["outputs"]
    plain = [{key: value for key, value in output.items() if key != "curves"} for output in outputs]
    said = {key: value for key, value in record.items() if key != "controls"} | {"outputs": plain}
    return said if len(to_json(said)) <= MOST_RECORD else None


def _role(record: Mapping[str, Any], target: Mapping[str, Any] | None) -> str:
    """What an output explains: what the network says, what is true, both, or something that was asked for."""
    if target is None:
        return "both"  # it is about no class, so it stands under either

    def same(other: Mapping[str, Any] | None) -> bool:
        return other is not None and (other["index"], other.get("rank")) == (target["index"], target.get("rank"))

    predictions, truth = record["predictions"], record.get("truth")
    says, true = bool(predictions) and same(predictions[0]), truth is not None and truth["index"] == target["index"]
    return "both" if says and true else "says" if says else "true" if true else "asked"


def _true_one(find: Callable[[int, int, str], int], run: int, truth: Mapping[str, Any] | None) -> list[Any] | None:
    if truth is None:
        return None
    probability = truth.get("probability")
    return [
        find(run, truth["index"], truth["label"]),
        probability,
        "" if probability is None else format_percent(probability),
    ]


def _sheet_title(output: Mapping[str, Any]) -> str:
    """What a figure of several maps is called: its file's name without dots."""
    return escape_text(" ".join(PurePosixPath(output["path"]).stem.split(".")))
