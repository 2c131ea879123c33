"""Images of any number of bands, from a file or an array to the network's input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cnnviz_cli import ImageError, UsageError, explain
from cnnviz_cli.cli.main import main
from cnnviz_cli.core.file_reading import ReadOptions
from cnnviz_cli.files.images.decode import DecodedImage, read_image

tifffile = pytest.importorskip("tifffile")

SIDE = 32
VALUES = np.random.default_rng(7).integers(0, 3000, (SIDE, SIDE, 5), dtype=np.uint16)
BYTES = np.random.default_rng(8).integers(0, 256, (SIDE, SIDE, 5), dtype=np.uint8)


class Bands(nn.Module):
    """Keeps what it was given last."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.conv = nn.Conv2d(channels, 8, 3, padding=1)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.conv(x).relu().mean((2, 3)))


def written(folder: Path, form: str, values: np.ndarray) -> Path:
    path = folder / f"{form}.tif"
    if form == "pages":
        pages = [Image.fromarray(values[:, :, band]) for band in range(values.shape[2])]
        pages[0].save(path, save_all=True, append_images=pages[1:])
    elif form == "separate":
        tifffile.imwrite(path, np.moveaxis(values, 2, 0), photometric="minisblack", planarconfig="separate")
    elif form == "deflated":
        tifffile.imwrite(path, values, photometric="minisblack", planarconfig="contig", compression="zlib")
    else:
        tifffile.imwrite(path, values, photometric="minisblack", planarconfig="contig")
    return path


def read(path: Path, channels: int = 5, bands: tuple[int, ...] = (), **how: Any) -> DecodedImage:
    return read_image(path, ReadOptions(channels=channels, bands=bands, **how))


@pytest.mark.parametrize("form", ["contig", "separate", "deflated", "pages"])
def test_every_way_to_store_bands_gives_the_same(form: str, tmp_path: Path) -> None:
    photo = read(written(tmp_path, form, VALUES))
    assert photo.planes is not None
    assert photo.planes.dtype == np.float32
    assert np.abs(photo.planes - VALUES / 4095).max() < 1e-7
    assert photo.shown is not None
    assert (photo.shown.low, photo.shown.high) == (0, 4095)
    assert (photo.size, photo.image.mode) == ((SIDE, SIDE), "RGB")


@pytest.mark.parametrize("form", ["contig", "pages"])
def test_bands_are_chosen_in_their_order(form: str, tmp_path: Path) -> None:
    path = written(tmp_path, form, BYTES)
    photo = read(path, 3, (5, 2, 2), shown_bands=(3, 2, 1))
    assert photo.planes is not None
    assert (photo.planes == BYTES[:, :, [4, 1, 1]]).all()
    assert photo.shown is None
    assert (np.asarray(photo.image) == BYTES[:, :, [2, 1, 0]]).all()
    grey = read(path, 2, (4, 1))
    assert (np.asarray(grey.image) == BYTES[:, :, [3, 3, 3]]).all()


def test_the_colours_of_a_photograph_are_bands(tmp_path: Path) -> None:
    Image.fromarray(BYTES[:, :, :4]).save(tmp_path / "x.png")
    assert (read(tmp_path / "x.png", 4, (4, 3, 2, 1)).planes == BYTES[:, :, 3::-1]).all()
    exif = Image.Exif()
    exif[274] = 6  # turned by a quarter, to the right
    Image.fromarray(BYTES[:16, :, :3]).save(tmp_path / "t.png", exif=exif)
    turned = read(tmp_path / "t.png", 3, (3, 2, 1))
    assert turned.size == (16, SIDE)
    assert (turned.planes == np.rot90(BYTES[:16, :, 2::-1], -1)).all()


def test_figures_show_what_most_values_use(tmp_path: Path) -> None:
    values = np.full((10, 10, 3), 1000, np.uint16)
    values[0, 0], values[5:] = 16000, 2000
    drawn = np.asarray(read(written(tmp_path, "pages", values), 3, (1, 2, 3)).image)
    assert drawn[1, 0].tolist() == [0, 0, 0]
    assert drawn[9, 9].tolist() == [255, 255, 255]
    given = np.asarray(read(tmp_path / "pages.tif", 3, (1, 2, 3), value_range=(0, 4000)).image)
    assert given[9, 9].tolist() == [128, 128, 128]


