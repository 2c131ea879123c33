"""Words that are no command, and names of settings from before: each leads to the command that was meant."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cnnviz_cli.methods  # noqa: F401
from cnnviz_cli.cli.flags import readers
from cnnviz_cli.config.load import load_settings
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.method import methods

Cnnviz = Callable[..., Any]


@pytest.mark.parametrize(
    ("words", "what", "fix"),
    [
        (["photo.jpg"], "a command is missing before 'photo.jpg'", "cnnviz all photo.jpg\n"),
        (["in/*.png", "-q"], "a command is missing before 'in/*.png'", "cnnviz gradcam 'in/*.png' -q\n"),
        (["photos"], "a command is missing before 'photos'", "cnnviz all photos\n"),
        (["s3://bucket/a"], "a command is missing", "cnnviz all s3://bucket/a\n"),
        (["occlusion"], "'occlusion' is a method of saliency", "cnnviz saliency IMAGE --method occlusion\n"),
        (["lime", "my cat.png"], "'lime' is a method of saliency", "cnnviz saliency 'my cat.png' --method lime\n"),
        (["gradcam++", "a.png"], "is a method of gradcam", "cnnviz gradcam a.png --method gradcam++\n"),
        (["salency", "a.png"], "there is no command 'salency'", "Did you mean: cnnviz saliency a.png\n"),
        (["smothgrad", "a.png"], "there is no command", "Did you mean: cnnviz saliency a.png --method smoothgrad\n"),
        (["heatmap", "a.png"], "there is no command 'heatmap'", "Did you mean: cnnviz gradcam a.png\n"),
        (["xyzzy"], "there is no command 'xyzzy'", "See: cnnviz --help\n"),
        (["--model", "vgg16", "a.png"], "cnnviz has no option --model", "cnnviz gradcam IMAGE --model ...\n"),
        (["saliency", "a.png", "--method", "gradcam"], "not of saliency", "cnnviz gradcam IMAGE --method gradcam\n"),
        (["deconv", "a.png", "--method", "rise"], "not of deconv", "cnnviz saliency IMAGE --method rise\n"),
    ],
)
def test_what_was_meant_is_said(words: list[str], what: str, fix: str, cnnviz: Cnnviz, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    done = cnnviz(*words)
    assert (done.code, done.out) == (2, "")
    assert what in done.err.splitlines()[0]
    assert fix in done.err


def test_a_hostile_word_is_shown_and_quoted_safely(cnnviz: Cnnviz) -> None:
    done = cnnviz("a\x1b[31m; rm -rf x.jpg")
    assert done.code == 2
    assert "\x1b" not in done.err
    assert "cnnviz all 'a" in done.err


def test_the_former_name_of_deconvs_methods_is_still_read(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("deconv: {variant: [class, deconvnet]}\n", encoding="utf-8")
    assert load_settings("deconv", {}, config, {}).method_names("deconv") == ("class", "deconvnet")
    assert load_settings("deconv", {}, None, {"CNNVIZ_DECONV__VARIANT": "class"}).method_names("deconv") == ("class",)
    both = {"CNNVIZ_DECONV__VARIANT": "class", "CNNVIZ_DECONV__METHOD": "deconvnet"}
    assert load_settings("deconv", {}, None, both).method_names("deconv") == ("deconvnet",)
    assert load_settings("deconv", {}, config, {}).as_json()["deconv"]["method"] == ["class", "deconvnet"]
    config.write_text("deconv:\n  variant: clas\n", encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        load_settings("deconv", {}, config, {})
    assert caught.value.where.endswith("c.yaml:2:12")
    config.write_text("deconv:\n  method: class\n  variant: class\n", encoding="utf-8")
    with pytest.raises(UsageError, match="'variant' is called 'method' now") as caught:
        load_settings("deconv", {}, config, {})
    assert caught.value.where.endswith("c.yaml:3:3")


@pytest.mark.parametrize("flags", [["--variant", "class"], ["--method", "class"]])
def test_both_flags_choose_deconvs_methods(flags: list[str], cnnviz: Cnnviz, fake_run: Any, tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    image.write_bytes(b"")
    assert cnnviz("deconv", str(image), *flags).code == 0
    assert fake_run.settings.method_names("deconv") == ("class",)
    assert "--variant" not in cnnviz("deconv", "--help").out


def test_options_stand_under_the_methods_that_read_them() -> None:
    assert readers(("saliency", "max_sigma")) == "Options of blur-ig"
    assert readers(("saliency", "segments")) == "Options of kernel-shap, lime"
    assert (
        readers(("gradcam", "layer"))
        == "Options of every method but attention-rollout, cam, fullgrad, legrad, transformer-attribution"
    )
    assert (
        readers(("gradcam", "smooth"))
        == "Options of every method but attention-rollout, legrad, transformer-attribution"
    )
    assert readers(("features", "layer")) == "Options of features"
    assert len(list(methods("features"))) == 1


def test_help_has_a_title_for_each_group_of_readers(cnnviz: Cnnviz) -> None:
    page = cnnviz("saliency", "--help").out
    titles = [line for line in page.splitlines() if line.startswith("Options of ")]
    assert len(titles) == len(set(titles))
    assert titles[0] == "Options of saliency:"
    assert "Options of lrp:" in titles
    after = page[page.index("Options of lrp:") :].split("\n\n")[0]
    assert "--composite" in after
    assert "--biases" in after
    assert "--masks" not in after
