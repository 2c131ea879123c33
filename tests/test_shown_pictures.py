"""The pictures of the documents: what the commands draw today, on any processor."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import generate  # noqa: E402
from generate import PAINTED, PICTURES, SHOWN, pictures, stale  # noqa: E402


def saved(path: Path, image: Image.Image, **facts: str) -> Path:
    about = PngInfo()
    for name, value in facts.items():
        about.add_itxt(name, value)
    image.save(path, pnginfo=about)
    return path


def test_a_picture_is_stale_by_its_words_its_size_or_its_pixels(tmp_path: Path) -> None:
    plain = Image.new("RGB", (20, 10), (100, 100, 100))
    old = saved(tmp_path / "old.png", plain, Settings="a")
    assert stale(old, saved(tmp_path / "same.png", plain, Settings="a")) == ""
    nearly = plain.point(lambda value: value + 2)
    assert stale(old, saved(tmp_path / "nearly.png", nearly, Settings="a")) == ""
    assert "says" in stale(old, saved(tmp_path / "words.png", plain, Settings="b"))
    assert "large" in stale(old, saved(tmp_path / "size.png", plain.resize((20, 11)), Settings="a"))
    other = plain.point(lambda value: value + 5)
    painted = saved(tmp_path / f"{PAINTED}.png", plain, Settings="a")
    assert stale(painted, saved(tmp_path / "painted.png", other, Settings="a")) == ""
    assert "says" in stale(painted, saved(tmp_path / "seeded.png", other, Settings="b"))
    assert stale(old, saved(tmp_path / "pixels.png", other, Settings="a")) == "it differs by 5.0 levels on average"


def test_every_picture_that_is_shown_is_made() -> None:
    assert {path.name for path in PICTURES.glob("*.png")} == set(SHOWN)


@pytest.mark.parametrize(
    ("words", "made"),
    [
        ((), ["text", *SHOWN]),
        (("text",), ["text"]),
        (("pictures",), list(SHOWN)),
        (("pictures", "deconv.png", "saliency.png"), ["deconv.png", "saliency.png"]),
    ],
)
def test_what_is_named_is_made(words: tuple[str, ...], made: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(generate, "text", lambda: done.append("text"))
    monkeypatch.setattr(generate, "pictures", done.extend)
    generate.main(words)
    assert done == made


@pytest.mark.parametrize("words", [("pictures", "deconv"), ("text", "deconv.png"), ("deconv.png",)])
def test_a_picture_that_is_not_made_is_told(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        generate.main(words)
    assert words[-1] in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", SHOWN)
def test_a_picture_of_the_documents_is_current(name: str, tmp_path: Path) -> None:
    pictures([name], tmp_path)
    why = stale(PICTURES / name, tmp_path / name)
    assert not why, f"docs/pictures/{name}: {why}. Make it anew: python tools/generate.py pictures {name}"
