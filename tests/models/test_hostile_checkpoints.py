"""Checkpoints made to hang or to fill the memory: exit 4 and one sentence, whatever is in them."""

from __future__ import annotations

import io
import json
import pickle
import signal
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cnnviz_cli.cli.main import main
from cnnviz_cli.core.errors import ExitCode, ModelError
from cnnviz_cli.models.load.checkpoint import check_pickles, read_state_dict


def holding_itself(keys: list[Any], **tensors: torch.Tensor) -> dict[Any, Any]:
    found: dict[Any, Any] = dict(tensors)
    for key in keys:
        found[key] = found
    return found


def list_holding_itself() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


def doubling(levels: int) -> dict[str, Any]:
    """Each level holds the next one twice: 2^levels dicts if each way is followed."""
    found: dict[str, Any] = {}
    for _ in range(levels):
        found = {"a": found, "b": found}
    return found


def nested(levels: int) -> Any:
    found: Any = {}
    for _ in range(levels):
        found = [found]
    return {"state_dict": found}


def wide(count: int) -> dict[str, Any]:
    return {str(number): {"x": {"y": {}}} for number in range(count)}


HOSTILE: dict[str, tuple[Callable[[], Any], str]] = {
    "a dict that holds itself under many keys": (lambda: holding_itself([f"k{n}" for n in range(40)]), "no state dict"),
    "a dict that holds itself under no name": (lambda: holding_itself([""]), "no state dict"),
    "a dict that holds itself under its usual name": (lambda: holding_itself(["state_dict", "model"]), "no state dict"),
    "dicts held twice each": (lambda: doubling(60), "no state dict"),
    "lists nested deeply": (lambda: nested(5000), "no state dict"),
    "more dicts than are looked through": (lambda: wide(12_000), "no state dict"),
    "a list that holds itself": (list_holding_itself, "no state dict"),
    "no values": (lambda: {"fc.weight": torch.empty(2, 2, device="meta")}, "saved from the meta device"),
    "sparse": (lambda: {"fc.weight": torch.eye(3).to_sparse()}, "sparse tensors, for instance 'fc.weight'"),
    "sparse by rows": (lambda: {"fc.weight": torch.eye(3).to_sparse_csr()}, "sparse tensors"),
    "numbers that are not there": (
        lambda: {"fc.weight": torch.zeros(1).expand(10**12, 512)},
        "'fc.weight' claims more numbers than the file has for it",
    ),
}


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
@pytest.mark.parametrize(("make", "said"), HOSTILE.values(), ids=list(HOSTILE))
def test_a_hostile_checkpoint_is_one_sentence(tmp_path: Path, make: Callable[[], Any], said: str) -> None:
    made = make()
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(100_000)
    try:
        torch.save(made, tmp_path / "x.pth")
    finally:
        sys.setrecursionlimit(limit)
    with pytest.raises(ModelError) as caught:
        read_state_dict(tmp_path / "x.pth")
    assert said in caught.value.what
    assert caught.value.code is ExitCode.MODEL == 4
    assert "\n" not in caught.value.what
    assert len(caught.value.what) < 700


def test_a_state_dict_beside_a_loop_is_found(tmp_path: Path) -> None:
    """What is usable stays usable: dicts that lead to one another are looked at once each."""
    weight = torch.arange(4.0)
    made = holding_itself(["a", "b"])
    made["state_dict"] = {"fc.weight": weight}
    torch.save(made, tmp_path / "x.pth")
    found = read_state_dict(tmp_path / "x.pth")
    assert found.key == "state_dict"
    assert torch.equal(found.state_dict["fc.weight"], weight)


def test_an_archive_that_unpacks_beyond_measure_is_refused(tmp_path: Path) -> None:
    whole = io.BytesIO()
    torch.save({"fc.weight": torch.zeros(8)}, whole)
    with zipfile.ZipFile(whole) as plain, zipfile.ZipFile(tmp_path / "x.pth", "w", zipfile.ZIP_DEFLATED) as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    data = bytearray((tmp_path / "x.pth").read_bytes())
    at = data.rindex(b"PK\1\2")  # what the list says of the size of its last member
    data[at + 24 : at + 28] = (2**32 - 2).to_bytes(4, "little")
    (tmp_path / "x.pth").write_bytes(data)
    with pytest.raises(ModelError, match=r"it would unpack to 4 GiB"):
        read_state_dict(tmp_path / "x.pth")


