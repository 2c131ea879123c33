"""The pictures of docs/report.md: ``python tools/report_pictures.py [FOLDER]``, by default into docs/pictures.

The real command over parts of the sample images, once with the bundled weights and once with random ones, and its page
in Chromium. Without Chromium or playwright it says so and leaves the pictures as they are.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, ImageEnhance, ImageOps

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "pictures"
SAMPLES = ROOT / "sample_images"
CHROMIUM = shutil.which("chromium")

CLASSES = {
    "tripod": "camera.png",
    "tiger cat": "chelsea.png",
    "Egyptian cat": "chelsea_coffee.png",
    "espresso": "coffee.png",
    "missile": "rocket.jpg",
}
PARTS = 12
"""Photographs of each class: parts of the one sample."""


@dataclass(frozen=True)
class Shot:
    """One picture.

    Attributes:
        address: what the page's address ends in.
        size: width and height of the window in CSS pixels.
        scheme: light or dark.
        pointer: where the pointer is, in pixels of the window, if anywhere.
    """

    address: str
    size: tuple[int, int] = (1200, 760)
    scheme: str = "light"
    pointer: tuple[int, int] | None = None


WRONG = "tiger cat/photo-03.jpg"
SHOTS = {
    "report-grid": Shot("#sort=gravest"),
    "report-slider": Shot(f"#open={WRONG}&mode=slider", scheme="dark"),
    "report-random": Shot("#open=tripod/photo-00.jpg&mode=side&scale=shared&other=3.says", pointer=(270, 420)),
    "report-phone": Shot("#open=espresso/photo-00.jpg", size=(390, 760), scheme="dark"),
}


def make_photographs(folder: Path) -> None:
    """Parts of the samples in folders that are called after their classes: cut out, some mirrored, some faded."""
    draw = random.Random(7)
    for label, sample in CLASSES.items():
        whole = Image.open(SAMPLES / sample).convert("RGB")
        (folder / label).mkdir(parents=True)
        for number in range(PARTS):
            share = 1.0 if number == 0 else draw.uniform(0.55, 0.95)
            width, height = round(whole.width * share), round(whole.height * share)
            left, top = draw.randint(0, whole.width - width), draw.randint(0, whole.height - height)
            part = whole.crop((left, top, left + width, top + height))
            if draw.random() < 0.4:
                part = ImageOps.mirror(part)
            part = ImageEnhance.Color(part).enhance(draw.uniform(0.4, 1.2))
            part.save(folder / label / f"photo-{number:02d}.jpg", quality=92)


def make_page(root: Path) -> Path:
    """Two runs over these photographs, and the page of both."""
    photos = root / "photographs"
    make_photographs(photos)

    def run(*words: str) -> None:
        command = [sys.executable, "-m", "cnnviz_cli", *words]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(words)}: {done.stderr}")

    asked = ("photographs", "-r", "--truth", "folder", "--target", "predicted,true", "--report")
    run("gradcam", *asked, "--method", "gradcam,layercam,hirescam", "--output", "trained")
    run("gradcam", *asked, "--method", "gradcam", "--weights", "random:1", "--output", "random")
    run("report", "trained", "random", "--photos", "photographs", "--title", "Cats, cups and rockets")
    return root / "trained" / "report.html"


def shoot(page: Path, into: Path) -> None:
    """Open the page as each picture has it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for name, shot in SHOTS.items():
            width, height = shot.size
            context = browser.new_context(
                viewport={"width": width, "height": height},
                color_scheme=shot.scheme,  # type: ignore[arg-type]
                reduced_motion="reduce",
            )
            view = context.new_page()
            view.goto(page.as_uri() + shot.address)
            view.locator(".evidence canvas" if "open=" in shot.address else ".cell canvas").first.wait_for()
            if shot.pointer:
                view.mouse.move(*shot.pointer)
            view.wait_for_timeout(500)
            shown = into / f"{name}.png"
            view.screenshot(path=shown)
            Image.open(shown).save(into / f"{name}.webp", quality=82, method=6)
            shown.unlink()
            context.close()
        browser.close()


def main(into: Path = PICTURES) -> None:
    """Make all of them."""
    if CHROMIUM is None or find_spec("playwright") is None:
        print("the pictures of the report page stay as they are: playwright or Chromium is not here", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as name:
        shoot(make_page(Path(name)), into)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
