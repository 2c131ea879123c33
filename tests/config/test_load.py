"""Precedence, and every mistake with its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cnnviz_cli.config.errors import split_errors
from cnnviz_cli.config.load import load_settings, load_with_origins
from cnnviz_cli.config.settings import Settings
from cnnviz_cli.core.errors import UsageError


def told(
    command: str = "gradcam", flags: dict[Any, Any] | None = None, file: Path | None = None, **environ: str
) -> list[tuple[str, str, str]]:
    with pytest.raises(UsageError) as caught:
        load_settings(command, flags or {}, file, environ)
    return [(m.where, m.what, m.fix) for m in split_errors(caught.value)]


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_flag_wins_over_a_variable_over_the_file_over_the_default(tmp_path: Path) -> None:
    file = written(tmp_path, "alpha: 0.1\npalette: viridis\nbatch_size: 2\ngradcam: {layer: a}\n")
    environ = {"CNNVIZ_ALPHA": "0.2", "CNNVIZ_PALETTE": "magma", "CNNVIZ_GRADCAM__LAYER": "[b, c]"}
    flags = {("alpha",): "0.3", ("gradcam", "layer"): ["d"]}
    assert load_settings("gradcam", {}, None, {}).alpha == Settings.model_fields["alpha"].default
    assert load_settings("gradcam", {}, file, {}).alpha == 0.1
    assert load_settings("gradcam", {}, file, environ).alpha == 0.2
    loaded = load_with_origins("gradcam", flags, file, environ)
    settings = loaded.settings
    assert (settings.alpha, settings.palette, settings.batch_size, settings.precision) == (0.3, "magma", 2, "fp32")
    assert settings.section("gradcam").model_dump()["layer"] == ("d",)
    told_origins = {path: (kind, place.where) for path, (kind, place) in loaded.origins.items()}
    assert told_origins == {
        ("alpha",): ("flag", "--alpha"),
        ("palette",): ("environment", "CNNVIZ_PALETTE"),
        ("batch_size",): ("file", f"{file}:3:13"),
        ("gradcam", "layer"): ("flag", "--layer"),
    }


def test_sections_are_merged_key_by_key(tmp_path: Path) -> None:
    file = written(tmp_path, "deconv: {maps: 2, start: peak}\n")
    section = load_settings("deconv", {("deconv", "maps"): "3"}, file, {"CNNVIZ_DECONV__LAYER": "conv"}).section(
        "deconv"
    )
    expected = {"method": ("deconvnet",), "layer": ("conv",), "maps": 3, "start": "peak"}
    assert section.model_dump(include=set(expected)) == expected


def test_methods_may_be_named_with_commas(tmp_path: Path) -> None:
    for given in ("class,deconvnet", "class, deconvnet , class", ["class", "deconvnet"], ["class,deconvnet"]):
        settings = load_settings("deconv", {("deconv", "method"): given}, None, {})
        assert [method.name for method, _ in settings.selected_methods("deconv")] == ["class", "deconvnet"]
    file = written(tmp_path, "deconv: {method: 'class,deconvnet'}\n")
    assert len(load_settings("deconv", {}, file, {}).selected_methods("deconv")) == 2
    with pytest.raises(UsageError, match="clas"):
        load_settings("deconv", {("deconv", "method"): "clas,deconvnet"}, None, {})


def test_the_variable_names_a_file_and_the_flag_another(tmp_path: Path) -> None:
    file = written(tmp_path, "alpha: 0.1\n")
    assert load_settings("all", {}, None, {"CNNVIZ_CONFIG": str(file)}).alpha == 0.1
    assert load_settings("all", {}, file, {"CNNVIZ_CONFIG": "/nowhere.yaml"}).alpha == 0.1
    assert (
        load_settings("all", {}, None, {"CNNVIZ_CONFIG": "", "CNNVIZ_MODEL": "", "CNNVIZ_DEBUG": "1"}).batch_size
        == "auto"
    )


def test_text_stays_text_in_flags_and_variables() -> None:
    environ = {"CNNVIZ_WEIGHTS": "012", "CNNVIZ_GRADCAM__LAYER": "7", "CNNVIZ_OFFLINE": "1", "CNNVIZ_ALPHA": "null"}
    settings = load_settings("gradcam", {("target",): ["281", "no", "top3"]}, None, environ)
    assert settings.weights == "012"
    assert settings.section("gradcam").model_dump()["layer"] == ("7",)
    assert settings.offline is True
    assert settings.alpha is None
    assert settings.target == (281, "no", "top3")


@pytest.mark.parametrize(("word", "threads"), [("auto", "auto"), ("3", 3)])
def test_threads_are_the_same_wherever_they_are_written(tmp_path: Path, word: str, threads: int | str) -> None:
    for settings in (
        load_settings("all", {("threads",): word}, None, {}),
        load_settings("all", {}, None, {"CNNVIZ_THREADS": word}),
        load_settings("all", {}, written(tmp_path, f"threads: {word}\n"), {}),
    ):
        assert settings.threads == threads


def test_a_target_is_the_same_wherever_it_is_written(tmp_path: Path) -> None:
    file = written(tmp_path, "target: [281, '282', tiger cat]\n")
    by_file = load_settings("all", {}, file, {})
    by_variable = load_settings("all", {}, None, {"CNNVIZ_TARGET": "[281, 282, tiger cat]"})
    by_flag = load_settings("all", {("target",): ["281", "282", "tiger cat"]}, None, {})
    assert by_file == by_variable == by_flag
    assert load_settings("all", {}, written(tmp_path, "target: 281\n"), {}).target == (281,)


@pytest.mark.parametrize(
    ("yaml", "place", "what", "fix"),
    [
        ("alhpa: 1", "1:1", "there is no key 'alhpa'", "Did you mean 'alpha'?"),
        ("batch-size: 1", "1:1", "there is no key 'batch-size'", "Did you mean 'batch_size' or 'input_size'?"),
        ("alpha: 1.5", "1:8", "'alpha' must be at most 1, not 1.5", ""),
        ("alpha: .nan", "1:8", "'alpha' must be a finite number, not nan", ""),
        ("alpha: '0.5'", "1:8", "'alpha' must be a number, not '0.5'", ""),
        ("seed: -1", "1:7", "'seed' must be at least 0, not -1", ""),
        ("seed: 2.0", "1:7", "'seed' must be a whole number, not 2.0", ""),
        ("seed: true", "1:7", "'seed' must be a whole number, not true", ""),
        ("batch_size: 0", "1:13", "'batch_size' must be auto or a whole number of at least 1, not 0", ""),
        ("batch_size: 2.0", "1:13", "'batch_size' must be auto or a whole number of at least 1, not 2.0", ""),
        ("batch_size: true", "1:13", "'batch_size' must be auto or a whole number of at least 1, not true", ""),
        ("workers: some", "1:10", "'workers' must be auto or a whole number from 0 to 1024, not 'some'", ""),
        ("offline: yes", "1:10", "'offline' must be true or false, not 'yes'", "Write true."),
        ("offline: 1", "1:10", "'offline' must be true or false, not 1", ""),
        ("model: 12", "1:8", "'model' must be text, not 12", "Put it in quotes."),
        ("model: null", "1:8", "'model' must be text, not null", ""),
        ("model: [a]", "1:8", "'model' must be text, not a list", ""),
        ("device: gpu", "1:9", "'device' must be auto, cpu, cuda, cuda:N or mps, not 'gpu'", "Did you mean 'cuda'?"),
        ("precision: fp23", "1:12", "'precision' must be fp32, bf16 or fp16, not 'fp23'", "Did you mean 'fp32'?"),
        ("target: []", "1:9", "'target' must hold at least one value, not an empty list", ""),
        ("target: [a, -1]", "1:13", "'target' must be at least 0 where it is a class index, not -1", ""),
        ("target: [[a]]", "1:10", "'target' must be topK, a class index or a class name, not a list", ""),
        ("gradcam: 3", "1:10", "'gradcam' must be a section of keys and values, not 3", ""),
        ("gradcam: {lyer: a}", "1:11", "there is no key 'lyer' in the section 'gradcam'", "Did you mean 'layer'?"),
        (
            "gradcam: {alpha: 1}",
            "1:11",
            "there is no key 'alpha' in the section 'gradcam'",
            "'alpha' stands at the top level, outside the sections.",
        ),
        ("reduce: max", "1:1", "there is no key 'reduce'", "It belongs in a section: saliency.reduce."),
        ("gradcam: {layer: [a, 3]}", "1:22", "'gradcam.layer' must be text, not 3", "Put it in quotes."),
        ("deconv:\n  maps: 0", "2:9", "'deconv.maps' must be at least 1, not 0", ""),
        (
            "deconv:\n  method: [deconvnet, clas]",
            "2:23",
            "there is no deconv method 'clas'",
            "Did you mean 'class'?",
        ),
        (
            "gradcam: {method: gradcm}",
            "1:19",
            "there is no gradcam method 'gradcm'",
            None,
        ),
        ("output: ''", "1:9", "'output' must name a folder, not ''", ""),
        ("output: 3", "1:9", "'output' must be text, not 3", ""),
        (
            'model: x\n"a\\e[2J[/b]": 1',
            "2:1",
            "there is no key 'a\\x1b[2J[/b]'",
            None,
        ),
    ],
)
def test_a_mistake_in_a_file_has_its_line_column_and_remedy(
    tmp_path: Path, yaml: str, place: str, what: str, fix: str | None
) -> None:
    file = written(tmp_path, yaml + "\n")
    ((where, said, remedy),) = told("gradcam", {}, file)
    assert where == f"{file}:{place}"
    assert said == what
    assert fix is None or remedy == fix


def test_all_mistakes_are_told_in_the_order_of_their_lines(tmp_path: Path) -> None:
    file = written(tmp_path, "alpha: 2\ngradcam: {x: 1}\nprecision: q\n")
    places = [where for where, _, _ in told("gradcam", {("threads",): "x"}, file, CNNVIZ_BATCH_SIZE="0")]
    assert places == [f"{file}:1:8", f"{file}:2:11", f"{file}:3:12", "CNNVIZ_BATCH_SIZE", "--threads"]


def test_an_unknown_variable_is_refused() -> None:
    ((where, what, fix),) = told(CNNVIZ_MODLE="x")
    assert (where, what) == ("CNNVIZ_MODLE", "there is no such variable")
    assert fix.startswith("Did you mean 'CNNVIZ_MODEL'")
    assert told(CNNVIZ_GRADCAM_LAYER="x")[0][2].startswith("Did you mean 'CNNVIZ_GRADCAM__LAYER'")
    assert load_settings("all", {}, None, {"cnnviz_model": "x", "OTHER": "y"}).model == "efficientnet_lite0"


def test_mistakes_in_variables_and_flags_name_them() -> None:
    assert told(CNNVIZ_ALPHA="much") == [("CNNVIZ_ALPHA", "'alpha' must be a number, not 'much'", "")]
    ((where, what, _),) = told(CNNVIZ_TARGET="[top3, 'a")
    assert where == "CNNVIZ_TARGET:1:10"
    assert what.startswith("this is not YAML")
    assert told("all", {("gradcam", "layer"): ["a"], ("deconv", "maps"): "few"}) == [
        ("--deconv-maps", "'maps' must be a whole number, not 'few'", "")
    ]


def test_a_flag_that_no_chosen_method_reads_is_refused_but_a_shared_file_may_hold_it(tmp_path: Path) -> None:
    chosen = {("deconv", "method"): ["class"]}
    assert told("deconv", chosen | {("deconv", "maps"): "3"}) == [
        ("--maps", "no chosen method reads this option (class)", "Methods that read it: deconvnet")
    ]
    assert load_settings("deconv", chosen, written(tmp_path, "deconv: {maps: 3}\n"), {}).section("deconv")
