"""What layer selectors mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.layers import LayerInfo, split_run
from cnnviz_cli.core.text import did_you_mean, escape_text
from cnnviz_cli.models.inspect.outputs import NetworkOutput

MAX_RUNS = 8  # a layer that runs more often is shown by its last run alone
LAYER_WORDS = ("last-conv", "conv", "stages", "low-mid-high", "low", "mid", "high")


@dataclass(frozen=True, slots=True)
class DefaultLayer:
    """The layer that methods read if none is named, and why it is that one, as a sentence goes on."""

    layer: str
    why: str


@dataclass(frozen=True, slots=True)
class ModelLayers:
    """A network's layers that have maps; implements `core.layers.Layers`.

    Attributes:
        infos: in the order in which they finish.
        kinds: the class name of every module, layer or not, in the order of the network's tree.
        not_layers: why each of the other modules is not a layer.
        candidates: names of the layers that words mean some of, all but ``conv``; see `default_layers`.
        why: what makes the last of them the default layer, as a sentence goes on.
        runs: by layer that runs several times each run's maps; None where they cannot be read or placed in the input.
        rotations: of a layer that runs once by what operations its input is turned or bent against the image.
        whole: why no layer can be read, of a network that runs as a whole; empty where layers can.
    """

    model: str
    infos: tuple[LayerInfo, ...]
    convolutions: frozenset[str]
    kinds: Mapping[str, str]
    not_layers: Mapping[str, str]
    max_pooled: bool
    returned: NetworkOutput
    candidates: frozenset[str]
    why: str
    whole: str = ""
    runs: Mapping[str, tuple[LayerInfo | None, ...]] = field(default_factory=dict)
    rotations: Mapping[str, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[LayerInfo]:
        return iter(self.infos)

    def __getitem__(self, name: str) -> LayerInfo:
        path, run = split_run(name)
        for info in self.infos:
            if info.name == path:
                return info if run is None else self._run(info, run)
        raise KeyError(name)

    def _run(self, info: LayerInfo, run: int) -> LayerInfo:
        runs = self.runs.get(info.name, (info,))
        if not 1 <= run <= len(runs):
            raise KeyError(f"{info.name}@{run}")
        return runs[run - 1] or replace(info, name=f"{info.name}@{run}")

    def runs_are_distinct(self, layer: str) -> bool:
        """Whether each run of a layer that runs several times has a map of its own where the layer is named."""
        runs = self.runs.get(layer, ())
        return len(runs) <= MAX_RUNS and None not in runs

    def _run_names(self, layer: str) -> tuple[str, ...]:
        count = len(self.runs.get(layer, ()))
        return tuple(f"{layer}@{run}" for run in range(1, count + 1)) or (layer,)

    def _select_runs(self, name: str, word: str) -> tuple[str, ...]:
        """A path means all runs of a layer; a word the last, which ends a resolution, and those over other parts.

        Where runs cannot be told apart it is the last either way.
        """
        path, run = split_run(name)
        names = self._run_names(path)
        if len(names) == 1 or run is not None:
            return names if len(names) == 1 else (name,)
        if not self.runs_are_distinct(path):
            return names[-1:]
        if word not in LAYER_WORDS:
            return names
        shapes = [self[one] for one in names]
        last = shapes[-1]
        parts = [one.window for one in shapes if one.shape == last.shape]
        apart = last.window is not None and len(set(parts)) == len(parts)
        return tuple(
            one for one, info in zip(names, shapes, strict=True) if info is last or (apart and info.shape == last.shape)
        )

    def notes(self, layers: Sequence[str]) -> tuple[list[str], list[str]]:
        """What the user should know of layers that run several times, or on a turned image: lines, and warnings."""
        lines = []
        warnings = [
            f"{self.model} turns or bends the image before layer '{layer}' ({self.rotations[layer]}): the layer's maps "
            "lie over the image as if it had not"
            for layer in layers
            if layer in self.rotations
        ]
        for path in dict.fromkeys(split_run(layer)[0] for layer in layers if split_run(layer)[1] is not None):
            named = [layer for layer in layers if split_run(layer)[0] == path]
            count = len(self.runs.get(path, (None,)))
            what = f"layer '{path}' of {self.model} runs {count} times for each image"
            if self.runs_are_distinct(path) and len(named) == 1 < count:
                which = "the last" if named == [f"{path}@{count}"] else "one of them"
                lines.append(f"{what}: shown is {which}, {named[0]} (--layer {path} shows each)")
            elif self.runs_are_distinct(path):
                lines.append(f"{what}: {', '.join(named)}, each with a map of its own")
            else:
                chosen = "is the last" if named == [f"{path}@{count}"] else "are the chosen"
                warnings.append(
                    f"{what}, and it is not known over what part of the input the maps of each run lie: shown "
                    f"{chosen}, {', '.join(named)}, as if over all of it (--layer {path}@N shows another run)"
                )
        return lines, warnings

    def resolve(self, selectors: Sequence[str]) -> tuple[str, ...]:
        """Names of the layers that the selectors mean, low to high, each once.

        A selector is a module path, one run of it (``PATH@N``) where it runs several times, a glob over paths, a word,
        or several of them separated by commas. A word means the following even if a module bears its name. Of a layer
        that runs several times a path means each run where they can be told apart, else the last; a word means the
        last, and with it runs over other parts of the input. Layers of 1x1 maps are meant only if there are no others.

        - ``last-conv``: the default layer, the deepest layer with maps on whose positions the scores depend; of a
          network that returns maps or boxes, the last in its trunk. The words below are about it and what comes before.
        - ``conv``: every convolution; of a network that returns boxes, of its trunk.
        - ``stages``: for each resolution its last layer. What only pools or rearranges does not count, nor does the
          beginning of a block that goes on to reduce the resolution, if there is a layer outside of it.
        - ``low-mid-high``: the first, the middle and the last of ``stages``.
        - ``low``: the first of these.
        - ``mid``: the middle one.
        - ``high``: the last.

        Raises UsageError if a selector matches nothing, or only maps of one position in a network with larger ones.
        """
        names: set[str] = set()
        for word in filter(None, (word.strip() for selector in selectors for word in selector.split(","))):
            found = self._match(word)
            if not found:
                raise self._no_match_error(word)
            names.update(name for info in found for name in self._select_runs(info.name, word))
        if not names:
            raise UsageError("no layer is named", where="--layer", fix=self._list_hint())
        return tuple(name for info in self.infos for name in self._run_names(info.name) if name in names)

    @property
    def default(self) -> DefaultLayer | None:
        """The layer that ``last-conv`` means, and why; None if no layer has maps."""
        found = self._match("last-conv")
        return DefaultLayer(self._select_runs(found[0].name, "last-conv")[-1], self.why) if found else None

    def words_by_layer(self) -> Mapping[str, tuple[str, ...]]:
        """By layer the words that mean it among few: the resolutions' ends, where defaults look."""
        marks: dict[str, tuple[str, ...]] = {}
        for word in ("last-conv", "stages", "low", "mid", "high"):
            for info in self._match(word):
                marks[info.name] = (*marks.get(info.name, ()), word)
        return marks

    def _selectable(self) -> list[LayerInfo]:
        return [info for info in self.infos if info.spatial] or list(self.infos)

    def _match(self, word: str) -> list[LayerInfo]:
        offered = self._selectable()
        if word not in LAYER_WORDS:
            return self._match_path(offered, word)
        if word == "conv":
            return [info for info in offered if info.name in self.convolutions]
        offered = [info for info in offered if info.name in self.candidates]
        if word == "last-conv":
            return offered[-1:]
        stages = self._stages(offered)
        if word == "stages" or not stages:
            return stages
        ends = {"low": stages[0], "mid": stages[len(stages) // 2], "high": stages[-1]}
        return list(ends.values()) if word == "low-mid-high" else [ends[word]]

    def _match_path(self, offered: Sequence[LayerInfo], word: str) -> list[LayerInfo]:
        path, run = split_run(word)
        if run is None:
            return [info for info in offered if info.name == word or fnmatchcase(info.name, word)]
        there = path in {info.name for info in offered} and 1 <= run <= len(self.runs.get(path, (None,)))
        return [replace(self[word], name=word)] if there else []

    def _stages(self, spatial: list[LayerInfo]) -> list[LayerInfo]:
        sizes = {info.name: info.shape[1:] for info in self.infos}
        best: dict[tuple[int, ...], tuple[int, LayerInfo]] = {}
        for info in spatial:
            size = info.shape[1:]
            # Around a layer that ends its stage, nothing goes on to another resolution.
            depth = sum(sizes.get(name, size) != size for name in _ancestors(info.name))
            if size not in best or depth <= best[size][0]:
                best[size] = (depth, info)
        return sorted((info for _, info in best.values()), key=lambda info: info.order)

    def _no_match_error(self, word: str) -> UsageError:
        if self.whole:
            fix = "Use a method that reads the input alone (see: cnnviz methods), or the network as Python code."
            return UsageError(self.whole, where="--layer", fix=fix)
        if word in LAYER_WORDS:
            return self._no_maps_error(word)
        shown = escape_text(word, 80)
        known = [*LAYER_WORDS, *(info.name for info in self._selectable())]
        hint = did_you_mean(word, known)
        flat = [info for info in self.infos if info.name == word or fnmatchcase(info.name, word)]
        if flat:
            what = f"'{shown}' of {self.model} has maps of a single position (1x1): there is nothing to see in them"
            larger = [info.name for info in self._selectable() if info.order < flat[0].order]
            hint = f"The last larger maps before it are those of '{larger[-1]}'." if larger else hint
        elif word in self.not_layers:
            what = f"'{shown}' of {self.model} has no maps: {self.not_layers[word]}"
        else:
            what = f"{self.model} has no layer '{shown}'"
        fix = "\n".join(filter(None, (hint, self._list_hint())))
        return UsageError(what, where="--layer", fix=fix)

    def _no_maps_error(self, word: str) -> UsageError:
        if self.infos:
            what = f"{self.model} has no convolution with maps" if word == "conv" else f"{self.model} has no '{word}'"
            return UsageError(what, where="--layer", fix=f"Try --layer last-conv. {self._list_hint()}")
        what = f"no module of {self.model} has maps, so there is no layer to read"
        for name, reason in list(self.not_layers.items())[:1]:
            what += f"; of '{escape_text(name, 60)}': {reason}"
        return UsageError(what, where="--layer", fix="Use a method that reads the input alone, see: cnnviz methods")

    def _list_hint(self) -> str:
        return f"'cnnviz layers {self.model}' lists them all."


def _ancestors(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]
