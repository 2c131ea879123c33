"""DICOM images: windows, colours, packing; hostile files; and nothing of a patient in anything that is written."""

from __future__ import annotations

import io
import json
import warnings
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnviz_cli.cli.main import main
from cnnviz_cli.core.errors import ImageError
from cnnviz_cli.core.file_reading import READ_ALL, ReadOptions
from cnnviz_cli.files.images.decode import DecodedImage, read_converted, read_image
from cnnviz_cli.files.images.pixel_values import to_rgb

pytestmark = [
    pytest.mark.skipif(find_spec("pydicom") is None, reason="pydicom is an extra"),
    pytest.mark.filterwarnings("ignore::UserWarning"),  # pydicom's, of the files that tests make
]

SECRETS = {
    "PatientName": "Zebulonski^Quintus",
    "PatientID": "PID-77431-ZQ",
    "PatientBirthDate": "19470213",
    "PatientAddress": "Nowhere Lane 9913",
    "InstitutionName": "Saint Elsewhere Clinic",
    "ReferringPhysicianName": "Hackenbush^Hugo",
    "AccessionNumber": "ACC8812345",
    "StudyDescription": "Left knee of someone",
    "WindowCenterWidthExplanation": "window of Zebulonski",
}

RAMP = np.arange(-1000, 1048, dtype=np.int16).reshape(32, 64)  # what CT numbers are like
GREYS = (np.arange(48 * 64) % 4096).astype(np.uint16).reshape(48, 64)


def make(values: np.ndarray[Any, Any], **tags: Any) -> Any:
    """A file of these values with the secrets in it; `tags` are further ones, None leaves one out."""
    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = pydicom.dataset.FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID, made.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    made.Rows, made.Columns = values.shape[-3:-1] if values.shape[-1] == 3 else values.shape[-2:]
    made.SamplesPerPixel = 3 if values.shape[-1] == 3 else 1
    made.PhotometricInterpretation = "RGB" if values.shape[-1] == 3 else "MONOCHROME2"
    if values.shape[-1] == 3:
        made.PlanarConfiguration = 0
    made.BitsAllocated = made.BitsStored = 8 * values.dtype.itemsize
    made.HighBit, made.PixelRepresentation = made.BitsStored - 1, int(values.dtype.kind == "i")
    made.PixelData = values.tobytes()
    for name, value in {**SECRETS, **tags}.items():
        if value is None:
            delattr(made, name)
        else:
            setattr(made, name, value)
    return made


def packed(made: Any) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings(action="ignore"):
        made.save_as(file, enforce_file_format=True)
    return file.getvalue()


def read(tmp_path: Path, made: Any, how: ReadOptions = READ_ALL) -> DecodedImage:
    path = tmp_path / "image.dcm"
    path.write_bytes(made if isinstance(made, bytes) else packed(made))
    return read_image(path, how)


def levels(found: DecodedImage) -> np.ndarray[Any, Any]:
    pixels = np.asarray(found.image)
    assert (pixels == pixels[:, :, :1]).all()
    return np.asarray(pixels[:, :, 0])


def linear(values: np.ndarray[Any, Any], centre: float, width: float) -> np.ndarray[Any, Any]:
    """PS3.3, C.11.2.1.2.1, as it is written there, for levels from 0 to 255."""
    made = np.empty(values.shape)
    for place, x in np.ndenumerate(values.astype(float)):
        if x <= centre - 0.5 - (width - 1) / 2:
            made[place] = 0
        elif x > centre - 0.5 + (width - 1) / 2:
            made[place] = 255
        else:
            made[place] = ((x - (centre - 0.5)) / (width - 1) + 0.5) * 255
    return np.rint(made).astype(np.uint8)


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (2, -1024), (0.5, 3)])
def test_the_window_is_of_rescaled_values(tmp_path: Path, slope: float, intercept: float, inverted: bool) -> None:
    made = make(
        RAMP, WindowCenter=40, WindowWidth=400, RescaleSlope=slope, RescaleIntercept=intercept,
        PhotometricInterpretation="MONOCHROME1" if inverted else "MONOCHROME2",
    )  # fmt: skip
    found = read(tmp_path, made)
    expected = linear(RAMP * slope + intercept, 40, 400)
    np.testing.assert_allclose(levels(found).astype(int), 255 - expected if inverted else expected, atol=1)
    assert found.shown is not None
    assert (found.shown.low, found.shown.high, found.shown.why) == (-160, 239, "window 40 / 400")
    assert found.size == (64, 32)


def test_of_several_windows_the_first(tmp_path: Path) -> None:
    found = read(tmp_path, make(RAMP, WindowCenter=[40, -600], WindowWidth=[400, 1500]))
    assert np.array_equal(levels(found), linear(RAMP, 40, 400))
    assert "window 40 / 400, the first of 2" in found.notes[0]


