"""Help, version and completion."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cnnviz_cli import __version__
from cnnviz_cli.config.names import environment_variable, field_at, flag_name, setting_paths
from cnnviz_cli.config.settings import families_of, flag_of, settings_type
from cnnviz_cli.config.top_images_fields import TopImagesFields
from cnnviz_cli.core.families import FAMILIES

from .conftest import Command


@pytest.mark.parametrize("command", [*FAMILIES, "all"])
def test_every_flag_is_documented_with_its_variable(cnnviz: Command, command: str) -> None:
    shown = cnnviz(command, "--help")
    assert shown.code == 0
    flat = " ".join(shown.out.split())
    for path in setting_paths(settings_type(command)):
        if path[-1] in TopImagesFields.model_fields and path[0] != command:
            assert f" {flag_name(path, command)} " not in flat  # of a run that all does not make
        elif len(path) == 1 or path[0] in families_of(command):
            name = flag_name(path, command)
            negatable = field_at(settings_type(command), path).annotation is bool
            assert f" {name.replace('--', '--[no-]') if negatable else name} " in flat
            family = path[0] if command == "all" and len(path) == 2 else ""
            if len(path) == 1 and flag_of(settings_type(command), path[0]).flag_only:
                assert environment_variable(path) not in flat
            else:
                assert (f"{environment_variable((family, '...'))}" if family else environment_variable(path)) in flat
    for words in (
        "--quiet",
        "--json",
        "--dry-run",
        "--debug",
        "--config",
        "default efficientnet_lite0",
        "default auto;",
    ):
        assert words in flat


@pytest.mark.parametrize("columns", [40, 80, 200])
@pytest.mark.parametrize("arguments", [(), ("all",), ("deconv",), ("config", "show"), ("models",)])
def test_help_fits_the_screen(
    cnnviz: Command, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = cnnviz(*arguments, "--help")
    assert shown.out.startswith(f"Usage: {' '.join(('cnnviz', *arguments))} [OPTIONS]")
    # Words are never broken, so that a flag can be copied: one that is longer than the line stands alone in it.
    assert all(len(line) < min(columns, 100) or len(line.split()) < 3 for line in shown.out.splitlines())
    assert "\\[" not in shown.out


def test_the_root_lists_every_command_and_without_one_it_is_a_usage_error(cnnviz: Command) -> None:
    shown = cnnviz("--help")
    commands = (*FAMILIES, "all", "models", "layers", "classes", "methods", "config", "verify")
    for command in commands:
        assert f" {command} " in shown.out
    assert cnnviz("-h").out == shown.out
    bare = cnnviz()
    assert (bare.code, bare.out.rstrip()) == (2, shown.out.rstrip())
    group = cnnviz("config")
    assert group.code == 2
    assert "error" not in group.err


def test_version(cnnviz: Command) -> None:
    assert cnnviz("--version").out == f"cnnviz {__version__}\n"


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("cnnviz gradcam --model vgg16", {"vgg16", "vgg16_bn"}),
        ("cnnviz deconv --method d", {"deconvnet"}),
        ("cnnviz gradcam --palette vi", {"viridis"}),
        ("cnnviz gradcam --signed-palette b", {"blue-red"}),
        ("cnnviz gradcam --precision b", {"bf16"}),
        ("cnnviz gradcam --target tiger\\ c", {"tiger cat"}),
        ("cnnviz gradcam --model fcn_resnet50 --target per", {"person"}),
        ("cnnviz gradcam --model ssd300_vgg16 --target to", {"top1", "top3", "top5"}),
        ("cnnviz gradcam --model resnet50 --weights IMAGENET1K_V", {"IMAGENET1K_V1", "IMAGENET1K_V2"}),
        ("cnnviz methods feat", {"feature-maps"}),
        ("cnnviz sal", {"saliency"}),
    ],
)
def test_the_shell_completes_names(monkeypatch: pytest.MonkeyPatch, words: str, offered: set[str]) -> None:
    monkeypatch.setenv("_CNNVIZ_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.replace("\\ ", "_").split()) - 1))
    done = subprocess.run([sys.executable, "-m", "cnnviz_cli"], capture_output=True, text=True, check=False)
    assert set(done.stdout.split("\n")) - {""} == offered
