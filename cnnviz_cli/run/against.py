"""A folder of images that is shown to the network once: what excites its channels most, and what objectives come to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cnnviz_cli.config.settings import Settings
from cnnviz_cli.core.dream_facts import percentile_among
from cnnviz_cli.core.errors import ImageError, NoInputsError, UsageError
from cnnviz_cli.core.file_reading import MEBIBYTE
from cnnviz_cli.core.needs import Activation
from cnnviz_cli.core.network import NetworkError, explain_memory_errors, to_memory_format
from cnnviz_cli.core.objectives import Objective
from cnnviz_cli.core.records import Against, Subject
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.strongest import Answers, Example, Peak, Strongest, StrongestPatches, Unread
from cnnviz_cli.core.text import escape_text, list_some
from cnnviz_cli.core.unit_objectives import Channel
from cnnviz_cli.files.images.decode import read_bytes
from cnnviz_cli.files.inputs.image_source import Source
from cnnviz_cli.files.inputs.search import find_images
from cnnviz_cli.files.output.fold_states import KeptFold
from cnnviz_cli.files.output.sink import Sink
from cnnviz_cli.run.dream_pictures import round_number
from cnnviz_cli.run.feature_pass import read_ahead
from cnnviz_cli.run.image_data import NetworkInput
from cnnviz_cli.run.manifest_header import tool_record
from cnnviz_cli.run.session import Session

MAX_NAMED = 3
"""Unreadable images that are named in a warning."""


@dataclass(frozen=True)
class Folder:
    """Images to compare with.

    Attributes:
        name: of the folder, without the path to it.
        sha256: of the names and bytes of its images.
    """

    name: str
    sources: tuple[Source, ...]
    sha256: str

    @classmethod
    def open(cls, path: Path, settings: Settings) -> Folder:
        """The images below a folder, or in an archive. Raises UsageError where there are none."""
        try:
            found = find_images([path], recursive=True, output=settings.output)
        except (UsageError, NoInputsError) as error:
            raise UsageError(error.what, where="--against", fix="Name a folder of images.") from error
        limit = round(settings.max_bytes * MEBIBYTE)
        digest = sha256()
        for source in sorted(found, key=lambda one: one.name):
            digest.update(f"{source.name}\0{_digest_of(source, limit)}\n".encode("utf-8", "surrogatepass"))
        return cls(path.name or path.resolve().name, tuple(found), digest.hexdigest())

    @cached_property
    def by_name(self) -> Mapping[str, Source]:
        return {source.name: source for source in self.sources}


def _digest_of(source: Source, limit: int) -> str:
    try:
        return sha256(read_bytes(source, limit)).hexdigest()
    except ImageError:
        return "unread"


@dataclass(frozen=True)
class Asked:
    """What a folder is asked.

    Attributes:
        channels: layers and channels whose strongest patches are wanted.
        objectives: what is found out in every image.
        sign: 1, or -1 for the weakest patches.
    """

    channels: tuple[tuple[str, int], ...] = ()
    objectives: tuple[Objective, ...] = ()
    sign: int = 1

    @property
    def layers(self) -> tuple[str, ...]:
        of = (layer for objective in self.objectives for layer in objective.layers())
        return tuple(dict.fromkeys([*(layer for layer, _ in self.channels), *of]))

    @property
    def needs_scores(self) -> bool:
        """Whether the network has to run to its end."""
        return any(objective.follows_target for objective in self.objectives)

    def as_json(self) -> Any:
        """What the answer depends on, of what is asked."""
        return {
            "channels": [list(one) for one in self.channels],
            "objectives": [repr(objective) for objective in self.objectives],
            "sign": self.sign,
        }


class FolderPass:
    """Shows images to the network, one after the other.

    A batch of several would move the last bits of sums, so that a folder's order decided which of two images that are
    nearly as strong comes first.
    """

    def __init__(self, session: Session, asked: Asked) -> None:
        self._session, self._asked = session, asked
        self._read = None if asked.needs_scores else session.layers_reader(asked.layers)
        self._columns = [_column_of(objective) for objective in asked.objectives]

    def add_all(self, folder: Folder, fold: StrongestPatches, reporter: Reporter) -> None:
        """Add the answers of every image. Raises MemoryShortError where one is too large."""
        failures: list[tuple[str, str]] = []
        for done, (source, item) in enumerate(read_ahead(self._session, folder.sources), 1):
            reporter.tick(done, len(folder.sources))
            if isinstance(item, NetworkInput):
                try:
                    fold.add(self._answers(source.name, item))
                    continue
                except (NetworkError, UsageError, ImageError) as error:
                    why = error.what
            else:
                why = item.error or ""
            fold.add(Unread(source.name))
            failures.append((source.name, why))
        if failures:
            named = list_some([f"{escape_text(name, 100)} ({why})" for name, why in failures], MAX_NAMED)
            reporter.warn(f"not among the images that are compared with: {named}")

    def _answers(self, name: str, item: NetworkInput) -> Answers:
        session, asked = self._session, self._asked
        with explain_memory_errors(1):
            pixels = session.model.preprocessing.normalize([item.pixels]).to(session.device)
            seen = self._observe(to_memory_format(pixels, session.model.facts.memory_format), item.sha256)
            peaks = _peaks_of(seen, asked)
            scores = self._scores_of(seen)
        if not np.isfinite([peak.value for peak in peaks]).all() or not np.isfinite(scores).all():
            raise ImageError("the network's answers are not finite")
        return Answers(name, item.sha256, peaks, scores)

    def _observe(self, pixels: Tensor, digest: str) -> _Seen:
        if self._read is not None:
            return _Seen(
                self._read(pixels, [digest]),
                torch.zeros(1, 2, dtype=torch.float32, device="cpu"),
                torch.zeros(1, 1, dtype=torch.int64, device="cpu"),
            )
        session, needs = self._session, [Activation(layer) for layer in self._asked.layers]
        found = session.observe(pixels, needs, digests=[digest])
        return _Seen({need.layer: found.evidence[need] for need in needs}, found.logits, found.targets)

    def _scores_of(self, seen: _Seen) -> tuple[float, ...]:
        means: dict[str, Any] = {}
        found = []
        for objective, column in zip(self._asked.objectives, self._columns, strict=True):
            if column is None:
                found.append(float(objective.value(seen)[0]))
                continue
            layer, channel = column
            if layer not in means:
                means[layer] = seen.maps(layer)[0].double().mean((1, 2)).cpu().numpy()
            found.append(float(means[layer][channel]))
        return tuple(map(round_number, found))


@dataclass
class _Seen:
    """One image as objectives read it, see `core.objectives.Forward`."""

    kept: Mapping[str, Tensor]
    logits: Tensor
    targets: Tensor

    def maps(self, layer: str) -> Tensor:
        return self.kept[layer]


def _peaks_of(seen: _Seen, asked: Asked) -> tuple[Peak, ...]:
    by_layer: dict[str, tuple[Any, Any, int]] = {}
    found = []
    for layer, channel in asked.channels:
        if layer not in by_layer:
            maps = asked.sign * seen.maps(layer)[0]
            # Of equal positions numpy takes the first, and so does every machine.
            flat = maps.flatten(1).cpu().numpy()
            places = flat.argmax(1)
            by_layer[layer] = (flat[np.arange(len(flat)), places], places, maps.shape[2])
        values, places, width = by_layer[layer]
        row, column = divmod(int(places[channel]), width)
        found.append(Peak(float(values[channel]) + 0.0, row, column))
    return tuple(found)


def _column_of(objective: Objective) -> tuple[str, int] | None:
    """Layer and channel of an objective that is the mean of a map: those of a layer are reckoned together."""
    if isinstance(objective, Channel) and objective.at is None:
        return objective.layer, objective.channel
    return None


@dataclass(frozen=True)
class Comparison:
    """What a folder has shown, beside what is painted.

    Attributes:
        asked: with an objective for each subject that is painted.
        about: for the manifest.
    """

    folder: Folder
    asked: Asked
    found: Strongest
    about: Against

    @classmethod
    def of(cls, folder: Folder, asked: Asked, found: Strongest) -> Comparison:
        """Raises UsageError where no image could be shown to the network."""
        if not found.images:
            what = f"no image in '{escape_text(folder.name, 60)}' could be shown to the network"
            raise UsageError(what, where="--against", fix="Name a folder of images that the network can be shown.")
        compared = len(found.scores[0]) if found.scores else found.images
        about = Against(
            name=escape_text(folder.name),
            images=found.images,
            unread=len(found.unread),
            compared=compared if compared < found.images else None,
            sha256=folder.sha256,
        )
        return cls(folder, asked, found, about)

    def fields(self, of: Objective, score: float) -> dict[str, Any]:
        """Where a score stands, as fields of a `DreamRecord`; nothing of one that is not finite."""
        if not isfinite(score):
            return {}
        about = self.about.model_copy(update={"best": self.best(of)})
        return {"percentile": self.percentile(of, score), "against": about}

    def percentile(self, of: Objective, score: float) -> float:
        """The share of images that a score exceeds, from 0 to 100."""
        return round_number(percentile_among(score, np.array(self.found.scores[self.asked.objectives.index(of)])))

    def best(self, of: Objective) -> float:
        """What the objective comes to in the image that answers it most; with the weakest patches, least."""
        low, high = self.found.bounds[self.asked.objectives.index(of)]
        return high if self.asked.sign > 0 else low

    def examples(self, layer: str, channel: int) -> tuple[Example, ...]:
        """The strongest patches of a channel."""
        return self.found.examples[self.asked.channels.index((layer, channel))]

    def value_of(self, example: Example) -> float:
        """The channel's value there."""
        return self.asked.sign * example.value + 0.0


