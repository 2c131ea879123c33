"""What a run came to, or would come to, on standard output: as lines or as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from cnnviz_cli.cli.json_output import print_json
from cnnviz_cli.cli.text_layout import align_columns, count_noun
from cnnviz_cli.core.text import escape_text, format_percent

if TYPE_CHECKING:
    from cnnviz_cli.core.accuracy import Mistake
    from cnnviz_cli.core.evaluation import CellValue
    from cnnviz_cli.core.evaluation_records import Evaluation
    from cnnviz_cli.core.findings import Findings, Seen
    from cnnviz_cli.core.records import Accuracy, ImageRecord, Output, Summary
    from cnnviz_cli.run import DryRun, Outcome
    from cnnviz_cli.run.dream_run import DreamPlan
    from cnnviz_cli.run.joined_runs import Joined
    from cnnviz_cli.run.study import StudyPlan

MAX_LINES = 20
MAX_COLUMNS = 4
"""Of a leaderboard, on a terminal."""


def print_outcome(
    outcome: Outcome, output: Path, *, as_json: bool, more: Mapping[str, Any] = MappingProxyType({})
) -> None:
    """Which figures there are, and where the manifest is; `more` is for JSON alone."""
    summary = outcome.summary
    if as_json:
        mistakes = {"mistakes": [one._asdict() for one in outcome.mistakes]} if summary.accuracy else {}
        answer = _answer_of(outcome, output)
        if outcome.evaluation:
            found = outcome.evaluation.model_dump(mode="json", exclude={"mosaics"})
            answer |= {"evaluation": found, "files": [str(output / path) for path in outcome.about_all]}
        if outcome.findings:
            found = outcome.findings.model_dump(mode="json")
            answer |= {"findings": found, "files": [str(output / path) for path in outcome.about_all]}
        print_json({**answer, **mistakes, **more})
        return
    first = outcome.first[:MAX_LINES]
    lines = align_columns([row for record in first for row in _rows(record, output)]) if first else []
    lines += more_line(summary.images - len(first))
    if summary.accuracy:
        lines += [*_mistake_lines(summary.accuracy, outcome.mistakes), *accuracy_lines(summary.accuracy)]
    if outcome.evaluation:
        lines += ["", *evaluation_lines(outcome.evaluation), *(str(output / path) for path in outcome.about_all)]
    if outcome.findings:
        # The last are tables; of a thousand pages the names are in the manifest.
        pages, rest = outcome.about_all[:MAX_LINES], outcome.about_all[MAX_LINES:]
        lines += ["", *outcome.findings.lines, *(str(output / path) for path in pages)]
        lines += [*more_line(len(rest) - 1), *(str(output / path) for path in rest[-1:])]
    before = f" ({outcome.done_before} already done)" if outcome.done_before else ""
    of_units = any(record.subject is not None for record in outcome.first[:1])
    unseen = outcome.findings.unseen if outcome.findings else None
    counted = totals(summary, before, "unit" if of_units else "image", unseen)
    lines += [f"{counted}, {outcome.seconds:.1f} s", str(outcome.manifest)]
    print("\n".join(map(escape_text, lines)))


def _answer_of(outcome: Outcome, output: Path) -> dict[str, Any]:
    return {
        "status": outcome.status,
        "output": str(output),
        "manifest": str(outcome.manifest),
        "resumed": outcome.done_before,
        "seconds": round(outcome.seconds, 3),
        "summary": outcome.summary.model_dump(),
    }


def print_joined(
    joined: Joined | None, outcomes: Mapping[str, Outcome], output: Path, page: Path | None, *, as_json: bool
) -> None:
    """What came of several runs that were judged; `joined` is None where they were not put together, and `page` where
    there is no report."""
    files = [str(output / path) for path in joined.paths] if joined else []
    if as_json:
        answer: dict[str, Any] = {"output": str(output)}
        answer["runs"] = {name: _answer_of(one, one.manifest.parent) for name, one in outcomes.items()}
        if joined:
            answer |= {"evaluation": joined.evaluation.model_dump(mode="json"), "files": files}
            answer["left_out_images"] = joined.left_out
        if page:
            answer["report"] = str(page)
        print_json(answer)
        return
    lines = []
    for name, one in outcomes.items():
        before = f" ({one.done_before} already done)" if one.done_before else ""
        lines.append(f"{name}: {totals(one.summary, before)}, {one.seconds:.1f} s: {one.manifest}")
    if joined:
        lines += ["", *evaluation_lines(joined.evaluation), *files]
    lines += [str(page)] if page else []
    print("\n".join(map(escape_text, lines)))


def evaluation_lines(evaluation: Evaluation) -> list[str]:
    """The methods with their numbers, the best first, and the controls below; a mean with its standard error."""
    from cnnviz_cli.core.evaluation_board import leaderboard_of

    board = leaderboard_of(evaluation, ())
    columns = board.columns[:MAX_COLUMNS]
    if not columns:
        return ["nothing could be judged", *board.foot]
    rows = [["", *(one.title for one in columns)]]
    for row in (*board.rows[:MAX_LINES], *board.control_rows):
        control = "control: " * (row.passes is None)
        rows.append([f"{control}{row.full_title}", *(_cell(row.cells.get(one.name)) for one in columns)])
    lines = [line.rstrip() for line in align_columns(rows)]
    first = 1 + min(len(board.rows), MAX_LINES)
    lines[first:first] = more_line(len(board.rows) - MAX_LINES)
    hidden = [one.title for one in board.columns[MAX_COLUMNS:]]
    more = [f"in the figure besides: {', '.join(hidden)}"] if hidden else []
    return [*lines, *more, *board.foot]


def _cell(cell: CellValue | None) -> str:
    if cell is None:
        return "-"
    error = "" if cell.error is None else f" ± {cell.error:.2f}"
    return f"{round(cell.mean, 2) + 0.0:.2f}{error}"


def totals(summary: Summary, before: str = "", of: str = "image", unseen: Seen | None = None) -> str:
    """``5 images, 1 failed, 8 figures``; `before` follows the images, or what else records are `of`. Where no record is
    about an image, `unseen` are those that failed."""
    if unseen is not None and not summary.failed:
        before = f"{before}, {count_noun(unseen.unseen, 'image')} failed"
    failed = f", {summary.failed} failed" if summary.failed else ""
    return f"{count_noun(summary.images, of)}{before}{failed}, {count_noun(summary.outputs, 'figure')}"


def unseen_lines(findings: Findings | None, summary: Summary) -> list[str]:
    """The images that could not be shown to the network, where no record is about an image; as records that failed."""
    unseen = findings.unseen if findings else None
    if unseen is None or summary.failed:
        return []
    named = unseen.examples or []
    return [
        *(f"{one.source} failed: {one.why}" for one in named),
        *more_line(unseen.unseen - len(named)),
    ]


def accuracy_lines(accuracy: Accuracy) -> list[str]:
    """How often the network is right, and which classes it takes for others, a line each."""
    known = accuracy.known
    counts = {"top-1": accuracy.top1, "top-5": accuracy.top5, "true class at 50 % or more": accuracy.present}
    shares = [f"{name} {n} ({format_percent(n / known)})" for name, n in counts.items() if n is not None]
    lines = [f"correct, of {count_noun(known, 'image')} with ground truth: {', '.join(shares)}"]
    pairs = [f"{one.truth} taken for {one.predicted} ({one.count})" for one in accuracy.confusions]
    return lines + ([f"confused: {', '.join(pairs)}"] if pairs else [])


def _mistake_lines(accuracy: Accuracy, mistakes: Sequence[Mistake]) -> list[str]:
    right = accuracy.top1 if accuracy.present is None else accuracy.present
    wrong = accuracy.known - (right or 0)
    if not wrong:
        return []
    rows = [
        [f"  {m.source}", f"{m.truth} {m.probability_of_truth:.2f}", f"predicted {m.predicted} {m.probability:.2f}"]
        for m in mistakes[:MAX_LINES]
    ]
    more = [f"  … and {wrong - MAX_LINES} more; see --json"] if wrong > MAX_LINES else []
    return [f"{count_noun(wrong, 'mistake')}:", *align_columns(rows), *more]


def print_dry_runs(plans: Mapping[str, DryRun], output: Path, *, as_json: bool) -> None:
    """The same of several runs, by name, each with a folder of its own."""
    if as_json:
        print_json({"runs": {name: _plan_answer(found, output / name) for name, found in plans.items()}})
        return
    for name, found in plans.items():
        print(f"{escape_text(name)}:")
        print_dry_run(found, output / name, as_json=False)


def _plan_answer(found: DryRun, output: Path) -> dict[str, Any]:
    answer = {"inputs": found.inputs, "plan": found.plan_lines, "cost": found.cost.model_dump()}
    return answer | {"output": str(output), "outputs": found.outputs}


def print_dry_run(found: DryRun, output: Path, *, as_json: bool) -> None:
    """What a run would read, compute and write."""
    cost = found.cost
    if as_json:
        print_json(_plan_answer(found, output))
        return
    up_to = "up to " * cost.at_most
    variants = f", {up_to}{count_noun(cost.variants, 'variant')} per image" if cost.variants else ""
    # Variants may have backwards of their own, of which the lines below tell.
    backwards = f", {count_noun(cost.backwards, 'backward')}" if cost.backwards or not cost.variants else ""
    passes = f"{count_noun(cost.forwards, 'forward')}{backwards}{variants}"
    lines = [
        count_noun(len(found.inputs), "image"),
        *(f"  {name}" for name in found.inputs[:MAX_LINES]),
        *more_line(len(found.inputs) - MAX_LINES, "  "),
        f"passes per batch: {passes}",
        *(f"  {line}" for line in found.plan_lines),
        f"figures of the first image, in {output}",
        *(f"  {name}" for name in found.outputs),
        "nothing was written",
    ]
    print("\n".join(map(escape_text, lines)))


def print_dreams(
    outcome: Outcome, output: Path, *, as_json: bool, more: Mapping[str, Any] = MappingProxyType({})
) -> None:
    """How the network receives what was painted, and where the manifest is; `more` is for JSON alone."""
    if as_json:
        dreams = [
            {"source": record.source, "path": str(output / one.path), "state": one.state, **one.dream.model_dump()}
            for record in outcome.first
            for one in record.outputs
            if one.dream
        ]
        print_outcome(outcome, output, as_json=True, more={**more, "dreams": dreams})
        return
    rows = [row for record in outcome.first for row in _dream_rows(record, output)]
    lines = align_columns(rows[:MAX_LINES]) if rows else []
    lines += more_line(len(rows) - MAX_LINES)
    summary = outcome.summary
    before = f" ({outcome.done_before} already done)" if outcome.done_before else ""
    failed = f", {summary.failed} failed" if summary.failed else ""
    done = f"{count_noun(summary.images, 'record')}{before}{failed}, {count_noun(summary.outputs, 'figure')}"
    lines += [f"{done}, {outcome.seconds:.1f} s", str(outcome.manifest)]
    print("\n".join(map(escape_text, lines)))


def _dream_rows(record: ImageRecord, output: Path) -> list[list[str]]:
    if record.status == "failed":
        return [[record.source, "failed", record.error or ""]]
    return [[record.source, _reception(one), str(output / one.path)] for one in record.outputs if one.dream]


def _reception(output: Output) -> str:
    told = output.dream
    assert told is not None
    now, before = ("not finite" if one is None else f"{one:.3g}" for one in (told.score, told.start_score))
    parts = [f"score {now}, before {before}"]
    if output.target and told.rank:
        parts.insert(0, f"{output.target.label} {output.target.figure}, rank {told.rank}")
    parts += [*(one.brief(told.judged) for one in told.judged), *filter(None, [told.among])]
    return "; ".join([*parts, *([output.state] if output.state != "ok" else [])])


def print_dream_plan(found: DreamPlan, output: Path, *, as_json: bool) -> None:
    """What a run would paint, compute and write."""
    if as_json:
        answer = {"inputs": found.subjects, "plan": found.plan_lines, "steps": found.steps}
        print_json(answer | {"output": str(output), "outputs": found.outputs})
        return
    lines = [
        count_noun(len(found.subjects), "record"),
        *(f"  {name}" for name in found.subjects[:MAX_LINES]),
        *more_line(len(found.subjects) - MAX_LINES, "  "),
        *(f"  {line}" for line in found.plan_lines[:MAX_LINES]),
        f"figures of the first, in {output}",
        *(f"  {name}" for name in found.outputs),
        "nothing was written",
    ]
    print("\n".join(map(escape_text, lines)))


def print_study_plan(found: StudyPlan, output: Path, *, as_json: bool) -> None:
    """What a study would look at, compute and write."""
    if as_json:
        answer = {"study": found.study, "images": found.images, "units": found.subjects, "plan": found.plan_lines}
        print_json(answer | {"output": str(output)})
        return
    lines = [
        count_noun(found.images, "image"),
        *([count_noun(len(found.subjects), "unit")] if found.subjects else []),
        *(f"  {name}" for name in found.subjects[:MAX_LINES]),
        *more_line(len(found.subjects) - MAX_LINES, "  "),
        *(f"  {line}" for line in found.plan_lines),
        f"figures in {output}",
        "nothing was written",
    ]
    print("\n".join(map(escape_text, lines)))


def more_line(number: int, margin: str = "") -> list[str]:
    """A line for `number` lines that are left out; none if there are none."""
    return [f"{margin}… and {number} more"] if number > 0 else []


def _rows(record: ImageRecord, output: Path) -> list[list[str]]:
    """A line for what came of each figure, where that can be said; of others one for all."""
    told = [[record.source, one.verdict, str(output / one.path)] for one in record.outputs if one.verdict]
    return told or [_row(record, output)]


def _row(record: ImageRecord, output: Path) -> list[str]:
    if record.status == "failed":
        return [record.source, "failed", record.error or ""]
    label = record.predictions[0].brief if record.predictions else ""
    if not record.outputs:
        return [record.source, label, ""]
    others = f" + {len(record.outputs) - 1} more" if len(record.outputs) > 1 else ""
    return [record.source, label, f"{output / record.outputs[0].path}{others}"]
