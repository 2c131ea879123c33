"""Names that do not exist: every one is refused before torch, with the place and the nearest name."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Command, FakeRun


@pytest.mark.parametrize(
    ("arguments", "said", "hint"),
    [
        (["gradcma", "a.png"], "there is no command 'gradcma'", "cnnviz gradcam a.png"),
        (["gradcam", "a.png", "--lyer", "x"], "cnnviz gradcam has no option --lyer", "Did you mean --layer?"),
        (["all", "a.png", "--layer", "x"], "cnnviz all has no option --layer", "--gradcam-layer"),
        (["gradcam", "a.png", "--top-images", "4"], "no option --top-images", "cnnviz features and cnnviz deconv"),
        (["gradcam", "a.png", "-z"], "cnnviz gradcam has no option -z", "See: cnnviz gradcam --help"),
        (["gradcam"], "no images were given", "See: cnnviz gradcam --help"),
        (["gradcam", "--files-from", "nowhere"], "nowhere: this list cannot be read: No such file", ""),
        (["gradcam", "a.png", "--exclude", ""], "--exclude: 'exclude' must be a pattern of file names", ""),
        (["gradcam", "a.png", "--layer"], "Option '--layer' requires an argument", ""),
        (["gradcam", "a.png", "--model", "vgg61"], "there is no model 'vgg61'", "'vgg16'"),
        (["gradcam", "a.png", "--weights", "DEFALT"], "there are no weights 'DEFALT'", "Did you mean 'DEFAULT'"),
        (["gradcam", "a.png", "--palette", "infern"], "--palette: there is no such palette: 'infern'", "'inferno'"),
        (["gradcam", "a.png", "--signed-palette", "bule-red"], "--signed-palette: there is no", "'blue-red'"),
        (["gradcam", "a.png", "-t", "tgier cat"], "--target: the model has no class 'tgier cat'", "'tiger cat'"),
        (["gradcam", "a.png", "-t", "Cardigan"], "--target: 'Cardigan' is the name of 2 classes", "264 or 474"),
        (["gradcam", "a.png", "-t", "1000"], "--target: there is no class 1000: the model has 0 to 999", ""),
        (["gradcam", "a.png", "-t", "top0"], "--target: 'top0' asks for no class", "top1"),
        (["gradcam", "a.png", "-t", "top1001"], "--target: 'top1001' asks for more classes", "top1000"),
        (["gradcam", "a.png", "--method", "gradcm"], "there is no gradcam method 'gradcm'", "'gradcam'"),
        (["all", "a.png", "--method", "gradient,gradcm"], "error: --method: there is no method 'gradcm'", "'gradcam'"),
        (["deconv", "a.png", "--method", "deconvent"], "there is no deconv method", "Did you mean 'deconvnet'?"),
        (["gradcam", "a.png", "--width", "8.5"], "auto, source, PIXELS or LENGTH, not '8.5'", "1200 for pixels, 8.5cm"),
        (["gradcam", "a.png", "--width", "soruce"], "PIXELS or LENGTH, not 'soruce'", "Did you mean 'source'?"),
        (["gradcam", "a.png", "--scale", "0,1"], "image, run or fixed:LO,HI, not '0,1'", "For instance fixed:0,1"),
        (["gradcam", "a.png", "-t", "tiger", "cat"], "cat: there is no such file", "in quotes: --target 'tiger cat'"),
        (
            ["gradcam", "a.png", "-t", "tiger", "--contrast", "Egyptian", "cat"],
            "cat: there is no such file",
            "in quotes: --target 'tiger cat' or --contrast 'Egyptian cat'",
        ),
        (["gradcam", "a.png", "-t", "tabby", "espresso"], "espresso: there is no such file", "--target espresso"),
        (["gradcam", "a.png", "--method", "gradcam", "rise"], "rise: there is no such file", "--method NAME,rise"),
        (["gradcam", "a.png", "-output", "x"], "-output has one dash, and a long flag has two", "mean --output?"),
        (["gradcam", "a.png", "-t", "tabby", "cta"], "cta: there is no such file", ""),
        (["gradcam", "a.png", "--alpha", "2"], "--alpha: 'alpha' must be at most 1, not 2", ""),
        (["gradcam", "a.png", "-b", "many"], "must be auto or a whole number of at least 1, not 'many'", ""),
        (["gradcam", "a.png", "--threads", "x"], "must be auto or a whole number from 1 to 1024, not 'x'", ""),
        (["gradcam", "a.png", "--threads", "1025"], "must be auto or a whole number from 1 to 1024, not '1025'", ""),
        (["gradcam", "a.png", "--replicas", "100000"], "a whole number from 1 to 1024, not '100000'", ""),
        (["gradcam", "a.png", "--workers", "100000"], "a whole number from 0 to 1024, not '100000'", ""),
        (["gradcam", "a.png", "--seed", "x"], "--seed: 'seed' must be a whole number, not 'x'", ""),
        (["gradcam", "a.png", "-c", "nowhere.yaml"], "nowhere.yaml: there is no such configuration file", ""),
        (["models", "resnte*"], "no model matches 'resnte*'", "resnet"),
        (["classes", "tgier"], "no class matches 'tgier'", "'tiger'"),
        (["methods", "gradcm"], "there is no method 'gradcm'", "'gradcam'"),
        (["layers", "vgg61"], "there is no model 'vgg61'", "'vgg16'"),
        (["config", "schema", "foo"], "error: Invalid value for 'config|manifest': 'foo' is not one of", "--help"),
        (["config", "shwo"], "No such command 'shwo'", "'show'"),
        (["verify", "nowhere"], "nowhere/manifest.json: there is no manifest", "cnnviz verify OUT"),
    ],
)
def test_a_wrong_name_is_a_usage_error_with_a_hint(
    cnnviz: Command, fake_run: FakeRun, arguments: list[str], said: str, hint: str
) -> None:
    result = cnnviz(*arguments)
    assert result.code == 2
    assert said in result.err
    assert hint in result.err
    assert result.out == ""
    assert "Traceback" not in result.err
    assert fake_run.settings is None


@pytest.mark.usefixtures("fake_run")
def test_several_wrong_names_are_told_together_each_where_it_was_written(
    cnnviz: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("c.yaml").write_text("# mine\nmodel: vgg61\ntarget: [top1, cta]\n", encoding="utf-8")
    monkeypatch.setenv("CNNVIZ_PALETTE", "jte")
    result = cnnviz("gradcam", "a.png", "-c", "c.yaml")
    assert result.code == 2
    assert "error: c.yaml:2:8: there is no model 'vgg61'\n   2 | model: vgg61\n     |        ^\n" in result.err
    assert "error: CNNVIZ_PALETTE: there is no such palette: 'jte'" in result.err
    assert "error: c.yaml:3:9: the model has no class 'cta'" in result.err


@pytest.mark.parametrize(
    ("text", "more", "said"),
    [
        ("a photo of a cat\n", (), "--prompts: p.txt: this describes 1 class"),
        ("a cat\na dog\n", ("-t", "a horse"), "--target: the model has no class 'a horse'"),
    ],
)
def test_prompts_are_read_before_the_network_is_loaded(
    cnnviz: Command, fake_run: FakeRun, text: str, more: tuple[str, ...], said: str
) -> None:
    Path("p.txt").write_text(text, encoding="utf-8")
    result = cnnviz("saliency", "a.png", "--model", "open_clip:ViT-B-32", "--prompts", "p.txt", *more)
    assert result.code == 2
    assert said in result.err
    assert fake_run.settings is None


@pytest.mark.usefixtures("fake_run")
def test_with_a_weights_file_the_classes_are_not_imagenets(cnnviz: Command) -> None:
    Path("mine.pth").touch()
    assert cnnviz("gradcam", "a.png", "--weights", "mine.pth", "-t", "my class").code == 0
    assert cnnviz("gradcam", "a.png", "--weights", "missing.pth").code == 4


def test_values_from_a_file_cannot_move_the_cursor_or_be_markup(cnnviz: Command) -> None:
    Path("c.yaml").write_text('model: "[red]\\e[2J[/b]"\n', encoding="utf-8")
    result = cnnviz("gradcam", "a.png", "-c", "c.yaml")
    assert "there is no file '[red]\\x1b[2J[/b]'" in result.err
    assert "\x1b" not in result.err
