"""Bundles the libraries of the report page into cnnviz_cli/report/vendor/: `make report-vendor`.

Needs node and npm; users need neither.
Versions are those of tools/report/package-lock.json, so the bytes are the same wherever this runs.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "tools" / "report"
VENDOR = ROOT / "cnnviz_cli" / "report" / "vendor"
BUNDLE, LICENCES = "vendor.js", "vendor.LICENSES.txt"


def build(folder: Path) -> None:
    """Writes the bundle and the licences of what is in it into `folder`."""
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        for file in SOURCE.glob("*.js*"):
            shutil.copy(file, work)
        # esbuild's install script only tries its own program out; nobody's script has to run for the bundle.
        npm = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        subprocess.run(npm, cwd=work, check=True, stdin=subprocess.DEVNULL)
        folder.mkdir(parents=True, exist_ok=True)
        options = ["--bundle", "--minify", "--format=iife", "--global-name=V", "--legal-comments=inline"]
        bundle = f"--outfile={folder.resolve() / BUNDLE}"
        esbuild = work / "node_modules" / ".bin" / "esbuild"
        subprocess.run(
            [esbuild, "entry.js", *options, "--target=es2021", "--log-level=warning", bundle], cwd=work, check=True
        )
        (folder / LICENCES).write_text(licences(work), encoding="utf-8")


def licences(work: Path) -> str:
    """The licence of each package that is in the bundle: all but those that only build it."""
    lock = json.loads((work / "package-lock.json").read_text(encoding="utf-8"))
    texts = []
    for place, package in sorted(lock["packages"].items()):
        if place and not package.get("dev"):
            name = place.removeprefix("node_modules/")
            text = next(file for file in sorted((work / place).iterdir()) if "license" in file.name.lower())
            words = text.read_text(encoding="utf-8").strip()
            texts.append(f"{name} {package['version']} ({package['license']})\n\n{words}\n")
    rule = "\n" + "-" * 100 + "\n\n"
    return f"The libraries in {BUNDLE} and their licences.\n{rule}{rule.join(texts)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--output", type=Path, default=VENDOR, metavar="DIR", help="where to write (default: the package)"
    )
    build(parser.parse_args().output)


if __name__ == "__main__":
    main()
