"""concepts.npz: written, read back, and read as a file that anyone may have written."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnviz_cli.core.concept_records import ConceptFacts
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.files.tables.concept_file import ConceptFile, read_concepts

K, CHANNELS = 3, 5
FACTS = ConceptFacts(
    format=1, dictionary="nmf", layer="head", model="tiny", weights="random:0", weights_sha256="0" * 64, size=(32, 48),
    head="head", of="crops", share=0.42, rows=9, error=0.25, seed=0, names=["cups", None, None],
    classes=[["cup"], [], ["cat", "dog"]], colors=["#d95f02", "#5e3c99", "#1b9e77"],
)  # fmt: skip


def arrays() -> dict[str, Any]:
    basis = np.random.default_rng(0).random((K, CHANNELS)).astype(np.float32)
    basis[2] = 0
    return {
        "basis": basis, "energies": np.arange(K, dtype=np.float64), "error": np.array(0.25),
        "peaks": np.ones(K, np.float32), "most": np.full(K, 2.0, np.float32),
    }  # fmt: skip


def written(path: Path, **changes: Any) -> Path:
    whole = {**ConceptFile(FACTS, arrays()).to_arrays(), **changes}
    np.savez(path, **{name: values for name, values in whole.items() if values is not None})
    return path


def said(**changes: Any) -> np.ndarray[Any, Any]:
    about = FACTS.model_dump(mode="json") | changes
    return np.array(json.dumps({name: value for name, value in about.items() if value != "absent"}))


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    found = read_concepts(written(tmp_path / "concepts.npz"), "--basis")
    assert found.facts == FACTS
    assert found.count == K
    assert len(found.sha256) == 64
    for name, values in arrays().items():
        assert np.array_equal(found.arrays[name], values)
    assert "peaks" not in found.dictionary
    assert "most" not in found.dictionary


def test_a_direction_is_that_of_the_concept_with_the_number(tmp_path: Path) -> None:
    found = read_concepts(written(tmp_path / "concepts.npz"), "--basis")
    assert np.array_equal(found.direction(2, "--direction"), arrays()["basis"][1])
    for number, word in ((0, "there is no 0"), (4, "there is no 4"), (3, "empty")):
        with pytest.raises(UsageError, match=word):
            found.direction(number, "--direction")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"basis": None}, "lacks an array"),
        ({"about": None}, "lacks an array"),
        ({"basis": np.zeros((K, CHANNELS))}, "no matrix of float32"),
        ({"basis": np.zeros(K, np.float32)}, "no matrix of float32"),
        ({"basis": np.full((K, CHANNELS), np.nan, np.float32)}, "not finite"),
        ({"peaks": np.ones(K + 1, np.float32)}, "how much of each"),
        ({"most": None}, "lacks an array"),
        ({"energies": np.array(["a"] * K)}, "no array of numbers"),
        ({"Upper": np.zeros(1)}, "no array of numbers"),
        ({"about": np.array("{")}, ""),
        ({"about": np.array("[" * 100_000)}, ""),
        ({"about": np.zeros(3)}, "no text"),
        ({"about": said(format=2)}, "format"),
        ({"about": said(extra=1)}, "extra"),
        ({"about": said(rows="absent")}, "rows"),
        ({"about": said(names=["a"])}, "does not name 3"),
        ({"about": said(colors=["red"] * K)}, "colours"),
        ({"about": said(share=-1)}, "crops"),
        ({"about": said(share=1e-9)}, "crops"),
        ({"about": said(error=1e308)}, "error"),
        ({"basis": -arrays()["basis"]}, "below zero"),
        ({"basis": arrays()["basis"] * np.float32(1e-40)}, "unit vectors"),
        ({"basis": arrays()["basis"] * np.float32(1e30)}, "unit vectors"),
    ],
)
def test_a_file_that_is_none_is_one_sentence(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match="is no file of concepts") as caught:
        read_concepts(written(tmp_path / "x.npz", **changes), "--basis")
    assert why in caught.value.what
    assert caught.value.where == "--basis"
    assert "\n" not in caught.value.what


class Harmful:
    def __reduce__(self) -> Any:
        return Path("/nonexistent").touch, ()


def test_no_pickle_is_opened(tmp_path: Path) -> None:
    harmful = np.array([Harmful()], dtype=object)
    for name in ("basis", "about"):
        path = written(tmp_path / f"{name}.npz", **{name: harmful})
        with pytest.raises(UsageError, match="is no file of concepts"):
            read_concepts(path, "--basis")
    bare = tmp_path / "bare.npz"
    bare.write_bytes(pickle.dumps({"basis": 1}))
    with pytest.raises(UsageError, match="no archive"):
        read_concepts(bare, "--basis")


def test_what_unpacks_to_too_much_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnviz_cli.files.tables.concept_file._MAX_BYTES", 1 << 20)
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("basis.npy", bytes((1 << 20) + 1))
    assert path.stat().st_size < 1 << 14
    with pytest.raises(UsageError, match="more than concepts"):
        read_concepts(path, "--basis")


def test_a_header_that_lies_about_its_size_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 1)})
    path = written(tmp_path / "x.npz", basis=None)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("basis.npy", buffer.getvalue() + bytes(64))
    with pytest.raises(UsageError, match="is no file of concepts"):
        read_concepts(path, "--basis")


def test_a_file_with_a_changed_byte_is_refused_or_read(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, **ConceptFile(FACTS, arrays()).to_arrays())
    whole, refused = path.read_bytes(), 0
    for at in range(0, len(whole), 3):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :])
        try:
            read_concepts(path, "--basis")
        except UsageError as error:
            refused += "is no file of concepts" in error.what
    assert refused > len(whole) // 6


def test_a_file_that_is_gone_or_no_file(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.npz", tmp_path):
        with pytest.raises(UsageError, match="cannot be read"):
            read_concepts(path, "--direction")
    (tmp_path / "empty.npz").write_bytes(b"")
    with pytest.raises(UsageError, match="is no file of concepts"):
        read_concepts(tmp_path / "empty.npz", "--direction")