@pytest.mark.parametrize(
    ("channels", "bands", "what"),
    [
        (5, (1, 2, 3, 4, 6), "it has 5 bands, and band 6 is asked for"),
        (7, (), "it has 5 bands, and the network reads 7; --bands says which"),
        (2, (), "it has 5 bands, and the network reads 2; --bands says which"),
    ],
)
@pytest.mark.parametrize("form", ["contig", "pages"])
def test_bands_that_are_not_there_are_named(
    channels: int, bands: tuple[int, ...], what: str, form: str, tmp_path: Path
) -> None:
    with pytest.raises(ImageError, match=what):
        read(written(tmp_path, form, BYTES), channels, bands)


def test_pages_of_other_sizes_and_files_too_large_are_refused(tmp_path: Path) -> None:
    pages = [Image.new("L", (8, 8)), Image.new("L", (9, 8))]
    pages[0].save(tmp_path / "x.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(ImageError, match="page 2 has another size than the first"):
        read(tmp_path / "x.tif", 2)
    path = written(tmp_path, "contig", BYTES)
    with pytest.raises(ImageError, match="too large: 32 x 32 pixels of 5 bands"):
        read(path, max_pixels=1000)


def test_a_tensor_of_five_channels_goes_in_as_it_is() -> None:
    net = Bands(5)
    tensor = torch.rand(5, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) * 4 - 2
    found = explain(net, tensor, ["gradcam", "gradient"], layers="conv")
    with torch.no_grad():
        wanted = net(tensor[None]).softmax(1).amax()
    assert found[0].predictions[0].probability == pytest.approx(float(wanted), abs=1e-6)
    assert found[0].photo.size == (SIDE, SIDE)
    assert len(np.unique(np.asarray(found[0].photo).reshape(-1, 3), axis=0)) > 100


@pytest.mark.parametrize("values", [VALUES, BYTES])
def test_the_network_gets_the_bands_of_an_array_normalised(values: np.ndarray) -> None:
    net, mean, std = Bands(5), (0.1, 0.2, 0.3, 0.4, 0.5), (0.5, 0.4, 0.3, 0.2, 0.1)
    found = explain(
        net,
        values,
        "gradcam",
        layers="conv",
        mean=mean,
        std=std,
        input_size=SIDE,
        resize="squash",
        bands=(5, 4, 3, 2, 1),
    )
    whole = 4095 if values.dtype == np.uint16 else 255
    shares = torch.from_numpy(values[:, :, ::-1].astype(np.float64) / whole).permute(2, 0, 1)[None]
    wanted = (shares - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)
    with torch.no_grad():
        scores = net(wanted.float()).softmax(1)
    assert found[0].predictions[0].probability == pytest.approx(float(scores.amax()), abs=1e-5)
    assert found[0].predictions[0].index == int(scores.argmax())


def test_eight_bits_are_resized_as_colours_are() -> None:
    net = Bands(3)
    photo = np.random.default_rng(9).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    how: dict[str, Any] = {"layers": "conv", "input_size": 48, "mean": 0.0, "std": 1.0}
    swapped = explain(net, photo, "gradcam", bands=(3, 2, 1), **how)[0]
    plain = explain(net, np.ascontiguousarray(photo[:, :, ::-1]), "gradcam", **how)[0]
    assert (swapped["gradcam"].map == plain["gradcam"].map).all()
    assert [one.probability for one in swapped.predictions] == [one.probability for one in plain.predictions]


def test_as_many_bands_as_channels_have_to_be_named() -> None:
    with pytest.raises(UsageError, match="3 bands are named, the network reads 5 channels") as caught:
        explain(Bands(5), VALUES, "gradcam", layers="conv", bands=(1, 2, 3), input_size=SIDE)
    assert (caught.value.where, caught.value.fix) == ("bands", "Name one for each channel, 5 in all.")


def test_the_command_explains_a_tiff_of_five_bands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "five_bands.py").write_text(
        "from torch import nn\ndef build():\n    ends = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)]\n"
        "    return nn.Sequential(nn.Conv2d(5, 8, 3), nn.ReLU(), *ends)\n"
    )
    monkeypatch.syspath_prepend(tmp_path / "code")
    written(tmp_path, "contig", VALUES)
    Image.fromarray(BYTES[:, :, :3]).save(tmp_path / "rgb.png")
    command = [
        "all", "contig.tif", "rgb.png", "--model", "five_bands:build", "--allow-code", "--input-size", "32",
        "-o", "out", "--show-bands", "3,2,1", "--workers", "1",
    ]  # fmt: skip
    assert main(command) == 3
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    first, second = manifest["images"]
    assert (first["status"], first["value_range"]) == ("ok", [0, 4095])
    assert second["error"].startswith("it has 3 bands, and the network reads 5; --bands says which")
    assert manifest["model"]["preprocessing"]["mean"] == [0.0] * 5
