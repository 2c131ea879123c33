"""Rewrite what is made from the code: schemas, the reference, the README's ratios and pictures (`make generated`)."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import fields
from pathlib import Path

from PIL import Image

from cnnviz_cli.config.names import field_at, flag, paths, variable
from cnnviz_cli.config.schema import config_schema
from cnnviz_cli.config.settings import settings_type
from cnnviz_cli.core.errors import ExitCode
from cnnviz_cli.core.method import FAMILIES, methods
from cnnviz_cli.files.schemas import manifest_schema

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "pictures"

# file -> arguments of the command, the picture it gives, and the width to which it is reduced (None: as it is).
SHOWN: dict[str, tuple[list[str], str, int | None]] = {
    "overview.png": (["all", "chelsea.png"], "chelsea.png/overview.png", 1120),
    "gradcam-tiger-cat.png": (
        ["gradcam", "chelsea_coffee.png", "-t", "tiger cat", "-t", "espresso"],
        "chelsea_coffee.png/gradcam.282-tiger_cat.png",
        None,
    ),
    "gradcam-espresso.png": (
        ["gradcam", "chelsea_coffee.png", "-t", "tiger cat", "-t", "espresso"],
        "chelsea_coffee.png/gradcam.967-espresso.png",
        None,
    ),
    "gradcam-camera.png": (["gradcam", "camera.png"], "camera.png/gradcam.png", None),
    "saliency.png": (["saliency", "coffee.png"], "coffee.png/saliency.png", None),
    "deconv.png": (["deconv", "camera.png"], "camera.png/deconv.png", None),
    "features.png": (["features", "coffee.png", "--layer", "stages.0"], "coffee.png/features.stages.0.png", None),
}

EXIT_TEXTS = {
    ExitCode.OK: "every image done",
    ExitCode.BUG: "a bug of ours",
    ExitCode.USAGE: "a mistake in a flag, a key, a name or a value; nothing was done",
    ExitCode.PARTIAL: "finished, some images failed; `verify`: something differs",
    ExitCode.MODEL: "the model or its weights are not to be had, or were refused",
    ExitCode.OUTPUT: "the output cannot be written, or the disk is full",
    ExitCode.DEVICE: "the device is absent, or its memory does not suffice",
    ExitCode.NO_INPUTS: "nothing that was named holds a picture",
    ExitCode.INTERRUPTED: "Ctrl-C; the manifest holds what was finished",
    ExitCode.TERMINATED: "SIGTERM; the manifest holds what was finished",
}


def reference() -> str:
    """docs/reference.md."""
    lines = [
        "# Reference",
        "",
        "Made by `make generated` from the code. Precedence: flag, environment variable, YAML file, default.",
        "",
        "## Settings of every run",
        "",
        *_table("all", ""),
    ]
    for family in FAMILIES.values():
        lines += ["", f"## {family.name}", "", family.summary, ""]
        lines += _table(family.name, family.name)
        lines.append("")
        for method in methods(family.name):
            options = ", ".join(f"`{item.name}`" for item in fields(method.options)) or "none"
            lines.append(f"- **{method.name}**: {method.summary} Options: {options}. {method.paper}")
    lines += [
        "",
        "Under `cnnviz all` the flags of a family bear its name: `--gradcam-layer`, `--features-channels`.",
        "",
        "## Words for layers",
        "",
        "- `last-conv`: the last layer that is or contains a convolution; in a ViT, the input of the last attention.",
        "- `conv`: every convolution.",
        "- `stages`: the last layer at each resolution.",
        "- `low-mid-high`: the first, the middle and the last of `stages`.",
        "- anything else: a module path or a glob over module paths; `cnnviz layers MODEL` prints them.",
        "",
        "## Exit codes",
        "",
        "| code | meaning |",
        "|---|---|",
        *(f"| {code.value} | {EXIT_TEXTS[code]} |" for code in ExitCode),
        "",
    ]
    return "\n".join(lines)


def _table(command: str, within: str) -> list[str]:
    """The settings of a section, or with an empty `within` those that stand outside of all sections."""
    kind = settings_type(command)
    rows = ["| flag | YAML | environment | default | meaning |", "|---|---|---|---|---|"]
    for path in paths(kind):
        if path[:-1] == ((within,) if within else ()):
            found = field_at(kind, path)
            default = json.dumps(found.default, default=str)
            words = (f"`{flag(path, command)}`", f"`{'.'.join(path)}`", f"`{variable(path)}`", f"`{default}`")
            rows.append(f"| {' | '.join(words)} | {(found.description or '').replace('|', ' or ')} |")
    return rows


def pictures() -> None:
    """docs/pictures: the real command's own files, palettes where they fit."""
    PICTURES.mkdir(exist_ok=True)
    for name, (arguments, made, width) in SHOWN.items():
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "cnnviz_cli", *arguments, "-o", folder, "-q"]
            subprocess.run(command, check=True, cwd=ROOT / "sample_images")
            with Image.open(Path(folder, made)) as picture:
                small = picture.convert("RGB")
        if width:
            small = small.resize((width, round(small.height * width / small.width)), Image.Resampling.LANCZOS)
        small.quantize(255, Image.Quantize.MEDIANCUT).save(PICTURES / name, optimize=True)


def ratios() -> str:
    """The README's table of what `make bench` measured last, from benchmarks/results.json."""
    results = json.loads((ROOT / "benchmarks" / "results.json").read_text(encoding="utf-8"))
    measured = ", ".join(f"{key} {value}" for key, value in results["conditions"].items())
    lines = [
        f"Measured by `make bench` in one run ({measured}; medians):",
        "",
        "| what | ratio | wanted |",
        "|---|---|---|",
    ]
    lines += [f"| {item['name']} | {item['ratio']:.2f} | {item['bound']} |" for item in results["ratios"]]
    return "\n".join([*lines, "", *(f"- {note}" for note in results["notes"])])


def fill(text: str, mark: str, content: str) -> str:
    """`text` with what stands between two comments replaced."""
    start, end = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
    before, rest = text.split(start)
    return f"{before}{start}\n{content}\n{end}{rest.split(end)[1]}"


def main() -> None:
    """Write all of it."""
    readme = ROOT / "README.md"
    readme.write_text(fill(readme.read_text(encoding="utf-8"), "ratios", ratios()), encoding="utf-8")
    for name, schema in (("config", config_schema()), ("manifest", manifest_schema())):
        text = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        (ROOT / "schemas" / f"{name}.schema.json").write_text(text, encoding="utf-8")
    (ROOT / "docs" / "reference.md").write_text(reference(), encoding="utf-8")
    pictures()


if __name__ == "__main__":
    main()
