"""The part of docs/parity.md about measures: what each stands beside, and within which bound a test holds it there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from parity_wrong import Fault, faults

FOLDER = Path(__file__).parent / "measure_faults"
"""Scripts of differences with libraries that are in no extra."""

TITLE = "## Measures of `cnnviz evaluate`"

HEAD = f"""\
{TITLE}

Measures are compared on the same finished maps, of two inputs of 24 x 24 and a network with random weights, so that
every test run repeats it (`tests/measures/test_measure_peers.py`, and `test_again.py` beside it for measures that run a
method again). *Within* is the bound that the test holds. The rows at 224 px are of a sample image, chelsea.png, and the
bundled network (`test_measure_peers_at_224.py`); *apart* is what one run printed.

"""

FAULTS = """
Quantus is in no extra: `pip install --target build/quantus --no-deps quantus==0.6.0 pandas scikit-learn joblib
threadpoolctl cachetools pytz tzdata python-dateutil`, and each script runs with `PYTHONPATH=build/quantus`. No line of
cnnviz is in them.

| script | what differs | why | it prints |
|---|---|---|---|
"""


@dataclass(frozen=True)
class Beside:
    """A measure beside a peer's: within a bound, or not to be compared, for a reason."""

    measure: str
    peer: str
    setting: str
    verdict: str


ROWS = (
    Beside(
        "deletion, insertion",
        "torchcam `DeletionInsertionMetric`",
        "32 steps, RISE's fills, maps without ties",
        "within 1e-05",
    ),
    Beside(
        "deletion, insertion",
        "torchcam `DeletionInsertionMetric`",
        "a coarse map, enlarged: its border repeats values",
        "within 0.0005; differs: torchcam orders what is equal by rows, cnnviz by chance",
    ),
    Beside("deletion, insertion", "RISE `CausalMetric`", "16 steps, maps without ties", "within 1e-05"),
    Beside(
        "drop",
        "torchcam `ClassificationMetric`",
        "maps at the input's size, whose highest value is 1",
        "within 1e-05",
    ),
    Beside(
        "removal, its fill",
        "grad-cam `NoisyLinearImputer`",
        "no noise, a tolerance of 1e-06; 10, 50 and 90 % hidden",
        "within 0.001 of the range",
    ),
    Beside(
        "removal",
        "grad-cam `ROADCombined`",
        "no noise, percentiles 20, 40, 60, 80",
        "within 0.002 of twice its number, which is half of the difference; less than its own noise makes",
    ),
    Beside("infidelity", "captum `infidelity`", "6 draws, `normalize=True`, the same changes", "within 0.1 %"),
    Beside(
        "sensitivity_max",
        "captum `sensitivity_max`",
        "gradient, 4 draws, the same noise; captum is given the map without colours",
        "within 0.01 %",
    ),
    Beside(
        "deletion, insertion",
        "torchcam `DeletionInsertionMetric`",
        "224 px, 16 steps, RISE's fills, a map without ties",
        "within 1e-05; 2e-07 apart",
    ),
    Beside(
        "deletion, insertion",
        "RISE `CausalMetric`",
        "224 px, 16 steps, a map without ties",
        "within 1e-05; 2e-07 apart",
    ),
    Beside(
        "drop",
        "torchcam `ClassificationMetric`",
        "224 px, a map at the input's size, whose highest value is 1",
        "within 1e-05; 3e-07 apart",
    ),
    Beside(
        "removal, its fill",
        "grad-cam `NoisyLinearImputer`",
        "224 px, no noise, a tolerance of 1e-06; 10 and 50 % hidden",
        "within 0.001 of the range; 1e-06 apart",
    ),
    Beside(
        "removal",
        "grad-cam `ROADCombined`",
        "224 px, no noise, percentiles 20, 40, 60, 80",
        "within 0.002 of twice its number, which is half of the difference; 0.0002 apart",
    ),
    Beside(
        "infidelity",
        "captum `infidelity`",
        "224 px, 6 draws, `normalize=True`, the same changes",
        "within 0.1 %; 0.002 % apart",
    ),
    Beside(
        "sensitivity_max",
        "captum `sensitivity_max`",
        "224 px, gradient, 2 draws, the same noise; captum is given the map without colours",
        "within 0.1 %; 0.0008 % apart",
    ),
    Beside("sparseness", "Quantus `Sparseness`", "a random map", "within 1e-06"),
    Beside("removal", "Quantus `ROAD`", "", "cannot be compared: it fails for every image with colours, see below"),
    Beside(
        "removal",
        "Quantus `PixelFlipping`",
        "",
        "differs: its steps count values of colours, not pixels, and its curve lacks the intact image, see below",
    ),
)


def section() -> str:
    """All of it, as the page has it."""
    lines = [f"| {row.measure} | {row.peer} | {row.setting} | {row.verdict} |" for row in ROWS]
    table = "| measure | beside | settings | within |\n|---|---|---|---|\n" + "\n".join(lines) + "\n"
    return HEAD + table + FAULTS + "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    for fault in faults(FOLDER):
        yield f"| `{fault.name}.py` | {fault.peer}: {fault.title} | {fault.cause} | {printed(fault)} |"


def printed(fault: Fault) -> str:
    """What a script printed with Quantus 0.6.0; a test runs it where that is installed."""
    return PRINTED[fault.name]


PRINTED = {
    "quantus_road": "IndexError index 2421 is out of bounds for axis 0 with size 1024",
    "quantus_pixel_flipping": (
        "pixels flipped in part [1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0]; "
        "whole pixels [58.0, 53.0, 48.0, 42.0, 37.0, 32.0, 26.0, 21.0, 16.0, 10.0, 5.0, 0.0]"
    ),
}