def test_other_functions_of_a_window(tmp_path: Path) -> None:
    exact = read(tmp_path, make(RAMP, WindowCenter=40, WindowWidth=400, VOILUTFunction="LINEAR_EXACT"))
    expected = np.rint(((RAMP.astype(float) + 160) / 400).clip(0, 1) * 255)
    assert np.array_equal(levels(exact), expected)
    sigmoid = read(tmp_path, make(RAMP, WindowCenter=40, WindowWidth=400, VOILUTFunction="SIGMOID"))
    expected = np.rint(255 / (1 + np.exp(-4 * (RAMP.astype(float) - 40) / 400)))
    np.testing.assert_allclose(levels(sigmoid).astype(int), expected, atol=1)
    threshold = read(tmp_path, make(RAMP, WindowCenter=40, WindowWidth=1))
    assert np.array_equal(levels(threshold), np.where(RAMP > 39.5, 255, 0))


def test_as_pydicom_windows(tmp_path: Path) -> None:
    from pydicom.pixels import apply_windowing

    made = make(GREYS, BitsStored=12, HighBit=11, WindowCenter=1800.5, WindowWidth=900)
    theirs = apply_windowing(GREYS, made)
    ours = levels(read(tmp_path, made))
    np.testing.assert_allclose(ours, theirs / 4095 * 255, atol=0.6)


