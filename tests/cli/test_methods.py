"""Many methods at the command line: the list, one in full, all of a family, and all there are."""

from __future__ import annotations

import importlib
import json
import re
from dataclasses import dataclass, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import jsonschema
import pytest
import tiny

from cnnviz_cli.cli import completion
from cnnviz_cli.cli import methods as method_facts
from cnnviz_cli.cli.explain import build
from cnnviz_cli.cli.run_summary import print_dry_run
from cnnviz_cli.config.load import load_settings
from cnnviz_cli.config.names import flag_name, setting_paths
from cnnviz_cli.config.settings import config_schema, families_of, settings_type
from cnnviz_cli.core import method as registry
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.families import ALL, APART, FAMILIES
from cnnviz_cli.core.method import MethodContext, Recipe, method, methods, option
from cnnviz_cli.core.needs import Evidence, Gradient, Need, Scores
from cnnviz_cli.core.records import Cost

from .conftest import Command, FakeRun


@dataclass(frozen=True)
class Seven:
    """Seven variants of the input."""

    at: str = "<input>"
    needs: tuple[Need, ...] = ()
    count: int = 7

    def make(self, evidence: Evidence, image: int, start: int, stop: int) -> Any:
        raise NotImplementedError

    def label(self) -> str:
        return "seven altered inputs"


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two more methods of one family: one that never applies, and one with options and variants."""
    monkeypatch.setattr(registry, "_METHODS", dict(registry._METHODS))

    @dataclass(frozen=True, slots=True)
    class Nothing:
        pass

    @method("picky", family="gradcam", options=Nothing, paper="Nobody & Noone, Never, JOT 1999, https://example.org/9")
    def picky(_options: Nothing, _scope: MethodContext) -> Recipe:
        """Nothing at all, on no network whatever."""
        raise UsageError("this network is not to its liking")

    @dataclass(frozen=True, slots=True)
    class Options:
        zeal: Literal["low", "high"] = option("low", "How hard to try.")
        rounds: tuple[int, ...] = option((3, 5), "How often.", at_least=1)

    @method("x+y", family="gradcam", options=Options, paper="Anon, 2000; Other, 2001")
    def plus(_options: Options, scope: MethodContext) -> Recipe:
        """What one sees.

        map = x + y, which is a formula in a paragraph that goes on for longer than one line of a narrow terminal has
        room for.

          y = 2 x
          x = 1
        """
        return Recipe((Scores(Seven(), scope.target), Gradient(of=scope.target)), lambda _evidence: [])


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_the_list_fits_the_screen_and_holds_every_method(
    cnnviz: Command, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    listed = cnnviz("methods").out
    assert max(map(len, listed.splitlines())) <= columns
    assert "\x1b" not in listed
    rows = [line.split() for line in listed.splitlines() if re.match(r"  \S", line)]
    for known in methods():
        assert known.name in {row[0] for row in rows}
        # At 80 columns the words stand in a column of their own; at 40 below the name.
        assert columns == 80 or words(f"{known.summary} ({method_facts.short_citation(known)})") in words(listed)
    for family in FAMILIES.values():
        assert [family.default, "*"] in [row[:2] for row in rows]


@pytest.mark.usefixtures("made_up")
def test_a_row_in_columns(cnnviz: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(registry, "_METHODS", {n: m for n, m in registry._METHODS.items() if n in ("picky", "x+y")})
    assert cnnviz("methods", "--family", "gradcam").out.splitlines()[1:5] == [
        "cnnviz gradcam --method NAME",
        "  method  class  what it shows",
        "  picky   -      Nothing at all, on no network whatever. (Nobody & Noone 1999)",
        "  x+y     yes    What one sees. (Anon 2000)",
    ]


def test_one_family(cnnviz: Command) -> None:
    listed = json.loads(cnnviz("methods", "--family", "deconv", "--json").out)["methods"]
    assert {one["family"] for one in listed} == {"deconv"}
    assert len(listed) == len(list(methods("deconv")))


@pytest.mark.usefixtures("made_up")
def test_the_list_as_one_object(cnnviz: Command) -> None:
    found = json.loads(cnnviz("methods", "--json").out)
    assert found["model"] is None
    described = {entry["name"]: entry for entry in found["methods"]}
    assert set(described) == {m.name for family in (None, *APART) for m in methods(family)}
    assert described["deconvnet"]["default"]
    assert not described["class"]["default"]
    assert "cost" not in described["x+y"]
    assert described["x+y"]["options"][0] == {
        "name": "zeal",
        "flag": "--zeal",
        "flag_of_all": "--gradcam-zeal",
        "variable": "CNNVIZ_GRADCAM__ZEAL",
        "default": "low",
        "choices": ["low", "high"],
        "help": "How hard to try.",
    }
    assert described["x+y"]["options"][1]["default"] == [3, 5]
    assert (described["picky"]["class_discriminative"], described["x+y"]["class_discriminative"]) == (None, True)
    one = json.loads(cnnviz("methods", "x+y", "--json").out)
    assert one == {"model": None, **described["x+y"], "warnings": []}


def test_every_method_can_be_told_to_show_the_class_or_not() -> None:
    marks = {known.name: method_facts.class_discriminative(known) for known in methods()}
    assert None not in marks.values()
    # Rectifiers that are bent leave next to nothing of the class, and maps alone know none.
    assert [marks[name] for name in ("gradcam", "gradient", "class", "deconvnet", "feature-maps")] == [
        True,
        True,
        False,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("paper", "short"),
    [
        ("Selvaraju et al., Grad-CAM, ICCV 2017, https://arxiv.org/abs/1610.02391", "Selvaraju et al. 2017"),
        ("Fuad et al., In 3D, IPTA 2020, https://hal.science/hal-1999", "Fuad et al. 2020"),
        ("Zeiler & Fergus, 2013, https://a.org/1; Yosinski et al., 2015, https://a.org/2", "Zeiler & Fergus 2013"),
        ("Gildenblat et al., pytorch-grad-cam, https://github.com/jacobgil/pytorch-grad-cam", "Gildenblat et al."),
    ],
)
def test_a_paper_in_short(paper: str, short: str) -> None:
    assert method_facts.short_citation(SimpleNamespace(paper=paper)) == short  # type: ignore[arg-type]


@pytest.mark.usefixtures("made_up")
def test_one_method_in_full(cnnviz: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert (
        cnnviz("methods", "x+y").out
        == """\