def asked_of(subjects: Iterable[tuple[Subject, Objective]], *, weakest: bool) -> Asked:
    """What a folder is asked about subjects that are painted, each with its objective.

    Raises:
        UsageError: one of them is another class in each image.
    """
    channels, objectives = [], []
    for subject, of in subjects:
        parts = [term.of for term in subject.terms] if subject.terms else [subject]
        if any(part.layer is None and part.class_index is None for part in parts):
            what = f"{subject.title} is another class in each image, which a folder cannot be compared with"
            raise UsageError(what, where="--target", fix="Name the class, or leave --against out.")
        objectives.append(of)
        if subject.layer is not None and subject.channel is not None:
            channels.append((subject.layer, subject.channel))
    return Asked(tuple(dict.fromkeys(channels)), tuple(dict.fromkeys(objectives)), -1 if weakest else 1)


def compare(
    session: Session,
    folder: Folder,
    asked: Asked,
    reporter: Reporter,
    sink: Sink | None = None,
    *,
    again: bool = False,
) -> Comparison:
    """What a folder answers; from what an earlier run has kept in the output folder, if it was asked the same and is
    not to be asked `again`.

    Raises:
        UsageError: no image could be shown to the network.
        MemoryShortError: one of them is too large for it.
    """
    kept = None if sink is None else KeptFold(sink, StrongestPatches, _about(session, folder, asked))
    fold = kept.read() if kept and not again else None
    if fold is None:
        fold = StrongestPatches()
        count = len(folder.sources)
        reporter.say(f"{count} image{'s' * (count != 1)} of {escape_text(folder.name, 60)}: shown to the network")
        reporter.work([], count, f"images of {folder.name}")
        FolderPass(session, asked).add_all(folder, fold, reporter)
        if kept:
            kept.write(fold)
    return Comparison.of(folder, asked, fold.finish())


def _about(session: Session, folder: Folder, asked: Asked) -> Mapping[str, Any]:
    """All that the answer depends on."""
    settings, tool, model = session.settings, tool_record(), session.model
    return {
        "model": [model.name, model.weights_sha256, model.preprocessing.as_json()],
        "settings": {
            name: settings.as_json().get(name)
            for name in ("precision", "fold", "score", "objective", "head", "returns", "task", "value_range")
        },
        "limits": [settings.max_pixels, settings.max_bytes, settings.fast_decode],
        "seed": None if model.facts.randomness == "none" else settings.seed,
        "asked": asked.as_json(),
        "folder": folder.sha256,
        "versions": [tool.cnnviz, tool.torch, tool.torchvision, tool.pillow],
    }
