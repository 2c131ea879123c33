"""Colour tables against the publications, and against what uniform and diverging mean."""

import subprocess
import sys

import make_palettes
import numpy as np
import pytest

from cnnviz_cli.render import PALETTES, SIGNED_PALETTES, Style
from cnnviz_cli.render.scaling import GRAYS, color_table

ANCHORS = {
    "viridis": ("440154", "21918c", "fde725"),
    "inferno": ("000004", "bc3754", "fcffa4"),
    "magma": ("000004", "b73779", "fcfdbf"),
    "cividis": ("00224e", "7d7c78", "fee838"),
    "turbo": ("30123b", "a4fc3c", "7a0403"),
    "jet": ("000080", "82ff7e", "800000"),
    "grey": ("000000", "808080", "ffffff"),
}


def linear(colours: np.ndarray) -> np.ndarray:
    coded = colours / 255
    return np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)


def lightness(colours: np.ndarray) -> np.ndarray:
    """CIE L*."""
    luminance = linear(colours) @ np.array([0.2126, 0.7152, 0.0722])
    return np.where(luminance > 0.008856, 116 * np.cbrt(luminance) - 16, 903.3 * luminance)


def oklab(colours: np.ndarray) -> np.ndarray:
    """Forward, from Ottosson's matrices; the generator only uses the inverse ones."""
    cones = linear(colours) @ np.array(
        [
            [0.4122214708, 0.2119034982, 0.0883024619],
            [0.5363325363, 0.6806995451, 0.2817188376],
            [0.0514459929, 0.1073969566, 0.6299787005],
        ]
    )
    return np.cbrt(cones) @ np.array(
        [
            [0.2104542553, 1.9779984951, 0.0259040371],
            [0.7936177850, -2.4285922050, 0.7827717662],
            [-0.0040720468, 0.4505937099, -0.8086757660],
        ]
    )


def test_every_name_has_a_table() -> None:
    for name in PALETTES:
        assert color_table(name).shape == (256, 3)
    for name in SIGNED_PALETTES:
        assert color_table(name).shape == (255, 3)
    assert Style().palette in PALETTES
    assert Style().signed_palette in SIGNED_PALETTES


@pytest.mark.parametrize("name", PALETTES)
def test_tables_hold_the_published_colours(name: str) -> None:
    found = tuple(bytes(color_table(name)[index]).hex() for index in (0, 128, 255))
    assert found == ANCHORS[name]


@pytest.mark.parametrize("name", ["inferno", "viridis", "magma", "cividis"])
def test_uniform_palettes_brighten_all_the_way(name: str) -> None:
    steps = np.diff(lightness(color_table(name)))
    assert steps.min() > -0.25  # a step of one in eight bits
    assert lightness(color_table(name)[::8])[-1] > 85
    assert (np.diff(lightness(color_table(name)[::8])) > 0).all()


@pytest.mark.parametrize("name", SIGNED_PALETTES)
def test_diverging_palettes_weigh_both_signs_the_same(name: str) -> None:
    lab = oklab(color_table(name))
    light, chroma = lab[:, 0], np.hypot(lab[:, 1], lab[:, 2])
    np.testing.assert_allclose(light, light[::-1], atol=0.006)
    np.testing.assert_allclose(chroma, chroma[::-1], atol=0.01)
    assert chroma[127] < 0.005
    assert light[127] > 0.96
    assert (np.diff(light[127::8]) < 0).all()
    assert np.abs(lab[0] - lab[-1]).max() > 0.15  # the two ends are told apart


def test_the_middle_of_the_greys_is_mid_grey() -> None:
    assert GRAYS[127].tolist() == [128, 128, 128]


def test_names_are_known_without_numpy_and_pictures_without_torch() -> None:
    code = (
        "import sys, cnnviz_cli.render as r; r.PALETTES, r.Style(), r.Caption('x');"
        "print(bool({'numpy', 'PIL', 'torch'} & set(sys.modules)));"
        "import cnnviz_cli.render.overview, cnnviz_cli.render.compare; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("name", SIGNED_PALETTES)
def test_our_own_tables_are_what_the_generator_makes(name: str) -> None:
    made = np.rint(255 * make_palettes.diverging(make_palettes.HUES[name])).astype(int)
    assert np.abs(made - color_table(name)).max() <= 1


def test_jet_is_its_formula() -> None:
    assert np.abs(np.rint(255 * make_palettes.jet()) - color_table("jet")).max() <= 1
