"""Plain text on standard output: aligned columns, and the closing words of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.cells import cell_len

from cnnviz_cli.cli.json_output import print_json
from cnnviz_cli.core.text import format_percent, visible

if TYPE_CHECKING:
    from cnnviz_cli.core.accuracy import Mistake
    from cnnviz_cli.core.records import Accuracy, ImageRecord
    from cnnviz_cli.run import DryRun, Outcome


def align_columns(rows: Sequence[Sequence[str]], *, right: frozenset[int] = frozenset()) -> list[str]:
    """The rows as lines, every column as wide as its widest cell; text that could move the cursor is escaped.

    Args:
        right: columns that are set flush right.
    """
    safe = [[visible(cell) for cell in row] for row in rows]
    widths = [max(cell_len(cell) for cell in column) for column in zip(*safe, strict=True)]
    return ["  ".join(_pad(c, widths[i], i in right) for i, c in enumerate(row)).rstrip() for row in safe]


def _pad(cell: str, width: int, right: bool) -> str:
    gap = " " * (width - cell_len(cell))
    return gap + cell if right else cell + gap


MAX_LINES = 20


def print_outcome(outcome: Outcome, output: Path, *, as_json: bool) -> None:
    """Which pictures there are, and where the manifest is."""
    if as_json:
        print_json(
            {
                "status": outcome.status,
                "output": str(output),
                "manifest": str(outcome.manifest),
                "resumed": outcome.done_before,
                "seconds": round(outcome.seconds, 3),
                "summary": outcome.summary.model_dump(),
                **({"mistakes": [one._asdict() for one in outcome.mistakes]} if outcome.summary.accuracy else {}),
            }
        )
        return
    shown = outcome.first[:MAX_LINES]
    for line in align_columns([_row(record, output) for record in shown]) if shown else []:
        print(line)
    summary = outcome.summary
    if summary.images > len(shown):
        print(f"… and {summary.images - len(shown)} more")
    if summary.accuracy:
        lines = [*_mistake_lines(summary.accuracy, outcome.mistakes), *accuracy_lines(summary.accuracy)]
        print("\n".join(map(visible, lines)))
    failed = f", {summary.failed} failed" if summary.failed else ""
    images = count_noun(summary.images, "image") + (
        f" ({outcome.done_before} done before)" if outcome.done_before else ""
    )
    print(f"{images}{failed}, {count_noun(summary.outputs, 'picture')}, {outcome.seconds:.1f} s")
    print(visible(str(outcome.manifest)))


def accuracy_lines(accuracy: Accuracy) -> list[str]:
    """How often the network is right, and which classes it takes for others, a line each."""
    known = accuracy.known
    rights = [
        ("top-1", accuracy.top1),
        ("top-5", accuracy.top5),
        ("true class at 50 % or more", accuracy.present),
    ]
    said = ", ".join(f"{name} {count} ({format_percent(count / known)})" for name, count in rights if count is not None)
    lines = [f"right, of {count_noun(known, 'image')} with a known truth: {said}"]
    pairs = [f"{one.truth} taken for {one.predicted} ({one.count})" for one in accuracy.confusions]
    return lines + ([f"confused: {', '.join(pairs)}"] if pairs else [])


def _mistake_lines(accuracy: Accuracy, mistakes: Sequence[Mistake]) -> list[str]:
    """The images of which the network says something else than is true, as far as there is room."""
    right = accuracy.top1 if accuracy.present is None else accuracy.present
    wrong = accuracy.known - (right or 0)
    if not wrong:
        return []
    rows = [
        [
            f"  {one.source}",
            f"{one.truth} {one.probability_of_truth:.2f}",
            f"said {one.predicted} {one.probability:.2f}",
        ]
        for one in mistakes[:MAX_LINES]
    ]
    more = [f"  … and {wrong - MAX_LINES} more; see --json"] if wrong > MAX_LINES else []
    return [f"{count_noun(wrong, 'mistake')}:", *align_columns(rows), *more]


def print_dry_run(found: DryRun, output: Path, *, as_json: bool) -> None:
    """What a run would read, compute and write."""
    if as_json:
        print_json(
            {
                "inputs": found.inputs,
                "plan": found.plan_lines,
                "cost": found.cost.model_dump(),
                "output": str(output),
                "outputs": found.outputs,
            }
        )
        return
    print(count_noun(len(found.inputs), "input"))
    for name in found.inputs[:MAX_LINES]:
        print(f"  {visible(name)}")
    if len(found.inputs) > MAX_LINES:
        print(f"  … and {len(found.inputs) - MAX_LINES} more")
    cost = found.cost
    variants = f", {count_noun(cost.variants, 'variant')} an image" if cost.variants else ""
    print(
        f"plan for a batch: {count_noun(cost.forwards, 'forward')}, {count_noun(cost.backwards, 'backward')}{variants}"
    )
    for line in found.plan_lines:
        print(f"  {visible(line)}")
    print(f"pictures of the first image, below {visible(str(output))}")
    for name in found.outputs:
        print(f"  {visible(name)}")
    print("nothing was written")


def count_noun(number: int, noun: str) -> str:
    """``1 image``, ``5 images``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _row(record: ImageRecord, output: Path) -> list[str]:
    """Source, likeliest class, and the picture to look at first."""
    if record.status == "failed":
        return [record.source, "failed", record.error or ""]
    best = record.predictions[0] if record.predictions else None
    label = best.brief if best else ""
    if not record.outputs:
        return [record.source, label, ""]
    others = f" + {len(record.outputs) - 1} more" if len(record.outputs) > 1 else ""
    return [record.source, label, f"{output / record.outputs[0].path}{others}"]
