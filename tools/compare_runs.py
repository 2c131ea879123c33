"""Compare what two versions of cnnviz write: ``python tools/compare_runs.py OLD NEW [RUN ...]``.

OLD and NEW are checkouts (folders) or revisions of this repository. Each runs the demo and the commands of `RUNS`, or
those that are named, on copies of sample_images. Every figure and array file has to be the same byte for byte, every
JSON file in every field but `MAY_DIFFER`; fields that NEW adds are printed and allowed. Exit code 1 if others differ.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

NETWORK = """
import torch

def build():
    torch.manual_seed(0)
    relu, pool = torch.nn.ReLU, torch.nn.AdaptiveAvgPool2d
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1), relu(), torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(8, 16, 3, padding=1), relu(), pool(1), torch.nn.Flatten(), torch.nn.Linear(16, 5),
    )
"""
TINY = "--model tiny:build --allow-code --input-size 64"

RUNS = {
    "demo": "all sample_images",
    "features": "features sample_images/coffee.png --layer stages.0 --layer head --filters --save-arrays",
    "saliency": "saliency sample_images/chelsea.png --save-arrays --target 'tiger cat' --target espresso",
    "deconv": "deconv sample_images/camera.png --save-arrays",
    "deconv-class": "deconv sample_images/chelsea.png --method class",
    "gradcam": "gradcam sample_images --method gradcam,gradcam++,layercam,eigencam --save-arrays --layer stages.4",
    "contrast": "gradcam sample_images/chelsea.png --target 'tiger cat' --contrast 'Egyptian cat'",
    "similarity": "gradcam sample_images/coffee.png --objective similarity:sample_images/chelsea.png",
    "scale-run": "gradcam sample_images --scale run",
    "webp": "gradcam sample_images --format webp",
    "jpeg": "gradcam sample_images --format jpeg",
    "svg": "all sample_images/chelsea.png --format svg",
    "pdf": "all sample_images/chelsea.png --format pdf",
    "every-gradcam": f"gradcam sample_images/chelsea.png --method all {TINY} --save-arrays",
    "every-saliency": f"saliency sample_images/chelsea.png --method all {TINY} --save-arrays",
    "regression": f"all sample_images/coffee.png {TINY} --task regression --unit years --save-arrays",
    "segmentation": "gradcam sample_images/chelsea.png --model lraspp_mobilenet_v3_large --weights random:0",
    "detection": "gradcam sample_images/chelsea.png --model ssdlite320_mobilenet_v3_large --weights random:0",
    "shard": "gradcam sample_images --shard 0/2 --batch-size 2",
    "broken": "gradcam sample_images/README.md sample_images/camera.png",
}

MAY_DIFFER = {
    "manifest": ("sha256",),  # of the rest of the manifest, which is compared
    "run": (
        "started",
        "finished",
        "elapsed_seconds",
        "images_per_second",
        "seconds",
        "core_seconds",
        "host",
        "peak_memory_bytes",
    ),
}
"""Fields at the top of `manifest*.json` and `run*.json` that time and machine change."""

INTERNAL = (".jsonl", ".lock")
"""Endings of files that hold the manifest's records in another form, with times of files."""


ADDED = "added"
"""How a line begins that is allowed."""


@contextmanager
def checkout(named: str) -> Iterator[Path]:
    """The folder of that name, or a worktree of that revision while the program runs."""
    if (Path(named) / "cnnviz_cli").is_dir():
        yield Path(named).resolve()
        return
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "checkout"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(folder), named], check=True)
        try:
            yield folder
        finally:
            subprocess.run([*git, "remove", "--force", str(folder)], check=True)


def run(source: Path, place: Path, name: str) -> int:
    """Run one command in `place`, writing into a folder with its name; its exit code."""
    environ = {key: text for key, text in os.environ.items() if not key.startswith("CNNVIZ_")}
    environ |= {"PYTHONPATH": f"{source}{os.pathsep}{place}", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "cnnviz_cli", *shlex.split(RUNS[name]), "-q", "-o", name]
    done = subprocess.run(command, cwd=place, env=environ, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 3):
        print(f"{name}: exit code {done.returncode} of {source}: {done.stderr.strip()[-500:]}")
    return done.returncode


def written(folder: Path) -> dict[str, Path]:
    """The files of a run by their path in its folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.endswith(INTERNAL))
    return {path.relative_to(folder).as_posix(): path for path in files}


def differences(old: Path, new: Path) -> Iterator[str]:
    """What differs between two runs' folders, a line for each file or field."""
    before, after = written(old), written(new)
    if not before:
        yield "nothing was written"
    for name in sorted(before.keys() | after.keys()):
        if name not in before or name not in after:
            yield f"{name}: only in {'NEW' if name in after else 'OLD'}"
        elif name.endswith(".json"):
            left, right = (json.loads(files[name].read_text(encoding="utf-8")) for files in (before, after))
            for field in MAY_DIFFER.get(name.partition(".")[0], ()):
                left.pop(field, None)
                right.pop(field, None)
            yield from (f"{name}: {found}" for found in changed(left, right))
        elif before[name].read_bytes() != after[name].read_bytes():
            yield f"{name}: other bytes"


def changed(old: Any, new: Any, at: str = "") -> Iterator[str]:
    """The fields of two JSON values that differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            if key not in old:
                yield f"{ADDED} {at}.{key} = {json.dumps(new[key])[:80]}"
            elif key not in new:
                yield f"gone {at}.{key}"
            else:
                yield from changed(old[key], new[key], f"{at}.{key}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for place, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from changed(one, other, f"{at}[{place}]")
    elif old != new or type(old) is not type(new):
        yield f"{at}: {json.dumps(old)[:80]} is now {json.dumps(new)[:80]}"


def main(old: str, new: str, *names: str) -> int:
    """Run both and print what differs."""
    wrong = 0
    with ExitStack() as stack:
        sources = [stack.enter_context(checkout(named)) for named in (old, new)]
        places = [Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in sources]
        for place in places:
            shutil.copytree(ROOT / "sample_images", place / "sample_images")
            (place / "tiny.py").write_text(NETWORK, encoding="utf-8")
        for name in names or RUNS:
            codes = [run(source, place, name) for source, place in zip(sources, places, strict=True)]
            found = list(differences(*(place / name for place in places)))
            if codes[0] != codes[1]:
                found.append(f"exit code {codes[0]} is now {codes[1]}")
            wrong += sum(f": {ADDED} " not in line for line in found)
            print(f"{name}: {len(found)} differences" if found else f"{name}: the same", flush=True)
            print(*(f"  {line}\n" for line in found), sep="", end="", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    if len(sys.argv) < 3 or set(sys.argv[3:]) - set(RUNS):
        raise SystemExit(f"{__doc__}\nRUN is one of: {', '.join(RUNS)}")
    raise SystemExit(main(*sys.argv[1:]))
