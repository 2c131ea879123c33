"""Rewrite what is made from the code: the text (`make generated`) and the figures of the docs (`make pictures`)."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from concept_folders import make_folders
from manual import manual
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from reference import reference, table

from cnnviz_cli.config.settings import config_schema
from cnnviz_cli.exports.common.columns import COLUMNS
from cnnviz_cli.files.output.manifest import manifest_schema

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "pictures"
BENCHMARKS = ROOT / "docs" / "benchmarks.md"
INTEGRATIONS = ROOT / "docs" / "integrations.md"

# file -> arguments of the command, in sample_images, and a pattern of the figure that is shown.
SHOWN: dict[str, tuple[str, str]] = {
    "overview.png": ("all chelsea.png", "chelsea.png/overview.png"),
    "gradcam-tiger-cat.png": (
        'gradcam chelsea_coffee.png --target "tiger cat" --target espresso',
        "chelsea_coffee.png/gradcam.282-tiger_cat.png",
    ),
    "gradcam-espresso.png": (
        'gradcam chelsea_coffee.png --target "tiger cat" --target espresso',
        "chelsea_coffee.png/gradcam.967-espresso.png",
    ),
    "gradcam-camera.png": ("gradcam camera.png", "camera.png/gradcam.png"),
    "gradcam-compare.png": (
        "gradcam chelsea_coffee.png --method gradcam,gradcam++,layercam,hirescam,eigencam,ablationcam "
        "--target espresso",
        "chelsea_coffee.png/gradcam.compare.png",
    ),
    "gradcam-contrast.png": (
        'gradcam chelsea.png --target "tiger cat" --contrast "Egyptian cat"',
        "chelsea.png/gradcam.png",
    ),
    "similar-to-chelsea.png": (
        "gradcam chelsea_coffee.png --objective similarity:chelsea.png",
        "chelsea_coffee.png/gradcam.png",
    ),
    "similar-to-coffee.png": (
        "gradcam chelsea_coffee.png --objective similarity:coffee.png",
        "chelsea_coffee.png/gradcam.png",
    ),
    "saliency.png": ("saliency chelsea.png", "chelsea.png/saliency.png"),
    "saliency-compare.png": (
        "saliency chelsea_coffee.png --method all --masks 500 --draws 300 --target espresso",
        "chelsea_coffee.png/saliency.compare.png",
    ),
    "deconv.png": ("deconv camera.png", "camera.png/deconv.png"),
    "deconv-class.png": ("deconv chelsea.png --method class", "chelsea.png/deconv.png"),
    "features.png": ("features coffee.png --layer stages.0", "coffee.png/features.*.stages.0.png"),
    "features-top.png": (
        "features . --top-images 4 --layer stages.1 --top-channels 0-11",
        "features.units-1.png",
    ),
    "deconv-top.png": (
        "deconv . --top-images 4 --layer stages.2 --top-channels 0,1,3,4,7,8",
        "deconv.units-1.png",
    ),
    "features-filters.png": (
        "features coffee.png --layer stem.0 --filters --channels 4",
        "coffee.png/features.filters.*stem.0.png",
    ),
    "attack-coffee.png": ("attack coffee.png", "coffee.png/attack.png"),
    "attack-macaw.png": ("attack chelsea.png --to macaw", "chelsea.png/attack.png"),
    "evaluation.png": ("evaluate .", "evaluation.png"),
    "concepts.png": ("concepts . --concepts 8", "concepts.png"),
    "concepts-image.png": ("concepts . --concepts 8", "chelsea_coffee.png/concepts.png"),
    "dissection-labels.png": ("dissect . --annotations annotations.json --layer stages.4", "dissection.labels-1.png"),
    "dissection-image.png": (
        "dissect . --annotations annotations.json --layer stages.4",
        "chelsea.png/dissect.png",
    ),
    "dream-classes.png": ('dream --target "tiger cat,espresso,daisy,missile"', "dream.compare.png"),
    "dream-rocket.png": ("dream rocket.jpg", "rocket.jpg/dream.png"),
    "dream-guided.png": ("dream rocket.jpg --like chelsea.png", "rocket.jpg/dream.png"),
    "dream-layers.png": (
        "dream chelsea.png --layer stages.2,stages.4,stages.5.1 --size 384",
        "chelsea.png/dream.compare.png",
    ),
    "dream-units.png": (
        "dream --layer stages.1,stages.3,stages.4 --unit 3,7,12,21 --seed 1",
        "dream.compare.png",
    ),
    "dream-unit.png": (
        "dream --layer stages.3 --unit 12 --against ../sample_images",
        "stages.3-channel-12/dream.unit.png",
    ),
    "tcav.png": (
        "concepts cats --concept fur --concept striped --against random --target 'tiger cat' "
        "--layer stages.4,last-conv",
        "tcav.png",
    ),
    "influence.png": (
        'influence chelsea.png --train train --target "Egyptian cat"',
        "chelsea.png/influence.285-Egyptian_cat.png",
    ),
    "influence-training.png": ("influence chelsea.png --train train", "influence-training.png"),
}
LAID_OUT = {
    "train/Egyptian_cat/chelsea_coffee.png": "chelsea_coffee.png",
    "train/espresso/coffee.png": "coffee.png",
    "train/espresso/camera.png": "camera.png",
    "train/missile/rocket.jpg": "rocket.jpg",
}
"""Copies of sample images that commands find beside them, as docs/influence.md makes them."""

PAINTED = "dream"
"""What the names of painted pictures begin with: hundreds of steps make another picture of a processor's last bits."""