@pytest.mark.parametrize(
    "header",
    [
        b"{" * 1000,
        b'{"a":' * 100_000,
        json.dumps({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode(),
        json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}}).encode(),
        json.dumps({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 8]}}).encode(),
        json.dumps({"a": {"dtype": "X", "shape": [2], "data_offsets": [0, 8]}}).encode(),
        json.dumps({"a": 1}).encode(),
        b"{}\0\0",
    ],
    ids=["braces", "nested", "claims terabytes", "backwards", "below zero", "no type", "no tensor", "NULs"],
)
def test_a_wrong_header_of_safetensors_is_named(tmp_path: Path, header: bytes) -> None:
    pytest.importorskip("safetensors")
    for length in (len(header), 2**63, 0):
        (tmp_path / "x.safetensors").write_bytes(length.to_bytes(8, "little") + header + bytes(8))
        with pytest.raises(ModelError):
            read_state_dict(tmp_path / "x.safetensors")


def test_a_pickle_of_a_loop_by_other_means_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(pickle.dumps(holding_itself(["a"]), protocol=2))
    with pytest.raises(ModelError):
        read_state_dict(tmp_path / "x.pth")


def keyed_by_tuples(levels: int) -> bytes:
    """A pickle of a dict whose one key is a tuple that holds the next one twice, and so on."""
    key: Any = ()
    for _ in range(levels):
        key = (key, key)
    return b"\x80\x02}" + pickle.dumps(key, protocol=2)[2:-1] + b"K\x01s."


def in_an_archive(pickled: bytes) -> bytes:
    whole, made = io.BytesIO(), io.BytesIO()
    torch.save({"fc.weight": torch.zeros(2)}, whole)
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(made, "w") as new:
        for name in old.namelist():
            new.writestr(name, pickled if name.endswith("data.pkl") else old.read(name))
    return made.getvalue()


def in_an_old_file(pickled: bytes) -> bytes:
    whole = io.BytesIO()
    torch.save({}, whole, _use_new_zipfile_serialization=False)
    return whole.getvalue().replace(pickle.dumps({}, protocol=2), pickled)


@pytest.mark.parametrize("form", [in_an_archive, in_an_old_file])
def test_a_key_that_would_take_a_day_to_hash_is_refused(tmp_path: Path, form: Callable[[bytes], bytes]) -> None:
    """Where the check fails this test hangs, as the program would."""
    (tmp_path / "few.pth").write_bytes(form(keyed_by_tuples(3)))
    with pytest.raises(ModelError, match="holds no state dict"):
        read_state_dict(tmp_path / "few.pth")
    data = form(keyed_by_tuples(60))
    assert len(data) < 2500
    (tmp_path / "many.pth").write_bytes(data)
    with pytest.raises(ModelError, match="that would take for ever to load"):
        read_state_dict(tmp_path / "many.pth")


EMPTY_ARCHIVE = b"PK\5\6" + bytes(18)

DISGUISES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "an old file with the end of an archive": (lambda data: in_an_old_file(data) + EMPTY_ARCHIVE, "for ever to load"),
    "another name in the file's own header": (
        lambda data: in_an_archive(data).replace(b"data.pkl", b"Data.pkl", 1),
        "is not a weights file, or is damaged",
    ),
    "capital letters, which are the same to torch": (
        lambda data: in_an_archive(data).replace(b"data.pkl", b"data.PKL"),
        "for ever to load",
    ),
    "a second end of the archive": (
        lambda data: in_an_archive(data)[:-2] + struct.pack("<H", len(EMPTY_ARCHIVE)) + EMPTY_ARCHIVE,
        "is not a weights file, or is damaged",
    ),
}


