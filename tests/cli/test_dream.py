"""cnnviz dream, from the prompt to the files."""

from __future__ import annotations

import json
import re
from io import BytesIO
from pathlib import Path
from typing import Any

import nets
import numpy as np
import pytest
import torch
from PIL import Image

from cnnviz_cli.core.dream_facts import spectrum_slope
from cnnviz_cli.core.records import Manifest
from cnnviz_cli.run import dream_files

from .conftest import Command, Result

HOW = ("--model", "nets:classifier", "--allow-code", "--input-size", "32", "--threads", "1", "--device", "cpu")
SIDE = 40


@pytest.fixture
def dream(cnnviz: Command) -> Command:
    def run(*arguments: str | Path) -> Result:
        return cnnviz("dream", *arguments, *HOW)

    return run


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """An image with detail of every size."""
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE + 9, 3), dtype=np.uint8)
    path = tmp_path / "photo.png"
    Image.fromarray(noise).resize((98, 80), Image.Resampling.BICUBIC).save(path)
    return path


def manifest(folder: Path) -> Manifest:
    return Manifest.model_validate_json((folder / "manifest.json").read_bytes())


def files(folder: Path) -> dict[str, bytes]:
    """What a run wrote, but for what tells when."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in ("run.json",))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found if path.suffix != ".jsonl"}


def test_classes_are_painted_from_noise(dream: Command, cnnviz: Command, tmp_path: Path) -> None:
    done = dream("--target", "1,3", "--number", "2", "--steps", "3", "-o", tmp_path / "o")
    assert done.code == 0, done.err
    found = manifest(tmp_path / "o")
    assert [image.source for image in found.images] == [
        "class 1 1", "class 1 1 number 2", "class 3 3", "class 3 3 number 2",
    ]  # fmt: skip
    assert [sheet.path for sheet in found.sheets or ()] == ["dream.compare.png"]
    for image in found.images:
        (output,) = image.outputs
        assert output.dream is not None
        assert output.target is not None
        assert (output.width, output.height) == (32, 32)
        assert output.dream.score is not None
        assert f"rank {output.dream.rank}" in done.out
    assert cnnviz("verify", tmp_path / "o").out == "all listed files are unchanged\n"


def test_a_list_of_images_in_a_file_of_settings_is_painted_into(dream: Command, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"{photo}\n", encoding="utf-8")
    config = tmp_path / "own.yaml"
    config.write_text(f"files_from: {tmp_path / 'list.txt'}\n", encoding="utf-8")
    done = dream("-c", config, "--layer", "high", "--dry-run", "-o", tmp_path / "o")
    assert done.code == 0, done.err
    assert done.err.startswith("1 image, ")
    assert "octaves" in done.out


def test_a_second_run_has_nothing_to_do_and_other_settings_paint_anew(dream: Command, tmp_path: Path) -> None:
    asked = ("--target", "1", "--number", "2", "--steps", "2", "-o", tmp_path / "o")
    dream(*asked)
    before = files(tmp_path / "o")
    again = dream(*asked)
    assert "2 of 2" in again.err
    assert files(tmp_path / "o") == before
    (tmp_path / "o" / "class-1-1" / "dream.png").unlink()
    assert "1 of 2" in dream(*asked).err
    assert files(tmp_path / "o") == before
    other = (*asked, "--seed", "4")
    refused = dream(*other)
    assert (refused.code, "0 -> 4" in refused.err, files(tmp_path / "o") == before) == (2, True, True)
    assert dream(*other, "--force").code == 0
    assert files(tmp_path / "o") != before


def test_more_pictures_hold_the_fewer_and_shards_paint_the_same(
    dream: Command, cnnviz: Command, tmp_path: Path
) -> None:
    asked = ("--layer", "high", "--unit", "3,5@centre", "--steps", "2")
    dream(*asked, "--number", "3", "-o", tmp_path / "three")
    dream(*asked, "-o", tmp_path / "one")
    three, one = (files(tmp_path / name) for name in ("three", "one"))
    pictures = {name for name in one if name.endswith("/dream.png")}
    assert len(pictures) == 2
    for name in pictures:
        assert pixels(one[name]).tolist() == pixels(three[name]).tolist()
    for shard in ("0/2", "1/2"):
        assert dream(*asked, "--number", "3", "-o", tmp_path / "parts", "--shard", shard).code == 0
    assert cnnviz("merge", tmp_path / "parts").code == 0
    parts = files(tmp_path / "parts")
    assert {name: data for name, data in parts.items() if name.endswith(".png")} == {
        name: data for name, data in three.items() if name.endswith(".png")
    }
    assert parts["manifest.json"] == three["manifest.json"]
    assert manifest(tmp_path / "parts").sheets == manifest(tmp_path / "three").sheets != []
    assert len({data for name, data in three.items() if name.endswith("/dream.png")}) == 6
    assert cnnviz("verify", tmp_path / "parts").code == 0


@pytest.mark.parametrize("harm", ["gone", "changed"])
def test_a_picture_that_is_gone_or_changed_is_grey_on_the_sheet_of_merged_shards(
    dream: Command, cnnviz: Command, tmp_path: Path, harm: str
) -> None:
    for shard in ("0/2", "1/2"):
        dream("--target", "1,2", "--steps", "1", "-o", tmp_path / "o", "--shard", shard)
    assert cnnviz("merge", tmp_path / "o").code == 0
    sheet = tmp_path / "o" / "dream.compare.png"
    whole = pixels(sheet.read_bytes())
    picture = tmp_path / "o" / "class-2-2" / "dream.png"
    if harm == "gone":
        picture.unlink()
    else:
        with Image.open(picture) as image:
            Image.new("RGB", image.size, "red").save(picture)
    done = cnnviz("merge", tmp_path / "o")
    words = f"class-2-2/dream.png: its file {'is gone' if harm == 'gone' else 'was changed'} since it was painted"
    assert (done.code, words in " ".join(done.err.split())) == (3, True), done.err
    found = manifest(tmp_path / "o")
    assert [one.path for one in found.sheets or ()] == ["dream.compare.png"]
    drawn = pixels(sheet.read_bytes())
    greys = [(image == 224).all(axis=2).mean() for image in (whole, drawn)]
    assert greys[1] > greys[0] + 0.1
    assert not (drawn == (255, 0, 0)).all(axis=2).any()


def pixels(data: bytes) -> Any:
    return np.array(Image.open(BytesIO(data)).convert("RGB"))


def test_scores_are_those_of_the_file(dream: Command, cnnviz: Command, tmp_path: Path) -> None:
    """Worked out here from the PNG alone, by the network itself in float64."""
    dream("--target", "2", "--steps", "4", "--resize", "squash", "-o", tmp_path / "o")
    (output,) = manifest(tmp_path / "o").images[0].outputs
    assert output.dream is not None
    assert output.target is not None
    values = pixels((tmp_path / "o" / output.path).read_bytes())
    mean, std = (torch.tensor(one).view(3, 1, 1).double() for one in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    net = nets.classifier().double().eval()
    scores = net(((torch.from_numpy(values).permute(2, 0, 1).double() / 255 - mean) / std)[None])[0].detach()
    assert output.dream.score == pytest.approx(float(scores[2]), rel=1e-4, abs=1e-5)
    assert output.dream.probability == pytest.approx(float(scores.softmax(0)[2]), abs=2e-4)
    assert output.dream.rank == 1 + int((scores > scores[2]).sum())
    assert output.statistics["slope"] == pytest.approx(spectrum_slope(values), rel=1e-4)
    risen = output.dream.score > (output.dream.start_score or 0)
    assert output.state == ("unmoved" if not risen else "ok" if output.dream.rank == 1 else "unreached")
    done = cnnviz("verify", tmp_path / "o", "--scores", "--allow-code")
    assert done.code == 0, done.err + done.out
    assert "1 picture shown to the network again, 1 received as listed" in done.out


def test_who_explains_the_picture_finds_the_same_probability(dream: Command, cnnviz: Command, tmp_path: Path) -> None:
    dream("--target", "2", "--steps", "4", "--size", "48x40", "-o", tmp_path / "o")
    (output,) = manifest(tmp_path / "o").images[0].outputs
    assert (output.width, output.height) == (40, 48)
    cnnviz("gradcam", tmp_path / "o" / output.path, *HOW, "-o", tmp_path / "explained")
    (image,) = manifest(tmp_path / "explained").images
    assert output.target is not None
    assert output.target.probability in [one.probability for one in image.predictions if one.index == 2]


def test_a_picture_that_was_exchanged_is_received_otherwise(dream: Command, cnnviz: Command, tmp_path: Path) -> None:
    dream("--target", "2", "--steps", "4", "-o", tmp_path / "o")
    Image.new("RGB", (32, 32), (250, 3, 120)).save(tmp_path / "o" / "class-2-2" / "dream.png")
    done = cnnviz("verify", tmp_path / "o", "--scores", "--allow-code", "--json")
    kinds = [problem["kind"] for problem in json.loads(done.out)["differences"]]
    assert done.code == 3
    assert kinds[0] == "changed"
    assert "score" in kinds


def test_a_picture_that_is_gone_is_not_counted_as_shown(dream: Command, cnnviz: Command, tmp_path: Path) -> None:
    dream("--target", "2,1", "--steps", "2", "-o", tmp_path / "o")
    (tmp_path / "o" / "class-2-2" / "dream.png").unlink()
    done = cnnviz("verify", tmp_path / "o", "--scores", "--allow-code")
    assert done.code == 3
    assert "1 picture shown to the network again, 1 received as listed" in done.out


def test_what_names_no_unit_is_shown_as_it_was_written(dream: Command, tmp_path: Path) -> None:
    done = dream("--layer", "trunk.6", "--unit", "a@centre", "-o", tmp_path / "o")
    assert done.code == 2
    assert "--unit: 'unit' must be units, not 'a@centre'" in done.err
    assert "12 is a channel" in done.err


def test_a_picture_too_large_for_memory_names_its_size(
    dream: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object, **_options: object) -> None:
        raise MemoryError

    monkeypatch.setattr("cnnviz_cli.run.dreams.Dreamer._observe", fail)
    done = dream("--target", "2", "--size", "90", "-o", tmp_path / "o")
    assert done.code == 6
    assert "error: --size: out of memory with one image" in done.err


def test_a_class_of_a_segmenter_is_painted_at_any_size_named_and_found_again(
    cnnviz: Command, photo: Path, tmp_path: Path
) -> None:
    how = ("--model", "located:segmenter", "--allow-code", "--input-size", "32", "--threads", "1", "--device", "cpu")
    done = cnnviz("dream", photo, "--target", "top1", "--steps", "2", "--size", "90", *how, "-o", tmp_path / "o")
    assert done.code == 0, done.err
    output = next(one for one in manifest(tmp_path / "o").images[0].outputs if one.dream)
    assert output.target is not None
    assert output.target.probability is None
    done = cnnviz("verify", tmp_path / "o", "--scores", "--allow-code")
    assert done.code == 0, done.out
    assert "1 picture shown to the network again, 1 received as listed" in done.out


def test_the_sheet_of_an_image_tells_its_pictures_apart(
    dream: Command, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles: list[str] = []
    inner = dream_files.compose_change

    def record(before: Any, tiles: Any, *more: Any) -> Any:
        titles.extend(tile.title for tile in tiles)
        return inner(before, tiles, *more)

    monkeypatch.setattr(dream_files, "compose_change", record)
    done = dream(photo, "--layer", "trunk.6", "--steps", "1", "--number", "2", "-o", tmp_path / "o")
    assert done.code == 0, done.err
    assert set(titles) == {"trunk.6", "trunk.6, number 2"}


@pytest.mark.parametrize(
    ("network", "asked", "title"),
    [
        ("located:segmenter", ("--target", "2"), "boat"),
        ("located:detector", ("--objective", "thing", "--target", "1", "--min-score", "0"), "dog"),
    ],
)
def test_the_sheet_of_what_is_located_names_the_label(
    network: str,
    asked: tuple[str, ...],
    title: str,
    cnnviz: Command,
    photo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    titles: list[str] = []
    inner = dream_files.compose_change

    def record(before: Any, tiles: Any, *more: Any) -> Any:
        titles.extend(tile.title for tile in tiles)
        return inner(before, tiles, *more)

    monkeypatch.setattr(dream_files, "compose_change", record)
    labels = tmp_path / "labels.txt"
    labels.write_text("cat\ndog\nboat\n")
    how = ("--model", network, "--allow-code", "--input-size", "32", "--threads", "1", "--device", "cpu")
    done = cnnviz("dream", photo, *asked, "--labels", labels, "--steps", "1", *how, "-o", tmp_path / "o")
    assert done.code == 0, done.err
    assert titles == [title]


def test_the_opposite_picture_lowers_the_answer(dream: Command, tmp_path: Path) -> None:
    low, high = (
        dream("--layer", "trunk.6", "--unit", "3", "--method", "pyramid", "--steps", "6", *more, "-o", tmp_path / name)
        for name, more in (("low", ("--minimize",)), ("high", ()))
    )
    assert low.code == high.code == 0
    scores = []
    for name in ("low", "high"):
        (output,) = manifest(tmp_path / name).images[0].outputs
        assert output.dream is not None
        assert output.state == "ok"
        scores.append((output.dream.score or 0) - (output.dream.start_score or 0))
    assert scores[0] < 0 < scores[1]


def test_an_image_is_painted_into(dream: Command, cnnviz: Command, photo: Path, tmp_path: Path) -> None:
    done = dream(photo, "--steps", "2", "--layer", "high", "-o", tmp_path / "o")
    assert done.code == 0, done.err
    (image,) = manifest(tmp_path / "o").images
    sheet, output = image.outputs
    assert (image.width, image.height) == (output.width, output.height) == (98, 80)
    assert sheet.path == "photo.png/dream.compare.png"
    assert output.dream is not None
    assert (output.dream.score or 0) > (output.dream.start_score or 0)
    assert output.statistics["changed"] > 0
    done = cnnviz("verify", tmp_path / "o", "--scores", "--allow-code")
    assert (done.code, "1 received as listed" in done.out) == (0, True)


def test_without_strength_the_image_comes_back(dream: Command, photo: Path, tmp_path: Path) -> None:
    done = dream(photo, "--steps", "1", "--strength", "0", "-o", tmp_path / "o")
    assert done.code == 0
    assert np.array_equal(pixels((tmp_path / "o/photo.png/dream.png").read_bytes()), np.asarray(Image.open(photo)))
    (image,) = manifest(tmp_path / "o").images
    assert image.outputs[1].state == "flat"
    assert "is flat" in done.err


def test_outside_of_the_region_nothing_changes(dream: Command, photo: Path, tmp_path: Path) -> None:
    mask = np.zeros((80, 98), np.uint8)
    mask[:, :40] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    dream(photo, "--steps", "2", "--region", tmp_path / "mask.png", "-o", tmp_path / "o")
    change = np.abs(
        pixels((tmp_path / "o/photo.png/dream.png").read_bytes()).astype(int)
        - np.asarray(Image.open(photo)).astype(int)
    )
    assert change[:, 40:].max() == 0
    assert change[:, :40].mean() > 1


def test_frames_and_animations(dream: Command, cnnviz: Command, photo: Path, tmp_path: Path) -> None:
    done = dream(photo, "--steps", "1", "--frames", "3", "--zoom", "1.1", "--animate", "-o", tmp_path / "o")
    assert done.code == 0, done.err
    names = sorted(path.name for path in (tmp_path / "o/photo.png").iterdir())
    assert names == [
        "dream.compare.png", "dream.frame-1.png", "dream.frame-2.png", "dream.frame-3.png", "dream.frames.gif",
        "dream.frames.webp",
    ]  # fmt: skip
    for name in ("gif", "webp"):
        with Image.open(tmp_path / f"o/photo.png/dream.frames.{name}") as moving:
            assert moving.n_frames == 3
            assert moving.size == (98, 80)
    assert cnnviz("verify", tmp_path / "o").code == 0


def test_a_folder_with_a_broken_image_goes_on(dream: Command, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(photo.read_bytes())
    (tmp_path / "in" / "b.png").write_bytes(b"no image")
    done = dream(tmp_path / "in", "--steps", "1", "--format", "webp", "-o", tmp_path / "o")
    assert done.code == 3
    assert [image.status for image in manifest(tmp_path / "o").images] == ["ok", "failed"]
    assert (tmp_path / "o/a.png/dream.webp").exists()


def test_likeness_directions_and_methods(dream: Command, cnnviz: Command, photo: Path, tmp_path: Path) -> None:
    assert dream(photo, "--like", photo, "--layer", "high", "--steps", "1", "-o", tmp_path / "like").code == 0
    np.save(tmp_path / "probe.npy", np.arange(16.0))
    asked = ("--layer", "high", "--direction", tmp_path / "probe.npy", "--method", "fourier,pyramid", "--steps", "2")
    assert dream(*asked, "-o", tmp_path / "o").code == 0
    (image,) = manifest(tmp_path / "o").images
    assert [output.path.rpartition("/")[2] for output in image.outputs] == ["dream.fourier.png", "dream.pyramid.png"]
    assert cnnviz("verify", tmp_path / "o", "--scores", "--allow-code").code == 0
    np.save(tmp_path / "probe.npy", -np.arange(16.0))  # another direction under the same name
    refused = dream(*asked, "-o", tmp_path / "o")
    assert (refused.code, "digest of --direction" in refused.err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ("nothing is named to paint", "cnnviz dream photo.jpg", "--target 'tiger cat'")),
        (("--unit", "3"), ("--layer high",)),
        (("--layer", "high", "--unit", "99"), ("16, 0 to 15", "The closest is 15")),
        (("--layer", "high", "--unit", "3@9,0"), ("4 x 4 positions", "The closest is 3,0")),
        (("--layer", "hihg"), ("no layer 'hihg'", "'high'")),
        (("--target", "9"), ("there is no class 9", "0 to 3")),
        (("--target", "top1"), ("--target", "none is named")),
        (("--target", "1", "--layer", "high"), ("--layer", "run the command twice")),
        (("--target", "1", "--frames", "4"), ("--frames is for images",)),
        (("--target", "1", "--method", "octaves"), ("octaves paints from an image",)),
        (("photo.png", "--method", "fourier"), ("fourier paints from noise",)),
        (("photo.png", "--grain", "0.1"), ("--grain", "no chosen method")),
        (("photo.png", "--size", "30x60"), ("--size 60",)),
        (("photo.png", "--animate"), ("--frames 48",)),
        (("--target", "1", "--format", "svg"), ("png, webp or jpeg",)),
        (("--layer", "high", "--direction", "short.npy"), ("'short' is 3", "16 channels")),
        (("--layer", "high", "--direction", "photo.png"), ("no array of numpy's",)),
        (("--layer", "high", "--unit", "x"), ("12@centre",)),
    ],
)
def test_mistakes_are_told_in_a_sentence(
    dream: Command, photo: Path, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    np.save(photo.parent / "short.npy", np.ones(3))
    done = dream(*arguments)
    assert done.code == 2, done.err
    assert "Traceback" not in done.err
    for word in words:
        assert word in done.err
    assert not Path("cnnviz-out").exists() or not list(Path("cnnviz-out").rglob("*.png"))


def test_a_size_that_the_network_does_not_take(cnnviz: Command) -> None:
    how = ("--model", "nets:lenet", "--allow-code", "--input-size", "32", "--threads", "1")
    done = cnnviz("dream", "--target", "1", "--size", "20", *how)
    assert done.code == 2
    assert "does not take pictures of 20 x 20 pixels" in done.err


def test_a_dry_run_writes_nothing(dream: Command, photo: Path) -> None:
    done = dream(photo, "--frames", "2", "--dry-run")
    assert done.code == 0, done.err
    assert "photo.png/dream.frame-2.png" in done.out
    assert not Path("cnnviz-out").exists()
    done = dream("--target", "1", "--dry-run")
    assert "class-1-1/dream.png" in done.out


def test_grey_networks_paint_in_grey(cnnviz: Command, tmp_path: Path) -> None:
    how = ("--model", "nets:grey_classifier", "--allow-code", "--input-size", "28", "--threads", "1")
    assert cnnviz("dream", "--target", "1", "--steps", "3", *how, "-o", tmp_path / "o").code == 0
    values = pixels((tmp_path / "o/class-1-1/dream.png").read_bytes())
    assert np.array_equal(values[..., 0], values[..., 1])
    assert cnnviz("verify", tmp_path / "o", "--scores", "--allow-code").code == 0


@pytest.mark.slow
def test_the_bundled_network_takes_its_dream_for_the_class(cnnviz: Command, tmp_path: Path) -> None:
    asked = ("--target", "espresso", "--method", "pyramid", "--steps", "8", "-o", tmp_path / "o")
    assert cnnviz("dream", *asked).code == 0
    (output,) = manifest(tmp_path / "o").images[0].outputs
    assert output.dream is not None
    assert (output.dream.rank, output.state) == (1, "ok")
    assert (output.dream.probability or 0) > 0.5


def test_no_two_flags_of_the_command_have_one_name(cnnviz: Command) -> None:
    flags = re.findall(r"^ {2,6}(?:-\w, )?--(?:\[no-\])?([a-z-]+)", cnnviz("dream", "--help").out, re.MULTILINE)
    assert len(flags) == len(set(flags)) > 40


def test_an_accentuation_of_nothing_named_is_of_the_likeliest_class(
    dream: Command, cnnviz: Command, photo: Path, tmp_path: Path
) -> None:
    short = (photo, "--steps", "2")
    dream(*short, "--method", "accentuation", "-o", tmp_path / "a")
    dream(*short, "--method", "accentuation", "--target", "top1", "-o", tmp_path / "b")
    dream(*short, "--method", "accentuation", "--layer", "mid", "-o", tmp_path / "c")
    dream(*short, "--method", "octaves,accentuation", "-o", tmp_path / "d")
    dream(*short, "-o", tmp_path / "e")
    painted = {
        name: {one.method: one for one in manifest(tmp_path / name).images[0].outputs if one.dream} for name in "abcde"
    }
    target = painted["a"]["accentuation"].target
    assert target is not None
    cnnviz("gradcam", photo, *HOW, "-o", tmp_path / "explained")
    assert target.index == manifest(tmp_path / "explained").images[0].predictions[0].index
    assert painted["c"]["accentuation"].target is None
    assert painted["d"]["octaves"].target is None
    # Files say their settings.
    pixels = {
        (name, method): np.asarray(Image.open(tmp_path / name / one.path)).tobytes()
        for name, outputs in painted.items()
        for method, one in outputs.items()
    }
    alike = [pixels[name, "accentuation"] for name in "abd"]
    assert len(set(alike)) == 1
    assert pixels["c", "accentuation"] not in alike
    assert pixels["d", "octaves"] == pixels["e", "octaves"]
    for name in "abcd":
        checked = cnnviz("verify", tmp_path / name, "--scores", "--allow-code")
        assert checked.code == 0, checked.out + checked.err