MOST_PIXELS = 1120 * 1300
"""Of a figure that is shown as it is; a larger one is reduced in size and to 256 colours."""

NEAR = 3.0
"""Levels by which two equal figures may differ on average: processors round; 256 colours are dithered."""


def pictures(names: Iterable[str] = tuple(SHOWN), into: Path = PICTURES) -> None:
    """docs/pictures: the real command's own files, pixel for pixel where they are small enough.

    Each keeps what its file says about itself (iTXt), by which `stale` knows later whether it is current.
    """
    into.mkdir(exist_ok=True)
    for name in names:
        arguments, made = SHOWN[name]
        with tempfile.TemporaryDirectory() as folder:
            place, out = ROOT / "sample_images", Path(folder, "out")
            if "--concept " in arguments:
                place = Path(folder, "in")
                make_folders(place)
            elif "--train" in arguments:
                place = shutil.copytree(place, Path(folder, "samples"))
                for copy, sample in LAID_OUT.items():
                    (place / copy).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(place / sample, place / copy)
            command = [sys.executable, "-m", "cnnviz_cli", *shlex.split(arguments), "-o", str(out), "-q"]
            subprocess.run(command, check=True, cwd=place)
            (file,) = out.glob(made)
            with Image.open(file) as opened:
                facts = told(opened)
                picture = opened.copy()
        if picture.width * picture.height > MOST_PIXELS:
            picture = reduced(picture, 1120)
        about = PngInfo()
        for fact, value in facts.items():
            about.add_itxt(fact, value)
        picture.save(into / name, optimize=True, pnginfo=about)


def told(picture: Image.Image) -> dict[str, str]:
    """The text chunks of a figure."""
    return {name: str(value) for name, value in picture.info.items() if isinstance(value, str)}


def stale(shown: Path, made: Path) -> str:
    """Why a figure is not what the command draws today; empty if it is, up to the last bits of a processor."""
    with Image.open(shown) as old, Image.open(made) as new:
        if told(old) != told(new):
            return f"it says {told(old)} instead of {told(new)}"
        if old.size != new.size:
            return f"it is {old.size} instead of {new.size} pixels large"
        if shown.name.startswith(PAINTED):
            return ""
        pixels = [np.asarray(picture.convert("RGB"), np.float64) for picture in (old, new)]
    apart = float(np.abs(pixels[0] - pixels[1]).mean())
    return f"it differs by {apart:.1f} levels on average" if apart > NEAR else ""


def reduced(picture: Image.Image, width: int) -> Image.Image:
    """`picture` at another width and in 256 colours; that of its corner, the paper, is kept."""
    size = (width, round(picture.height * width / picture.width))
    small = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    colours = small.quantize(256, Image.Quantize.MEDIANCUT, kmeans=3)
    shown = small.quantize(palette=colours, dither=Image.Dither.FLOYDSTEINBERG)
    table = shown.getpalette() or []
    paper = 3 * shown.tobytes()[0]
    table[paper : paper + 3] = small.tobytes()[:3]
    shown.putpalette(table)
    return shown


def ratios() -> str:
    """The table of docs/benchmarks.md from benchmarks/results.json, with columns for each kind of machine."""
    machines = json.loads((ROOT / "benchmarks" / "results.json").read_text(encoding="utf-8"))["machines"]
    lines = ["Measured by `make bench`, both sides of each ratio in one run, medians, on:", ""]
    for machine in machines:
        measured = ", ".join(f"{key} {value}" for key, value in machine["conditions"].items())
        lines.append(f"- {_machine_name(machine)} ({measured})")
    names = [_machine_name(machine) for machine in machines]
    lines += ["", f"| what | {' | '.join(f'{name} | limit' for name in names)} | wanted |"]
    lines.append("|---" * (2 + 2 * len(machines)) + "|")
    by_machine = [{item["name"]: item for item in machine["ratios"]} for machine in machines]
    merged = _merge([list(items) for items in by_machine])
    for name in merged:
        found = [items.get(name) for items in by_machine]
        bound = [item["bound"] for item in found if item][-1]
        lines.append(f"| {name} | {' | '.join(map(_ratio_cells, found))} | {bound} |")
    lines.append("")
    for name, machine in zip(names, machines, strict=True):
        missed = [item for item in machine["ratios"] if not item["met"] and item.get("why")]
        lines += [
            f"- {name}: {item['name']}: {item['ratio']:.2f} is not {item['bound']}: {item['why']}" for item in missed
        ]
        lines += [f"- {name}: {note['text']}" for note in machine["notes"]]
    return "\n".join(lines)


