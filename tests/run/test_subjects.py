"""What a figure is about: the image, or the network itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from run.resuming import Listener

from cnnviz_cli.config.load import load_settings
from cnnviz_cli.core.records import Manifest, Subject
from cnnviz_cli.files.inputs.search import Source
from cnnviz_cli.files.output.verify import verify
from cnnviz_cli.run import execute


@pytest.mark.usefixtures("tiny_network")
def test_kernels_are_about_the_network_and_all_else_about_the_image(tmp_path: Path, sources: list[Source]) -> None:
    out = tmp_path / "out"
    flags = {("output",): str(out), ("device",): "cpu", ("workers",): "0", ("features", "filters"): True}
    execute("all", load_settings("all", flags, None, {}), sources[:2], Listener())
    images = Manifest.model_validate_json((out / "manifest.json").read_bytes()).images
    for image in images:
        about = {output.path.rpartition("/")[2]: output.subject for output in image.outputs}
        kernels = {name: unit for name, unit in about.items() if ".filters." in name}
        assert len(kernels) == 1
        assert len(about) > 5
        (layer,) = {output.layer for output in image.outputs if ".filters." in output.path}
        assert layer
        assert set(kernels.values()) == {Subject(layer=layer)}
        assert {unit for name, unit in about.items() if name not in kernels} == {None}
        assert image.subject is None
    digests = {output.sha256 for image in images for output in image.outputs if output.subject}
    assert len(digests) in (1, len(images))  # the caption may name the image
    assert verify(out) == []