x+y: What one sees.

map = x + y, which is a formula in a paragraph that goes on
for longer than one line of a narrow terminal has room for.

y = 2 x
x = 1

command: cnnviz gradcam --method x+y
paper: Anon, 2000; Other, 2001
class-discriminative: yes

options:
  --zeal low|high  How hard to try. (default low;
                   CNNVIZ_GRADCAM__ZEAL)
  --rounds N       How often. (default 3, 5;
                   CNNVIZ_GRADCAM__ROUNDS)
Under 'cnnviz all', these flags begin with --gradcam-.
"""
    )
    picky = cnnviz("methods", "picky").out
    assert "no options" in picky
    assert "https://example.org/9" in picky


@pytest.mark.parametrize("name", [m.name for m in methods()])
def test_every_method_in_full(cnnviz: Command, name: str) -> None:
    (known,) = (m for m in methods() if m.name == name)
    shown = cnnviz("methods", name).out
    assert words(known.summary) in words(shown)
    assert words(method_facts.formula(known)) in words(shown)
    assert known.paper in words(shown)
    for item in fields(known.options):
        assert f"\n  --{item.name.replace('_', '-')}" in shown


@pytest.mark.usefixtures("made_up")
def test_on_a_network_each_has_its_cost_or_the_reason_why_not(cnnviz: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from cnnviz_cli.models.input.preprocessing import Preprocessing
    from cnnviz_cli.models.inspect.probe import probe_layers
    from cnnviz_cli.models.load.loaded_model import LoadedModel

    def loaded(name: str, weights: str, **_how: Any) -> LoadedModel:
        """A tiny network in the place of a large one; its weights must not have to be fetched."""
        assert (name, weights) == ("squeezenet1_1", "random:0")
        net = tiny.build(tiny.Plain).float()
        size = Preprocessing(tiny.SIZE, tiny.SIZE, (0.5,) * 3, (0.5,) * 3, "bilinear")
        return LoadedModel(
            net, name, weights, "", tuple("abcde"), size, probe_layers(net, (3, tiny.SIZE, tiny.SIZE), name)
        )

    monkeypatch.setattr(importlib.import_module("cnnviz_cli.run.dry_run"), "load_model", loaded)
    few = {name: registry._METHODS[name] for name in ("gradcam", "picky", "x+y")}
    monkeypatch.setattr(registry, "_METHODS", few)
    result = cnnviz("methods", "--model", "squeezenet1_1")
    assert result.err == "squeezenet1_1: loading\n"
    rows = {line.split()[0]: line.split() for line in result.out.splitlines() if line.startswith("  ")}
    assert rows["gradcam"][:6] == ["gradcam", "*", "yes", "1", "1", "0"]
    assert rows["x+y"][:5] == ["x+y", "yes", "1", "1", "7"]
    assert rows["picky"][:5] == ["picky", "-", "-", "-", "-"]
    assert "does not apply: this network is not to its liking" in result.out
    described = {m["name"]: m for m in json.loads(cnnviz("methods", "-m", "squeezenet1_1", "--json").out)["methods"]}
    assert (described["x+y"]["applies"], described["x+y"]["reason"]) == (True, None)
    assert described["x+y"]["cost"] == {"forwards": 1, "backwards": 1, "variants": 7}
    assert described["x+y"]["plan"][2] == "for each image 7 forwards: seven altered inputs"
    assert (described["picky"]["applies"], described["picky"]["cost"]) == (False, None)
    assert described["picky"]["reason"] == "this network is not to its liking"
    in_full = cnnviz("methods", "x+y", "--model", "squeezenet1_1").out
    assert "\non squeezenet1_1:\n  1 forward, " in in_full
    assert cnnviz("methods", "picky", "--model", "squeezenet1_1").out.endswith(
        "on squeezenet1_1:\n  does not apply: this network is not to its liking\n"
    )


@pytest.mark.parametrize(
    ("arguments", "said", "hint"),
    [
        (["gradcm"], "there is no method 'gradcm'", "'gradcam'"),
        (
            ["gradient", "--family", "gradcam"],
            "'gradient' is a method of saliency, not of gradcam",
            "--method gradient",
        ),
        (["--family", "gradcm"], "--family: there is no family 'gradcm'", "'gradcam'"),
        (["--model", "vgg61"], "there is no model 'vgg61'", "'vgg16'"),
    ],
)
def test_unknown_names(cnnviz: Command, arguments: list[str], said: str, hint: str) -> None:
    result = cnnviz("methods", *arguments)
    assert (result.code, result.out) == (2, "")
    assert said in result.err
    assert hint in result.err


EVERY = {family: tuple(m.name for m in methods(family)) for family in FAMILIES}


def test_all_of_a_family_by_flag_variable_and_file(
    cnnviz: Command, fake_run: FakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chosen(*arguments: str) -> dict[str, tuple[str, ...]]:
        result = cnnviz(*arguments)
        assert result.code == 0, result.err
        return {family: fake_run.settings.method_names(family) for family in families_of(arguments[0])}

    first = {family.name: (family.default,) for family in FAMILIES.values()}
    assert chosen("gradcam", "a.png", "--method", "all") == {"gradcam": EVERY["gradcam"]}
    assert chosen("deconv", "a.png", "--method", "class,all,class") == {"deconv": ("class", "deconvnet")}
    assert chosen("all", "a.png", "--saliency-method", "all") == first | {"saliency": EVERY["saliency"]}
    assert chosen("all", "a.png", "--method", "all") == EVERY
    assert chosen("all", "a.png") == first
    monkeypatch.setenv("CNNVIZ_GRADCAM__METHOD", "all")
    assert chosen("all", "a.png") == first | {"gradcam": EVERY["gradcam"]}
    monkeypatch.delenv("CNNVIZ_GRADCAM__METHOD")
    Path("c.yaml").write_text("gradcam: {method: [all]}\ndeconv: {method: all}\n", encoding="utf-8")
    both = {"gradcam": EVERY["gradcam"], "deconv": EVERY["deconv"]}
    assert chosen("all", "a.png", "-c", "c.yaml") == first | both


@pytest.mark.usefixtures("made_up")
def test_methods_of_any_family_under_all(cnnviz: Command, fake_run: FakeRun) -> None:
    def chosen(*arguments: str) -> Any:
        assert cnnviz("all", "a.png", *arguments).code == 0
        return fake_run.settings

    settings = chosen("--method", "x+y,class", "--gradcam-method", "gradcam", "--gradcam-zeal", "high")
    assert settings.method_names("gradcam") == ("gradcam", "x+y")
    assert settings.method_names("deconv") == ("class",)
    assert settings.method_names("saliency") == ("gradient",)
    assert {m.name: options for m, options in settings.selected_methods("gradcam")}["x+y"].zeal == "high"
    settings = chosen("--method", "x+y", "--method", "all")
    asked = {m.name: settings.is_named(m) for m, _ in settings.selected_methods("gradcam")}
    assert (asked["x+y"], asked["picky"]) == (True, False)


@pytest.mark.usefixtures("made_up")
@pytest.mark.parametrize(
    ("given", "near"),
    [("x+z", "'x+y'"), ("gradcam,pickyy", "'picky'"), ("gradcm,,", "'gradcam'"), ("no such thing", "cnnviz methods")],
)
def test_an_unknown_method_in_a_list(cnnviz: Command, fake_run: FakeRun, given: str, near: str) -> None:
    result = cnnviz("gradcam", "a.png", "--method", given)
    assert result.code == 2
    assert "error: --method: there is no gradcam method '" in result.err
    assert near in result.err
    assert len(result.err) < 300
    assert fake_run.settings is None


@pytest.mark.usefixtures("made_up")
def test_the_record_has_the_methods_by_name_and_the_options_that_they_read() -> None:
    record = load_settings("gradcam", {("gradcam", "method"): ["x+y"]}, None, {}).as_json()["gradcam"]
    assert record == {"method": ["x+y"], "zeal": "low", "rounds": [3, 5]}
    of_all = load_settings("gradcam", {("gradcam", "method"): ["all"]}, None, {})
    spelt_out = load_settings("gradcam", {("gradcam", "method"): list(of_all.method_names("gradcam"))}, None, {})
    assert of_all.as_json()["gradcam"]["method"] == [m.name for m in methods("gradcam")]
    assert of_all.config_sha256 == spelt_out.config_sha256
    # What no chosen method reads decides nothing.
    unread = load_settings("gradcam", {("gradcam", "method"): ["gradcam"]}, None, {"CNNVIZ_GRADCAM__ZEAL": "high"})
    assert unread.config_sha256 == load_settings("gradcam", {}, None, {}).config_sha256


@pytest.mark.usefixtures("made_up")
def test_configuration_files_know_all_and_the_options_of_every_method(cnnviz: Command) -> None:
    good = {"gradcam": {"method": "all", "zeal": "high", "rounds": [1, 2]}, "deconv": {"method": ["all"], "maps": 2}}
    jsonschema.validate(good, config_schema())
    Path("good.yaml").write_text(json.dumps(good), encoding="utf-8")
    assert cnnviz("config", "check", "good.yaml").out == "good.yaml: ok\n"
    shown = cnnviz("config", "show", "-c", "good.yaml").out
    assert re.search(r"^  method: \[all\] +# file good\.yaml:1:", shown, re.MULTILINE)
    Path("shown.yaml").write_text(shown, encoding="utf-8")
    assert load_settings("all", {}, Path("shown.yaml"), {}) == load_settings("all", {}, Path("good.yaml"), {})
    Path("bad.yaml").write_text("gradcam:\n  zael: high\n  zeal: hgih\n  rounds: [1, 0]\n", encoding="utf-8")
    result = cnnviz("config", "check", "bad.yaml")
    assert result.code == 2
    assert "bad.yaml:2:3: there is no key 'zael' in the section 'gradcam'" in result.err
    assert "Did you mean 'zeal'?" in result.err
    assert "bad.yaml:3:9: 'gradcam.zeal' must be low or high, not 'hgih'" in result.err
    assert "bad.yaml:4:15: 'gradcam.rounds' must be at least 1, not 0" in result.err


@pytest.mark.parametrize("command", [*FAMILIES, "all"])
def test_help_names_no_method_but_the_default(cnnviz: Command, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    page = cnnviz(command, "--help").out
    assert max(map(len, page.splitlines())) <= 80
    selectors = [line for line in page.splitlines() if re.search(r"--([a-z]+-)?(method|variant) ", line)]
    assert len(selectors) == (len(FAMILIES) + 1 if command == "all" else 1)
    assert all(line.split()[1] == "METHOD" for line in selectors)


@pytest.mark.parametrize("command", [*FAMILIES, "all"])
def test_no_option_of_a_method_takes_the_flag_of_a_setting(command: str) -> None:
    chosen = [p for p in setting_paths(settings_type("all")) if len(p) == 1 or p[0] in families_of(command)]
    flags = [flag_name(path, command) for path in chosen]
    assert len(set(flags)) == len(flags)


@pytest.mark.usefixtures("made_up")
def test_the_shell_completes_the_last_of_a_list() -> None:
    words_of = completion.list_completion(["all", "gradcam", "gradcam++", "x+y"])
    assert words_of("gra") == ["gradcam", "gradcam++"]
    assert words_of("x+y,gra") == ["x+y,gradcam", "x+y,gradcam++"]
    assert words_of("gradcam,gradc") == ["gradcam,gradcam++"]
    assert completion.complete_methods("picky,x+") == ["picky,x+y"]
    assert ALL in completion.complete_methods("")
    # Both kinds of command offer what they take.
    for command, name in (("gradcam", "gradcam__method"), ("all", "gradcam__method"), ("all", "method")):
        (parameter,) = (p for p in build(command, "").params if p.name == name)
        assert [item.value for item in parameter.shell_complete(None, "x+")] == ["x+y"]


def test_a_plan_says_how_many_variants_an_image_has(capsys: pytest.CaptureFixture[str]) -> None:
    sketch = SimpleNamespace(
        inputs=["a.png"],
        plan_lines=["1 forward, autograd off"],
        cost=Cost(forwards=1, backwards=0, variants=1280),
        outputs=[],
    )
    print_dry_run(sketch, Path("out"), as_json=False)  # type: ignore[arg-type]
    assert "passes per batch: 1 forward, 1280 variants per image\n" in capsys.readouterr().out
    sketch.cost = Cost(forwards=1, backwards=0, variants=256, at_most=True)
    print_dry_run(sketch, Path("out"), as_json=False)  # type: ignore[arg-type]
    assert "passes per batch: 1 forward, up to 256 variants per image\n" in capsys.readouterr().out
