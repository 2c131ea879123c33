"""Write docs/models.md: of every network its default layer, and which methods apply (`make models-page`, minutes)."""

from __future__ import annotations

import gc
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import zoo

import cnnviz_cli.methods  # noqa: F401  (registers them)
from cnnviz_cli.core.method import Frame, methods
from cnnviz_cli.models.catalog import model_names
from cnnviz_cli.run.survey import prices_of

PAGE = Path(__file__).parents[1] / "docs" / "models.md"

HEAD = ["model", "input", "default layer", "C x h x w", "every", "sees", "methods", "does not apply"]

_BEFORE = """# Networks, their default layers, and the methods that apply

Made by `make models-page`, from the networks themselves. **Default layer** is what `last-conv` means, the word that
class activation maps start from: found by one forward, from shapes and from the order in which modules run.
**C x h x w** are its maps at the input that the default weights were trained with (**input**, in pixels). **every**
is its stride and **sees** its receptive field, in pixels of the input; *all* is the whole input, which a position sees
behind attention, a global pool or a squeeze-and-excite gate. `cnnviz layers MODEL` prints the same of every layer.

**methods** counts those that apply with their default options, of {count} in all; the letters behind the others are
the reasons [below](#why-a-method-does-not-apply). Each was tried with random weights on a small input, as a run does
before its first photograph. `cnnviz methods --model MODEL` says the same with the cost of each.
"""


def static(name: str) -> list[str]:
    """Model, input, default layer, and its maps, stride and receptive field, without weights."""
    side, layers = zoo.outline(name)
    (last,) = layers.resolve(["last-conv"])
    info = layers[last]
    every, sees = (str(round(info.field.stride[0])), str(round(info.field.size[0]))) if info.field else ("", "all")
    return [f"`{name}`", str(side), f"`{last}`", " x ".join(map(str, info.shape)), every, sees]


def refusals(name: str) -> dict[str, str]:
    """By method that does not apply, the reason."""
    found = zoo.small(name)
    frame = Frame((found.side, found.side), (-2.0,) * 3, (2.0,) * 3)
    prices = prices_of(found.net, found.layers, frame, list(methods()))
    return {name: price.refusal for name, price in prices.items() if price.cost is None}


def page(rows: Mapping[str, tuple[Sequence[str], Mapping[str, str]]]) -> str:
    """The page of networks with their static facts and refusals."""
    count = len(list(methods()))
    reasons = list(dict.fromkeys(reason for _, refused in rows.values() for reason in refused.values()))
    letters = {reason: chr(ord("a") + position) for position, reason in enumerate(reasons)}
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    for facts, refused in rows.values():
        left_out = ", ".join(f"{method} ({letters[reason]})" for method, reason in sorted(refused.items()))
        lines.append("| " + " | ".join([*facts, f"{count - len(refused)}", left_out]) + " |")
    notes = [f"- **{letter}**: {reason}" for reason, letter in letters.items()]
    parts = [_BEFORE.format(count=count), *lines, "\n## Why a method does not apply\n", *notes]
    return "\n".join(parts) + "\n"


def main() -> None:
    """Write it, saying on standard error how far it is."""
    rows = {}
    for name in model_names("classification"):
        rows[name] = (static(name), refusals(name))
        print(f"{name}: without {', '.join(rows[name][1]) or 'none'}", file=sys.stderr)
        gc.collect()
    PAGE.write_text(page(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
