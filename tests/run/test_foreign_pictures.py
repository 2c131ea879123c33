"""A picture that is about to be replaced: ours by a journal or by what it says of itself, or refused and untouched."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from run.resuming import files_of, photographs, run

from cnnviz_cli.core.errors import ExitCode, OutputError
from cnnviz_cli.files.inputs.search import Source
from cnnviz_cli.files.output.file_names import is_replaceable
from cnnviz_cli.render.figures import encode_figure
from cnnviz_cli.render.layout import Block
from cnnviz_cli.render.raster import encode

pytestmark = pytest.mark.usefixtures("tiny_network")

FACTS = {"Software": "cnnviz 0.1.0", "Method": "gradcam", "Model": "x" * 300, "Settings": "0" * 64}


@pytest.fixture
def sources(tmp_path: Path) -> list[Source]:
    return photographs(tmp_path / "in", 3)


def put(path: Path, kind: str = "PNG") -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 10), "red").save(path, kind)
    return path.read_bytes()


@pytest.mark.parametrize("force", [False, True])
def test_a_persons_own_picture_stays_where_a_run_has_been(tmp_path: Path, sources: list[Source], force: bool) -> None:
    out = tmp_path / "out"
    run(out, sources[:2])
    mine = out / "2.png" / "gradcam.png"
    before = put(mine)
    with pytest.raises(OutputError) as caught:
        run(out, sources, force=force)
    assert caught.value.code is ExitCode.OUTPUT == 5
    assert caught.value.what == "'2.png/gradcam.png' was not written by cnnviz, and the run would replace it"
    assert mine.read_bytes() == before
    assert not list(out.rglob("*.tmp"))
    mine.unlink()
    run(out, sources)
    assert mine.is_file()


def test_what_a_killed_run_left_is_replaced(tmp_path: Path, sources: list[Source]) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    run(other, sources)
    run(out, sources[:2])
    # The picture of an image that no line tells of, as if the process had died before it wrote one; from another run.
    (out / "2.png").mkdir()
    (out / "2.png" / "gradcam.png").write_bytes((other / "0.png" / "gradcam.png").read_bytes())
    run(out, sources)
    assert files_of(out) == files_of(other)


def test_what_a_journal_lists_is_ours_whatever_it_holds(tmp_path: Path, sources: list[Source]) -> None:
    out = tmp_path / "out"
    run(out, sources)
    before = files_of(out)
    put(out / "1.png" / "gradcam.png")
    run(out, sources)
    assert files_of(out) == before


@pytest.mark.parametrize("kind", ["png", "webp", "jpeg"])
@pytest.mark.parametrize("size", [(3, 3), (700, 500)])
def test_each_format_says_that_it_is_ours(tmp_path: Path, kind: str, size: tuple[int, int]) -> None:
    image = Image.effect_noise(size, 90).convert("RGB")
    path = tmp_path / "a"
    path.write_bytes(encode(image, kind, FACTS, 300).data)
    assert is_replaceable(path)
    image.save(path, kind.upper(), comment=b"cnnviz")
    assert not is_replaceable(path)


@pytest.mark.parametrize("kind", ["svg", "pdf"])
def test_drawings_say_so_too(tmp_path: Path, kind: str) -> None:
    if kind == "pdf":
        pytest.importorskip("reportlab")
    path = tmp_path / "a"
    image = Image.effect_noise((300, 200), 90).convert("RGB")
    block = Block(300, 200)
    block.put(image, 0, 0)
    path.write_bytes(encode_figure(block, kind, 1, FACTS, 300)[0].data)
    assert is_replaceable(path)
    path.write_bytes(path.read_bytes().replace(b"cnnviz", b"inkers"))
    assert not is_replaceable(path)


def test_nothing_that_could_be_lost(tmp_path: Path) -> None:
    assert is_replaceable(tmp_path / "absent")
    (tmp_path / "empty").touch()
    assert is_replaceable(tmp_path / "empty")
    (tmp_path / "words").write_text("cnnviz drew this")
    assert not is_replaceable(tmp_path / "words")