def test_without_a_window_the_full_range(tmp_path: Path) -> None:
    found = read(tmp_path, make(GREYS // 3, BitsStored=12, HighBit=11))
    assert np.array_equal(levels(found), np.rint(GREYS // 3 / 4095 * 255))
    assert "shown from 0 to 4095 (as the file states)" in found.notes[0]
    signed = read(tmp_path, make(RAMP))
    assert signed.shown is not None
    assert (signed.shown.low, signed.shown.high) == (-1000, 1047)
    empty = read(tmp_path, make(GREYS, WindowCenter=40, WindowWidth=0))
    assert empty.shown is not None
    assert empty.shown.why == "12 bits"
    plain = read(tmp_path, make((GREYS % 256).astype(np.uint8)))
    assert np.array_equal(levels(plain), GREYS % 256)


def test_a_range_that_is_given_is_of_rescaled_values(tmp_path: Path) -> None:
    made = make(RAMP, RescaleSlope=1, RescaleIntercept=-24, WindowCenter=0, WindowWidth=10)
    found = read(tmp_path, made, replace(READ_ALL, value_range=(-160.0, 240.0)))
    assert np.array_equal(levels(found), np.rint(((RAMP.astype(float) - 24 + 160) / 400).clip(0, 1) * 255))
    whole = read(tmp_path, made, replace(READ_ALL, value_range="container"))
    assert whole.shown is not None
    assert (whole.shown.low, whole.shown.high) == (-32768 - 24, 32767 - 24)


def test_a_table_instead_of_a_window(tmp_path: Path) -> None:
    from pydicom.dataset import Dataset

    table = Dataset()
    table.LUTDescriptor = [4096, 0, 16]
    table["LUTDescriptor"].VR = "US"
    table.add_new(0x00283006, "OW", (65535 - 16 * np.arange(4096)).astype(np.uint16).tobytes())
    made = make(GREYS, BitsStored=12, HighBit=11)
    made.VOILUTSequence = [table]
    expected = np.rint((65535 - 16.0 * GREYS) / 65535 * 255)
    assert np.array_equal(levels(read(tmp_path, made)), expected)


COLOURS = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)


def test_colours(tmp_path: Path) -> None:
    assert np.array_equal(np.asarray(read(tmp_path, make(COLOURS)).image), COLOURS)
    planar = make(COLOURS, PlanarConfiguration=1, PixelData=np.moveaxis(COLOURS, 2, 0).tobytes())
    assert np.array_equal(np.asarray(read(tmp_path, planar).image), COLOURS)
    deep = read(tmp_path, make(COLOURS.astype(np.uint16) * 257))
    assert np.array_equal(np.asarray(deep.image), COLOURS)


def test_packed_by_runs(tmp_path: Path) -> None:
    from pydicom.uid import RLELossless

    made = make(GREYS, BitsStored=12, HighBit=11, WindowCenter=2000, WindowWidth=800)
    expected = read(tmp_path, made)
    made.compress(RLELossless)
    assert np.array_equal(levels(read(tmp_path, made)), levels(expected))


def test_packed_in_a_way_that_nothing_here_reads(tmp_path: Path) -> None:
    from pydicom.encaps import encapsulate

    made = make(GREYS)
    made.PixelData = encapsulate([b"\xff\xd8\xff\xf7 of no use"])
    for uid, said in (("1.2.840.10008.1.2.4.80", "JPEG-LS Lossless"), ("1.2.3.4.5", "in a way that is not known")):
        made.file_meta.TransferSyntaxUID = uid
        with pytest.raises(ImageError, match="no decoder for that is installed") as caught:
            read(tmp_path, made)
        assert said in caught.value.what
        assert "pip install pylibjpeg" in caught.value.fix


def test_fast_decoding_and_masks(tmp_path: Path) -> None:
    made = make(np.tile(COLOURS, (8, 8, 1)))
    found = read(tmp_path, made, replace(READ_ALL, least_side=80))
    assert (found.image.size, found.size) == ((112, 80), (448, 320))
    mask = make((GREYS > 2000).astype(np.uint8))
    path = tmp_path / "mask.dcm"
    path.write_bytes(packed(mask))
    converted = read_converted(lambda image, _low: to_rgb(image), path)
    assert np.array_equal(levels(converted) > 0, GREYS > 2000)


# What is refused.


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ({"NumberOfFrames": 12}, "holds 12 frames, and one image is explained at a time"),
        ({"PixelData": None}, "holds no image"),
        ({"Rows": 0}, "the image has no pixels"),
        ({"SamplesPerPixel": 2}, "or of no kind that is known"),
        ({"Rows": 60000, "Columns": 60000}, "the image is too large: 60000 x 60000 pixels"),
        ({"Rows": 3000}, "is damaged"),
        ({"BitsAllocated": 7}, "is damaged"),
        ({"RescaleSlope": 0}, "scaled by no number"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "is damaged"),
    ],
)
def test_files_that_are_not_explained(tmp_path: Path, tags: dict[str, Any], said: str) -> None:
    with pytest.raises(ImageError) as caught:
        read(tmp_path, make(GREYS, **tags))
    assert said in caught.value.what
    assert "\n" not in caught.value.what


def test_a_deflated_file(tmp_path: Path) -> None:
    made = make(GREYS)
    made.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    with pytest.raises(ImageError, match="deflated as a whole, which is not read") as caught:
        read(tmp_path, made)
    assert "dcmconv" in caught.value.fix


def test_files_of_very_many_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = packed(make(GREYS))
    with pytest.raises(ImageError, match="more than 100,000 parts"):
        read(tmp_path, whole + b"\xfe\xff\x00\xe0" * 100_001)
    monkeypatch.setattr("cnnviz_cli.files.images.dicom._MAX_PARTS", 10)
    with pytest.raises(ImageError, match="more than 10 parts"):
        read(tmp_path, whole)


def test_runs_that_unpack_to_more_than_the_image(tmp_path: Path) -> None:
    from pydicom.encaps import encapsulate
    from pydicom.uid import RLELossless

    made = make((GREYS % 256).astype(np.uint8))
    made.file_meta.TransferSyntaxUID = RLELossless
    header = (1).to_bytes(4, "little") + (64).to_bytes(4, "little") + bytes(56)
    made.PixelData = encapsulate([header + b"\x81\x00" * 1_000_000])  # 128 zeros each
    with pytest.raises(ImageError, match="unpacks to more than its image"):
        read(tmp_path, made)


def test_files_cut_short_or_changed(tmp_path: Path) -> None:
    whole = packed(make(RAMP, WindowCenter=40, WindowWidth=400))
    draws = np.random.default_rng(1)
    spoiled = [whole[:end] for end in range(140, len(whole), 311)]
    for _ in range(60):
        changed = bytearray(whole)
        for place in draws.integers(132, 1200, 4):
            changed[place] = int(draws.integers(256))
        spoiled.append(bytes(changed))
    for data in spoiled:
        try:
            read(tmp_path, data)
        except ImageError as error:
            told = f"{error.what} {error.fix}"
            assert not any(secret in told for secret in SECRETS.values())


def test_what_pydicom_says_is_not_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ValueError("the value 'Zebulonski^Quintus' of an element is of no use")

    monkeypatch.setattr("pydicom.pixels.pixel_array", fail)
    with pytest.raises(ImageError) as caught:
        read(tmp_path, make(GREYS))
    assert caught.value.what == "the DICOM file is damaged (ValueError)"


def test_without_pydicom_the_extra_that_brings_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    whole = packed(make(GREYS))
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(ImageError, match=r"read by pydicom, which is not installed: pip install 'cnnviz-cli\[dicom\]'"):
        read(tmp_path, whole)


# Nothing of a patient is written.


def test_no_tag_of_a_patient_is_written(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder, out = tmp_path / "images", tmp_path / "out"
    folder.mkdir()
    rows = np.asarray(Image.radial_gradient("L")).astype(np.int16) * 8 - 1000
    good = packed(make(rows, WindowCenter=40, WindowWidth=1400))
    (folder / "knee.dcm").write_bytes(good)
    (folder / "damaged.dcm").write_bytes(good[:-9000])
    (folder / "several.dicom").write_bytes(packed(make(rows, NumberOfFrames=2)))
    how = ["--save-arrays", "--weights", "random:0", "--workers", "1", "--fast-decode", "--format", "svg"]
    assert main(["gradcam", str(folder), "-o", str(out), *how]) == 3
    images = {one["source"]: one for one in json.loads((out / "manifest.json").read_text())["images"]}
    assert images["knee.dcm"]["status"] == "ok"
    assert images["knee.dcm"]["value_range"] is not None
    assert "damaged" in images["damaged.dcm"]["error"]
    assert "frames" in images["several.dicom"]["error"]
    said = "".join(capfd.readouterr())
    written = [path.read_bytes() for path in out.rglob("*") if path.is_file()]
    assert len(written) > 2
    for secret in SECRETS.values():
        for part in (secret, *secret.split("^")):
            assert part not in said
            assert not any(part.encode() in content for content in written)
            assert not any(part.casefold() in str(path).casefold() for path in out.rglob("*"))
