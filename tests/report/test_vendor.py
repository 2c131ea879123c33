"""The bundle of other people's libraries: it is the one that the lock file gives, with a licence for each."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest
from report_vendor import BUNDLE, LICENCES, SOURCE, VENDOR, build

SHA256 = "852d03ad2638e987e9717558ae8ec78379ba9833fcbffac50496713fb75082c1"
"""Changes with `make report-vendor` alone, after an update of tools/report/package-lock.json."""


def test_the_bundle_is_the_one_that_was_looked_at() -> None:
    assert hashlib.sha256((VENDOR / BUNDLE).read_bytes()).hexdigest() == SHA256


def test_the_bundle_can_stand_in_a_page() -> None:
    text = (VENDOR / BUNDLE).read_text(encoding="ascii")
    assert "</script" not in text.lower()
    assert "<!--" not in text
    assert not re.search(r"\b(?:eval|importScripts)\(|new Function\(", text)


def test_every_library_comes_with_its_licence() -> None:
    text = (VENDOR / LICENCES).read_text(encoding="utf-8")
    lock = json.loads((SOURCE / "package-lock.json").read_text(encoding="utf-8"))
    libraries = {place: of for place, of in lock["packages"].items() if place and not of.get("dev")}
    assert len(libraries) == 6
    for place, package in libraries.items():
        assert f"\n{place.removeprefix('node_modules/')} {package['version']} ({package['license']})\n" in text
        assert package["license"] in {"MIT", "Apache-2.0"}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not here, which alone can bundle again")
def test_bundling_again_gives_the_same_bytes(tmp_path: Path) -> None:
    build(tmp_path)
    for name in (BUNDLE, LICENCES):
        assert (tmp_path / name).read_bytes() == (VENDOR / name).read_bytes()
