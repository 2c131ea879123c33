"""Write docs/parity.md: ``make parity``. With names of methods: measure these alone, and print.

A row without a reason has to lie within the tolerance, and a row with one outside of it: whatever else is found ends
the program before it writes a line.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from warnings import simplefilter

import torch
from parity_measure import ATOL, BUNDLED, RTOL, Difference, Row, measure
from parity_measures import section
from parity_rows_cams import CAMS
from parity_rows_pixels import PIXELS
from parity_wrong import Fault, faults

from cnnviz_cli.core.method import methods

PAGE = Path(__file__).parent.parent / "docs" / "parity.md"
ROWS = (*CAMS, *PIXELS)
WORKERS = 2
FAMILIES = ("gradcam", "saliency", "deconv")
PEERS = ("captum", "grad-cam", "saliency", "torchcam", "zennit")

NO_PEER = {
    "deconvnet": "none projects a feature map back, as in the paper; captum's Deconvolution and zennit's DeconvNet "
    "start from a class score, like `class` in cnnviz",
    "attention-rollout": "none of the five libraries has it; its authors' formula is written out in tests",
    "legrad": "none of the five libraries has it; its authors' formula is written out in tests",
    "transformer-attribution": "none of the five libraries has it; its authors' formula is written out in tests",
    "randomcam": "a baseline with random weights; grad-cam's RandomCAM draws from NumPy's global state",
    "rise": "none of the five libraries has it; tests/methods derives it again from its masks",
}
"""Methods that stand beside no other library, and why."""

HEAD = """\
# Parity

This page compares every method with every library that has it: on the five images of `sample_images` as the network
sees them, for the class with the highest score. `make parity` measures it; tests check that its rows exist and repeat
the fast ones.

Versions: {versions}. Measured on the CPU, with one thread for each row.

- **maximum**: max |ours - theirs| / max |theirs|, the worst of all images and layers.
- **ranks**: 1 - Spearman's rank correlation over positions, likewise the worst.
- **verdict**: *equal* means |ours - theirs| <= {rtol:g} |theirs| + {atol:g} max |theirs| at every position of every
  map, in float32. *Equal in float64* means outside this tolerance in float32 but within it in double precision, so the
  difference is rounding; the first number is for float32, the second for float64. Everything else *differs*, for the
  given reason. The tool that writes this page fails on a difference without a reason, and on a reason without a
  difference.

CAM maps are compared at the resolution of the layer, after ReLU and before any scaling to [0, 1]; other maps at the
resolution of the input. The network is the bundled `{bundled}` with its trained weights. Other networks are named and
have random weights (`random:0`). A row says so if fewer than five images were used. Each library is called as its
documentation shows, with the same settings as cnnviz; a row states every change that this needed.
"""

CONCEPTS = """\
## Concepts that are named

captum's `TCAV` is given the direction that cnnviz has found on flattened activations (`--pool none`), by a classifier
that fits nothing. The network is a planted one, whose derivatives are known (`tests/studies/test_tcav_peer.py`).

| number of `cnnviz concepts --concept` | beside | verdict |
|---|---|---|
| share | captum `TCAV`: `sign_count` | equal |
| mean | captum `TCAV`: `magnitude` | equal; it returns the mean, see below |
| magnitude | captum `TCAV`: `magnitude` | differs: cnnviz has what captum's documentation defines |
| direction | captum `TCAV`, its own classifiers | cannot be compared: its steps are random, each run has another |
| direction, accuracy | scikit-learn `Ridge`, `LogisticRegression`, without each image | within 1e-07 |
"""

INFLUENCE = """\
## Influence of `cnnviz influence`

| what | peer | how close |
|---|---|---|
| influence and self-influence, a last layer with a bias | captum `TracInCP(layers=[last])` | 1e-4 relative |
| the same, a last layer without a bias | captum `TracInCPFast` | 1e-4 relative |

One checkpoint, a learning rate of 1, in single precision. `TracInCPFast` leaves the gradient at the bias out, which
adds (p - y) . (p - y) to an influence. So it differs from captum's own `TracInCP`, and from cnnviz, wherever the last
layer has a bias. `tests/studies/test_tracin.py` compares both, and every influence with gradients by autograd in double
precision.
"""

ATTACKS = """\
## Attacks of `cnnviz attack`

Both attack the pixels of the same planted network in double precision, through its normalisation, with the same steps
and the same budget (`tests/engine/test_attack.py`). cnnviz looks for the smallest size that flips the label, which
captum does not; so the budget is one that flips nothing, and the whole walk is compared.

| method | beside | verdict |
|---|---|---|
| fgsm, away from a class and towards one | captum `robust.FGSM` | equal within 1e-09 |
| pgd under linf, from the image, away from a class and towards one | captum `robust.PGD` | equal within 1e-09 |
| pgd under l2 | captum `robust.PGD(norm="L2")` | differs: it steps by the gradient's sign, ours along it |
| pgd from random starts | captum `robust.PGD(random_start=True)` | cannot be compared: the draws differ |
"""

DREAMS = """## Dreams of `cnnviz dream`

No library stands beside them in a live test. lucid has the objectives (channels, neurons, directions, caricatures) and
the canvas of Fourier coefficients, but needs TensorFlow 1, which current versions of Python lack. Objectives, canvases
and steps are derived again in double precision (`tests/methods/test_dreams.py`).
"""

FAULTS = """\
## Where a library differs from its documentation or paper