@pytest.mark.parametrize("name", DISGUISES)
def test_the_pickle_that_torch_reads_is_the_one_that_is_followed(tmp_path: Path, name: str) -> None:
    """Whatever another reader of archives finds in the file. Where the check fails this test hangs."""
    disguise, said = DISGUISES[name]
    (tmp_path / "x.pth").write_bytes(disguise(keyed_by_tuples(60)))
    with pytest.raises(ModelError, match=said):
        read_state_dict(tmp_path / "x.pth")


def text_of(text: str) -> bytes:
    data = text.encode()
    return b"X" + struct.pack("<I", len(data)) + data


BYTEARRAY, ENCODE = b"c__builtin__\nbytearray\n", b"c_codecs\nencode\n"

CALLS = {
    "a bytearray of a number": BYTEARRAY + b"J\xff\xff\xff\x7f\x85R",
    "a bytearray of a list": BYTEARRAY + b"]J\xff\xff\xff\x7faR",
    "a bytearray of what a call gives": BYTEARRAY + b"c__builtin__\nset\n)R\x85R",
    "a function from the memo": b"c__builtin__\nbytearray\nq\x00" + b"h\x00J\xff\xff\xff\x7f\x85R",
    "a name from the stack": text_of("builtins") + text_of("bytearray") + b"\x93J\xff\xff\xff\x7f\x85R",
    "a slow codec": ENCODE
    + text_of("".join(map(chr, range(0x4E00, 0x4E00 + 20000))) * 10)
    + text_of("punycode")
    + b"\x86R",
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_takes_for_ever_or_all_memory_is_refused(tmp_path: Path, name: str) -> None:
    data = b"\x80\x02}" + text_of("x") + CALLS[name] + b"s."
    for form in (in_an_archive, in_an_old_file):
        (tmp_path / "x.pth").write_bytes(form(data))
        with pytest.raises(ModelError, match="or calls, that would take for ever to load"):
            read_state_dict(tmp_path / "x.pth")


@pytest.mark.parametrize("new", [True, False])
def test_bytes_in_a_checkpoint_are_let_through(tmp_path: Path, new: bool) -> None:
    state = {"fc.weight": torch.ones(2), "note": b"\xff" * 1000, "log": bytearray(b"\xfe" * 1000), "none": bytearray()}
    torch.save({"state_dict": state, **state}, tmp_path / "x.pth", _use_new_zipfile_serialization=new)
    assert read_state_dict(tmp_path / "x.pth").state_dict["fc.weight"].tolist() == [1, 1]


@pytest.mark.parametrize("new", [True, False])
def test_following_a_pickle_changes_nothing(tmp_path: Path, new: bool) -> None:
    """Of a sound file every operation is followed to its end, and the stack comes out with the one value."""
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    optimizer = torch.optim.Adam(net.parameters())
    state = {"state_dict": net.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3, "best": (0.5, "x", None)}
    torch.save(state, tmp_path / "x.pth", _use_new_zipfile_serialization=new)
    with (tmp_path / "x.pth").open("rb") as file:
        check_pickles(file)
        assert file.tell() == 0
    assert read_state_dict(tmp_path / "x.pth").state_dict.keys() == net.state_dict().keys()


def test_none_of_them_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The two that did, under a watchdog."""

    def hangs(*_about: object) -> None:
        raise AssertionError("it hangs")

    monkeypatch.chdir(tmp_path)
    torch.save(holding_itself([f"k{n}" for n in range(40)]), "selfmany.pth")
    torch.save(holding_itself([""]), "selfempty.pth")
    terminating, alarmed = signal.getsignal(signal.SIGTERM), signal.signal(signal.SIGALRM, hangs)
    signal.setitimer(signal.ITIMER_REAL, 120)
    try:
        codes = [main(["gradcam", name, "--weights", name]) for name in ("selfmany.pth", "selfempty.pth")]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, alarmed)
        signal.signal(signal.SIGTERM, terminating)
    assert codes == [ExitCode.MODEL] * 2
    said = capsys.readouterr().err
    assert said.count("holds no state dict") == 2
    assert "Traceback" not in said