def accelerator() -> str:
    """The table of docs/benchmarks.md from benchmarks/gpu.json, where an accelerator has been measured."""
    results = ROOT / "benchmarks" / "gpu.json"
    if not results.exists():
        return "Not measured yet: these columns are open until `python -m benchmarks gpu` has run on a GPU."
    found = json.loads(results.read_text(encoding="utf-8"))
    measured = ", ".join(f"{key} {value}" for key, value in found["conditions"].items())
    part = "" if found["complete"] else " Not all sections were carried out."
    lines = [f"Measured by `python -m benchmarks gpu` on {found['device']} ({measured}).{part}", ""]
    lines += ["| what | figure |", "|---|---|"]
    for section in found["sections"].values():
        lines += [f"| {row['name']} | {row['value']:.4g} {row['unit']} |".replace("  ", " ") for row in section["rows"]]
    errors = {name: section["error"] for name, section in found["sections"].items() if "error" in section}
    return "\n".join([*lines, *([""] if errors else []), *(f"- {name}: {error}" for name, error in errors.items())])


def _machine_name(machine: dict[str, Any]) -> str:
    kind = machine["kind"]
    return f"{kind['cpu']}, bf16 {'faster' if kind['bf16'] else 'no faster'} than fp32, {kind['cores']} cores"


def _ratio_cells(item: dict[str, Any] | None) -> str:
    """A ratio, in italics where it misses its bound, and its physical limit."""
    if item is None:
        return "— | —"
    limit = item.get("limit")
    shown = f"{item['ratio']:.2f}"
    return f"{shown if item['met'] else f'*{shown}*'} | {'—' if limit is None else f'{limit:.2f}'}"


def _merge(lists: list[list[str]]) -> list[str]:
    """All names once: each behind the one that it follows in its own list."""
    merged: list[str] = []
    for names in lists:
        place = 0
        for name in names:
            if name in merged:
                place = merged.index(name) + 1
            else:
                merged.insert(place, name)
                place += 1
    return merged


def export_columns() -> str:
    """The table of docs/integrations.md: the columns that `cnnviz export` writes for every run."""
    words = {"text": "text", "whole": "whole number", "number": "fraction", "yes": "true or false"}
    return table(["column", "kind", "what it says"], [[f"`{c.name}`", words[c.kind], c.about] for c in COLUMNS]).strip()


FOR_DEVELOPERS = ("dev", "docs", "bench", "parity")


def extras() -> str:
    """The table of docs/install.md: the extras of pyproject.toml, and what their comments say."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = project.partition("[project.optional-dependencies]\n")[2].partition("\n[")[0]
    found = re.findall(r"^(\w+) = \[.*?# (.*)$", listed, re.MULTILINE)
    rows = [[f"`{name}`", re.sub(r"(--\w[\w-]*|\b\w+://)", r"`\1`", about)] for name, about in found]
    return table(["extra", "what for"], [row for row in rows if row[0].strip("`") not in FOR_DEVELOPERS]).strip()


def fill(text: str, mark: str, content: str) -> str:
    """`text` with what stands between two comments replaced."""
    start, end = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
    before, rest = text.split(start)
    return f"{before}{start}\n{content}\n{end}{rest.split(end)[1]}"


def text() -> None:
    """The schemas, the reference and the benchmarks' table: seconds, no figure."""
    page = fill(BENCHMARKS.read_text(encoding="utf-8"), "ratios", ratios())
    BENCHMARKS.write_text(fill(page, "accelerator", accelerator()), encoding="utf-8")
    install = ROOT / "docs" / "install.md"
    install.write_text(fill(install.read_text(encoding="utf-8"), "extras", extras()), encoding="utf-8")
    exported = INTEGRATIONS.read_text(encoding="utf-8")
    INTEGRATIONS.write_text(fill(exported, "columns", export_columns()), encoding="utf-8")
    for name, schema in (("config", config_schema()), ("manifest", manifest_schema())):
        content = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        (ROOT / "schemas" / f"{name}.schema.json").write_text(content, encoding="utf-8")
    (ROOT / "docs" / "reference.md").write_text(reference(), encoding="utf-8")
    (ROOT / "docs" / "cnnviz.1").write_text(manual(), encoding="utf-8")


def main(words: Sequence[str]) -> None:
    """Write the text, the pictures, or both where nothing is named; behind `pictures` may stand which of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=("text", "pictures"), help="by default both")
    parser.add_argument("names", nargs="*", metavar="NAME", help="files in docs/pictures; by default all")
    given = parser.parse_args(words)
    if unknown := [name for name in given.names if given.what != "pictures" or name not in SHOWN]:
        parser.error(f"there is no picture {', '.join(unknown)} to make; there are: {', '.join(SHOWN)}")
    if given.what != "pictures":
        text()
    if given.what != "text":
        pictures(given.names or SHOWN)


if __name__ == "__main__":
    main(sys.argv[1:])