Each script runs by itself, without cnnviz (`tools/faults`); its output follows. If one is out of date, please tell us.
"""


@dataclass(frozen=True)
class Result:
    """A row and what was measured: in float32, and in float64 where that was outside of the tolerance."""

    row: Row
    single: Difference
    double: Difference | None = None

    @property
    def verdict(self) -> str:
        """Equal, equal in float64, or differs and why.

        Raises:
            ValueError: a difference without a reason, or a reason without a difference.
        """
        equal = self.single.within or (self.double is not None and self.double.within)
        if equal == bool(self.row.because):
            found = "lies within the tolerance" if equal else f"differs: {self.single}, {self.double}"
            reason = self.row.because or "none"
            raise ValueError(f"{self.row.method} beside {self.row.peer} {found}; the reason given is: {reason}")
        if self.row.because:
            return f"differs: {self.row.because}"
        return "equal" if self.single.within else "equal in float64"


def evaluate(row: Row) -> Result:
    """Measure one row; in float64 too if float32 is outside of the tolerance and nothing explains it."""
    single = measure(row)
    return Result(row, single, None if single.within or row.because else measure(row, torch.float64))


def page(results: Iterable[Result], seen: Iterable[tuple[Fault, str]]) -> str:
    """The whole document.

    Args:
        seen: each fault and what its script printed.
    """
    by_method: dict[str, list[Result]] = {}
    for result in results:
        by_method.setdefault(result.row.method, []).append(result)
    versions = ", ".join(f"{name} {version(name).split('+')[0]}" for name in (*PEERS, "torch", "torchvision", "numpy"))
    head = HEAD.format(versions=versions, rtol=RTOL, atol=ATOL, bundled=BUNDLED)
    scripts = [_fault(fault, output) for fault, output in seen]
    return "\n".join([head, *_tables(by_method), section(), CONCEPTS, INFLUENCE, ATTACKS, DREAMS, FAULTS, *scripts])


def _tables(by_method: dict[str, list[Result]]) -> Iterator[str]:
    for family in FAMILIES:
        yield f"## {family}\n"
        lines = ["| method | beside | read at | maximum | ranks | verdict |", "|---|---|---|---|---|---|"]
        for method in sorted(each.name for each in methods(family)):
            lines += [_line(result) for result in by_method.get(method, [])] or [_alone(method)]
        yield "\n".join(lines) + "\n"


def beside(row: Row) -> str:
    """The second cell but for what was measured."""
    return f"{row.peer} `{row.call}`" + (f": {row.note}" if row.note else "")


def place(row: Row) -> str:
    """The third cell: where the maps were read."""
    where = ", ".join(f"`{layer}`" for layer in row.layers if layer) or "input"
    if row.net != BUNDLED:
        where += f" of `{row.net}`"
    return where if row.pictures == 5 else f"{where}, {row.pictures} image{'s' if row.pictures > 1 else ''}"


def _line(result: Result) -> str:
    row, single, double = result.row, result.single, result.double
    sign = f"; its sign is arbitrary, opposite in {single.opposite} of {single.maps} maps" if row.signless else ""
    both = [single, double] if double else [single]
    maximum = "; ".join(number(each.maximum) for each in both)
    ranks = "; ".join(number(each.rank) for each in both)
    return f"| {row.method} | {beside(row)}{sign} | {place(row)} | {maximum} | {ranks} | {result.verdict} |"


def _alone(method: str) -> str:
    if method not in NO_PEER:
        raise ValueError(f"{method} has neither a row nor a reason for having none")
    return f"| {method} | no peer: {NO_PEER[method]} | | | | |"


def number(value: float) -> str:
    """Two digits; of what is nothing but rounding only that it is."""
    if value < 1e-6:
        return "0" if value == 0 else "< 1e-06"
    return f"{value:.2g}"


def _fault(fault: Fault, output: str) -> str:
    return f"### {fault.peer}: {fault.title}\n\n{fault.cause}\n\n```python\n{fault.code}```\n\n```text\n{output}\n```\n"


def main(names: list[str]) -> None:
    """Measure all and write the page, or some and print.

    Raises:
        SystemExit: a row has no verdict; all such rows are named.
    """
    asked = [index for index, row in enumerate(ROWS) if not names or row.method in names]
    found: dict[int, Result] = {}
    wrong: list[str] = []
    with ProcessPoolExecutor(WORKERS, get_context("spawn"), _settle) as pool:
        jobs = {pool.submit(_measured, index): index for index in asked}
        for job in as_completed(jobs):
            single, double, seconds = job.result()
            found[jobs[job]] = Result(ROWS[jobs[job]], single, double)
            try:
                told = _line(found[jobs[job]])
            except ValueError as error:
                told = str(error)
                wrong.append(told)
            print(f"{seconds:6.1f} s {told}", file=sys.stderr, flush=True)
        printed = [] if names else list(pool.map(Fault.output, faults()))
    if wrong:
        raise SystemExit("\n".join(wrong))
    if not names:
        whole = page((found[index] for index in asked), zip(faults(), printed, strict=True))
        PAGE.write_text(whole, encoding="utf-8")


def _settle() -> None:
    torch.set_num_threads(1)  # sums then come in one order, and the page out again
    simplefilter("ignore")  # captum says at each call that it sets hooks


def _measured(index: int) -> tuple[Difference, Difference | None, float]:
    """A row's numbers and how long they took; rows have functions in them and do not travel between processes."""
    start = time.perf_counter()
    result = evaluate(ROWS[index])
    return result.single, result.double, time.perf_counter() - start


if __name__ == "__main__":
    main(sys.argv[1:])
