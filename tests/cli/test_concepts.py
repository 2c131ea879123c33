"""cnnviz concepts, from the prompt to the files."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnviz_cli.core.records import Manifest
from cnnviz_cli.run.feature_pass import SeenBatch
from cnnviz_cli.studies.concepts import autoencoder, conclude
from cnnviz_cli.studies.concepts.study import ConceptsStudy

from .conftest import Command, Result

NET = ("--model", "nets:classifier", "--allow-code", "--input-size", "48", "--threads", "1", "--device", "cpu")
COUNT = 4


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    draw = np.random.default_rng(0)
    for number in range(COUNT):
        noise = draw.integers(0, 256, (6, 8 + number, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((96 + 8 * number, 72), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def concepts(cnnviz: Command, photos: Path) -> Command:
    def run(*arguments: str | Path, images: Path = photos) -> Result:
        return cnnviz("concepts", images, *NET, *arguments)

    return run


def manifest(folder: Path) -> Manifest:
    return Manifest.model_validate_json((folder / "manifest.json").read_bytes())


def found_in(folder: Path) -> Any:
    findings = manifest(folder).findings
    assert findings is not None
    assert findings.concepts is not None
    return findings.concepts


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "run.json")
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in found
        if path.suffix not in (".jsonl", ".json") and not path.name.startswith("run.")
    }


def test_shares_bias_and_the_rest_are_the_logit(concepts: Command, tmp_path: Path) -> None:
    done = concepts("--concepts", "3", "-o", tmp_path / "o")
    assert done.code == 0, done.err
    found = found_in(tmp_path / "o")
    assert found.how == "exact"
    assert (found.of, found.rows) == ("crops", COUNT * 9)
    assert [one.number for one in found.concepts] == [1, 2, 3]
    importance = [one.importance for one in found.concepts]
    assert importance == sorted(importance, reverse=True)
    whole = manifest(tmp_path / "o")
    for image in whole.images:
        assert image.findings is not None
        told = image.findings.concepts
        assert told is not None
        assert told.rest is not None
        assert told.bias is not None
        assert sum(told.adds) + told.bias + told.rest == pytest.approx(told.score, abs=1e-4)
        assert told.label == image.predictions[0].label
        (output,) = image.outputs
        assert (tmp_path / "o" / output.path).is_file()
    means = np.mean([image.findings.concepts.adds for image in whole.images], 0)  # type: ignore[union-attr]
    assert importance == pytest.approx(means, abs=1e-4)
    assert [one.path for one in whole.sheets or ()] == ["concepts.png"]
    assert [one.path for one in whole.tables or ()] == ["concepts.npz", "concepts.csv"]
    assert "relative error" in done.out


def test_the_table_adds_up(concepts: Command, tmp_path: Path) -> None:
    assert concepts("--concepts", "2", "-o", tmp_path / "o").code == 0
    with (tmp_path / "o" / "concepts.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for name in {row["image"] for row in rows}:
        own = {(row["part"], row["number"]): float(row["adds"]) for row in rows if row["image"] == name}
        score = own.pop(("score", ""))
        assert len(own) == 4
        assert sum(own.values()) == pytest.approx(score, abs=1e-4)


def test_the_same_twice_and_nothing_again(concepts: Command, cnnviz: Command, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert concepts("--concepts", "3", "--crops", "none", "-o", tmp_path / name).code == 0
    first = files(tmp_path / "a")
    assert first == files(tmp_path / "b")
    again = concepts("--concepts", "3", "--crops", "none", "-o", tmp_path / "a")
    assert "already done" in again.err + again.out
    assert files(tmp_path / "a") == first
    assert cnnviz("verify", tmp_path / "a").code == 0


def test_an_old_basis_in_other_images(concepts: Command, photos: Path, tmp_path: Path) -> None:
    assert concepts("--concepts", "3", "-o", tmp_path / "a").code == 0
    old = tmp_path / "a" / "concepts.npz"
    few = tmp_path / "few"
    few.mkdir()
    (few / "0.png").write_bytes((photos / "0.png").read_bytes())
    done = concepts("--basis", old, "-o", tmp_path / "b", images=few)
    assert done.code == 0, done.err
    before, now = found_in(tmp_path / "a"), found_in(tmp_path / "b")
    assert now.basis is not None
    assert now.basis.error == pytest.approx(before.error, abs=1e-5)
    assert now.rows == 9
    # Numbers, colours and names are the old ones, and so is what they add in an image that both have seen.
    assert [one.color for one in now.concepts] == [one.color for one in before.concepts]
    assert [one.classes for one in now.concepts] == [one.classes for one in before.concepts]
    adds = [
        next(one for one in manifest(tmp_path / name).images if one.source.endswith("0.png")).findings.concepts.adds  # type: ignore[union-attr]
        for name in ("a", "b")
    ]
    assert adds[0] == pytest.approx(adds[1], abs=1e-4)
    assert f"{before.error:.3f} in the images" in done.out


def test_a_basis_of_another_network_or_layer_is_refused(
    concepts: Command, cnnviz: Command, photos: Path, tmp_path: Path
) -> None:
    assert concepts("--concepts", "2", "-o", tmp_path / "a").code == 0
    old = tmp_path / "a" / "concepts.npz"
    cases = {
        ("--layer", "trunk.2"): "are of layer 'trunk', not of 'trunk.2'",
        ("--concepts", "3"): "the concepts are those of",
        ("--dictionary", "sae"): "the concepts are those of",
    }
    for more, why in cases.items():
        done = concepts("--basis", old, *more, "-o", tmp_path / "b")
        assert done.code == 2
        assert why in done.err
    another = ("--model", "nets:templates", *NET[2:])
    other = cnnviz("concepts", photos, *another, "--basis", old, "-o", tmp_path / "c")
    assert other.code == 2
    assert "the concepts in 'concepts.npz' are of" in other.err


def test_auto_takes_the_knee(concepts: Command, tmp_path: Path) -> None:
    done = concepts("--concepts", "auto", "--crops", "none", "-o", tmp_path / "o")
    assert done.code == 0, done.err
    found = found_in(tmp_path / "o")
    assert found.curve is not None
    assert found.curve.counts[0] == 2
    assert len(found.concepts) in found.curve.counts
    assert found.curve.errors[0] >= found.curve.errors[-1]


def test_where_the_head_does_not_pool_sobol_tells(concepts: Command, tmp_path: Path) -> None:
    done = concepts("--concepts", "2", "--layer", "trunk.2", "--crops", "none", "-o", tmp_path / "o")
    assert done.code == 0, done.err
    found = found_in(tmp_path / "o")
    assert found.how == "sobol"
    assert found.rest is None
    told = manifest(tmp_path / "o").images[0].findings.concepts  # type: ignore[union-attr]
    assert told is not None
    assert (told.bias, told.rest) == (None, None)
    assert told.without is not None
    assert told.effects is not None
    assert sum(told.adds) >= 0.9
    # By how much both effects raise the score is about what is missing without them.
    assert told.without + sum(told.effects) == pytest.approx(
        told.score, abs=0.25 * abs(told.score - told.without) + 0.05
    )


def test_an_autoencoder(concepts: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoencoder, "STEPS", 200)
    # Fewer than the five that a row of many uses.
    done = concepts("--concepts", "4", "--dictionary", "sae", "--crops", "none", "-o", tmp_path / "o")
    assert done.code == 0, done.err
    found = found_in(tmp_path / "o")
    assert (found.dictionary, len(found.concepts)) == ("sae", 4)
    with np.load(tmp_path / "o" / "concepts.npz", allow_pickle=False) as file:
        assert "encoder" in file.files
    again = concepts("--basis", tmp_path / "o" / "concepts.npz", "-o", tmp_path / "b")
    assert again.code == 0, again.err
    assert found_in(tmp_path / "b").error == pytest.approx(found.error, abs=1e-5)


def test_names_of_ones_own(concepts: Command, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("cups\n\nmuzzles\n\n", encoding="utf-8")
    assert concepts("--concepts", "3", "--concept-names", names, "-o", tmp_path / "o").code == 0
    assert [one.name for one in found_in(tmp_path / "o").concepts] == ["cups", None, "muzzles"]
    refused = concepts("--concepts", "2", "--concept-names", names, "-o", tmp_path / "p")
    assert refused.code == 2
    assert "names.txt:3: this is a name for 3 concepts, and there are 2" in refused.err


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (("--layer", "trunk.1"), "Name the layer behind its ReLU: --layer trunk.2"),
        (("--layer", "trunk.6"), "values below zero"),
        (("--concepts", "auto", "--dictionary", "sae", "--layer", "trunk.6"), "auto looks for the number by NMF"),
        (("--layer", "trunk*"), "layers, and concepts are of one"),
        (
            ("--layer", "trunk.2", "--concepts", "9", "--target", "0"),
            "9 concepts cannot be told apart by the 8 channels",
        ),
        (("--concepts", "37", "--dictionary", "sae"), "37 concepts cannot be told apart by the 36 crops of 4 images"),
        (("--target", "top2"), "concepts add to one class of each image, and 2 are named"),
        (("--crops", "2"), "must be none or a share from 0.05 to 1"),
        (("--concepts", "1"), "must be auto or a whole number from 2 to 4096"),
        (("--basis", "gone.npz"), "'gone.npz' cannot be read"),
    ],
)
def test_what_cannot_be_is_one_sentence(concepts: Command, more: tuple[str, ...], why: str) -> None:
    done = concepts("--crops", "none", "--concepts", "3", *more) if "trunk" in more[-1] else concepts(*more)
    assert done.code == 2
    assert why in done.err
    assert "Traceback" not in done.err


def test_a_layer_with_values_below_zero_is_refused_after_the_first_batch(
    concepts: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[int] = []
    take = ConceptsStudy._take

    def counted(study: ConceptsStudy, batch: SeenBatch) -> Any:
        shown.extend(batch.at)
        return take(study, batch)

    monkeypatch.setattr(ConceptsStudy, "_take", counted)
    monkeypatch.setattr(autoencoder, "STEPS", 20)
    more = ("--crops", "none", "--concepts", "3", "--batch-size", "1", "--layer")
    assert concepts(*more, "trunk.6").code == 2
    assert shown == [0]
    assert concepts(*more, "trunk.6", "--dictionary", "sae").code == 0
    assert shown == [0, *range(COUNT)]


def test_one_image(concepts: Command, photos: Path, tmp_path: Path) -> None:
    one = tmp_path / "one"
    one.mkdir()
    (one / "0.png").write_bytes((photos / "0.png").read_bytes())
    done = concepts("--concepts", "4", "-o", tmp_path / "o", images=one)
    assert done.code == 0, done.err
    assert found_in(tmp_path / "o").rows == 9


def test_an_image_that_cannot_be_read_is_left_out(concepts: Command, photos: Path, tmp_path: Path) -> None:
    (photos / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    done = concepts("--concepts", "3", "-o", tmp_path / "o")
    assert done.code == 3
    assert found_in(tmp_path / "o").explained == COUNT


def test_a_class_of_all_images(concepts: Command, tmp_path: Path) -> None:
    assert concepts("--concepts", "2", "--target", "3", "-o", tmp_path / "o").code == 0
    (only,) = found_in(tmp_path / "o").by_class
    assert (only.index, only.images) == (3, COUNT)


def test_a_dry_run_says_what_would_be_done(concepts: Command, tmp_path: Path) -> None:
    done = concepts("--dry-run", "-o", tmp_path / "o")
    assert done.code == 0, done.err
    assert "10 concepts by NMF of 9 crops of each image" in done.out
    assert "exact share of the logit" in done.out
    assert not (tmp_path / "o").exists()


def test_the_direction_of_a_concept_is_painted(concepts: Command, cnnviz: Command, tmp_path: Path) -> None:
    assert concepts("--concepts", "2", "-o", tmp_path / "o").code == 0
    file = tmp_path / "o" / "concepts.npz"
    how = (*NET, "--steps", "2")
    done = cnnviz("dream", "--direction", f"{file}:2", "-o", tmp_path / "d", *how)
    assert done.code == 0, done.err
    told = json.loads((tmp_path / "d" / "manifest.json").read_text(encoding="utf-8"))
    assert told["images"][0]["subject"] == {"layer": "trunk", "direction": "concept 2"}
    assert told["run"]["config"]["dream"]["direction"] == "concepts.npz:2"
    # The direction is the row of the basis.
    with np.load(file, allow_pickle=False) as arrays:
        np.save(tmp_path / "concept 2.npy", arrays["basis"][1])
    plain = cnnviz("dream", "--direction", tmp_path / "concept 2.npy", "--layer", "trunk", "-o", tmp_path / "e", *how)
    assert plain.code == 0, plain.err
    pictures = [np.asarray(Image.open(next((tmp_path / name).rglob("dream.png")))) for name in ("d", "e")]
    assert np.array_equal(*pictures)
    for direction, more, why in (
        (f"{file}:3", (), "has concepts 1 to 2: there is no 3"),
        (str(file), (), f"Say which: --direction {file}:1"),
        (f"{file}:1", ("--layer", "trunk.2"), "is a direction of layer 'trunk'"),
    ):
        refused = cnnviz("dream", "--direction", direction, *more, *how)
        assert refused.code == 2
        assert why in refused.err
    other = cnnviz("dream", "--direction", f"{file}:1", "--model", "nets:templates", *NET[2:])
    assert other.code == 2
    assert "are of" in other.err


def test_the_sheet_says_how_rough_indices_are_and_which_images_have_columns(
    concepts: Command, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boards: list[Any] = []
    compose = conclude.folder_board
    monkeypatch.setattr(conclude, "folder_board", lambda *given: boards.append(compose(*given)) or boards[-1])
    for number in range(COUNT):
        (photos / f"copy {number}.png").write_bytes((photos / f"{number}.png").read_bytes())
    done = concepts("--concepts", "2", "--layer", "trunk.2", "--crops", "none", "-o", tmp_path / "o")
    assert done.code == 0, done.err
    (board,) = boards
    assert len(board.columns) == 6
    assert "6 of 8 images have columns" in board.facts
    foot = " ".join(board.foot)
    assert "Sobol's total indices of 32 designs, each to about 0.1" in foot
    assert "the image in which it does most. Averages are over all 8 images." in foot
