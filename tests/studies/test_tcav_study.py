"""Named concepts through a whole run: a planted direction, passes that are counted, what is refused, the same bytes."""

from __future__ import annotations

import importlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from run.resuming import Listener, files_of
from running import recipe_of
from studies.planted import LAYER, Planted, ask, folders, images_of, paint, planted_model

from cnnviz_cli.config.concepts_fields import ConceptsSection
from cnnviz_cli.config.tcav_fields import check_tcav
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.needs import Gradient
from cnnviz_cli.engine.plan import Plan
from cnnviz_cli.files.output.merge_shards import merge_shards
from cnnviz_cli.files.output.shards import Shard
from cnnviz_cli.files.output.verify import verify
from cnnviz_cli.run import looking
from cnnviz_cli.run.lifecycle import conclude_merged
from cnnviz_cli.studies.tcav.cav import accuracy as accuracy_of
from cnnviz_cli.studies.tcav.cav import fit_vectors, leave_one_out
from cnnviz_cli.studies.tcav.statistics import cut_in_halves


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("cnnviz_cli.run.session"), "load_model", planted_model)
    monkeypatch.setattr(looking, "_START_SECONDS", 0.0)
    monkeypatch.setattr(looking, "_POLL_SECONDS", 0.01)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return folders(tmp_path_factory.mktemp("concepts"))


def manifest_of(out: Path) -> Any:
    return json.loads((out / "manifest.json").read_bytes())


def scores_of(out: Path) -> dict[str, Any]:
    return {one["concept"]: one for one in manifest_of(out)["findings"]["tcav"]["scores"]}


def colours(folder: Path, *, flat: bool = False) -> torch.Tensor:
    """The activations of a folder's images, slowly."""
    found = [torch.from_numpy(np.asarray(Image.open(path), np.float64) / 255) for path in sorted(folder.iterdir())]
    return torch.stack([one.permute(2, 0, 1).flatten() if flat else one.mean((0, 1)) for one in found])


def by_autograd(folder: Path, vector: torch.Tensor, *, flat: bool = False) -> list[float]:
    """The derivative of class 0 along a vector, of each image by itself and in double precision."""
    net, found = Planted().double(), []
    for path in sorted(folder.iterdir()):
        pixels = torch.from_numpy(np.asarray(Image.open(path), np.float64) / 255).permute(2, 0, 1)[None]
        moved = torch.zeros((), dtype=torch.float64, requires_grad=True)
        step = vector.view(3, *pixels.shape[2:]) if flat else vector[:, None, None]
        means = (pixels + moved * step).mean((2, 3))
        score = torch.cat([means[:, :1] * (means[:, 2:] - 0.5), net.rest(means)], 1)[0, 0]
        found.append(float(torch.autograd.grad(score, moved)[0]))
    return found


def test_a_planted_concept_has_the_derivatives_that_are_known(made: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    ask(out, images_of(made["class"]), [made["red"], made["green"]], made["random"])
    red, green = scores_of(out)["red"], scores_of(out)["green"]
    assert min(red["accuracy"], green["accuracy"]) > 0.95
    assert red["share"]["value"] == 0.75  # six of eight images have more blue than half
    found = torch.cat([colours(made["red"]), colours(made["random"])])
    labels = torch.cat([torch.ones(14), -torch.ones(20)]).double()
    vectors = fit_vectors(found @ found.T, labels[None], 0.1, "ridge")
    vector = (vectors.weights @ found)[0]
    assert float(vector[0]) > 0.9
    slow = by_autograd(made["class"], vector)
    records = [image["findings"]["tcav"] for image in manifest_of(out)["images"]]
    assert [one[0]["derivative"] for one in records] == pytest.approx(slow, abs=2e-6)
    assert red["mean"]["value"] == pytest.approx(np.mean(slow), abs=2e-6)
    above, size = sum(one for one in slow if one > 0), sum(map(abs, slow))
    assert red["magnitude"] == pytest.approx(above / size, abs=1e-5)
    said = (colours(made["class"]) @ vector + vectors.biases[0]).tolist()
    assert [one[0]["decision"] for one in records] == pytest.approx(said, abs=2e-6)
    assert green["mean"]["value"] == pytest.approx(np.mean([one[1]["derivative"] for one in records]), abs=2e-6)
    stored = np.load(out / "tcav.npz")
    assert np.allclose(stored[f"red, {LAYER}"], vector.numpy(), atol=1e-6)
    assert verify(out) == []


def test_the_p_is_that_of_the_halves_one_by_one(made: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    ask(out, images_of(made["class"]), [made["red"], made["green"]], made["random"])
    others, seen = colours(made["random"]), colours(made["class"])
    slopes = torch.stack([seen[:, 2] - 0.5, torch.zeros(8).double(), seen[:, 0]], 1)
    shares, means = [], []
    for cut in cut_in_halves(20, 60, 0):
        one, rest = others[cut == 1], others[cut == -1]
        both = torch.cat([one, rest])
        labels = torch.cat([torch.ones(10), -torch.ones(10)]).double()
        vector = (fit_vectors(both @ both.T, labels[None], 0.1, "ridge").weights @ both)[0]
        shares.append(float((slopes @ vector > 0).double().mean()))
        means.append(float((slopes @ vector).mean()))
    chances = {}
    for name, score in scores_of(out).items():
        far = [abs(one - 0.5) >= abs(score["share"]["value"] - 0.5) - 1e-9 for one in shares]
        assert score["share"]["p"] == pytest.approx((1 + sum(far)) / 61, abs=1e-6)
        far = [abs(one) >= abs(score["mean"]["value"]) for one in means]
        assert score["mean"]["p"] == pytest.approx((1 + sum(far)) / 61, abs=1e-6)
        assert score["mean"]["random"] == pytest.approx(
            np.quantile([*means, *(-one for one in means)], [0.025, 0.975]), abs=1e-5
        )
        assert score["share"]["random"] == pytest.approx(
            np.quantile([*shares, *(1 - one for one in shares)], [0.025, 0.975]), abs=1e-5
        )
        assert score["mean"]["interval"][0] < score["mean"]["value"] < score["mean"]["interval"][1]
        chances[name] = score["mean"]
    least, most = sorted(chances.values(), key=lambda one: one["p"])
    assert least["corrected_p"] == pytest.approx(min(1, 2 * least["p"]), abs=1e-5)
    assert most["corrected_p"] == pytest.approx(max(most["p"], min(1, 2 * least["p"])), abs=1e-5)


def test_positions_may_count_by_themselves(made: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    ask(out, images_of(made["class"]), [made["red"]], made["random"], pool="none", cav="logistic", penalty=0.5)
    found = torch.cat([colours(made["red"], flat=True), colours(made["random"], flat=True)])
    labels = torch.cat([torch.ones(14), -torch.ones(20)]).double()
    vectors = fit_vectors(found @ found.T, labels[None], 0.5, "logistic")
    vector = (vectors.weights @ found)[0]
    told = accuracy_of(leave_one_out(found @ found.T, labels, 0.5, "logistic"), labels)
    assert scores_of(out)["red"]["accuracy"] == pytest.approx(told)
    records = [image["findings"]["tcav"][0] for image in manifest_of(out)["images"]]
    assert [one["derivative"] for one in records] == pytest.approx(
        by_autograd(made["class"], vector, flat=True), abs=2e-6
    )
    said = (colours(made["class"], flat=True) @ vector + vectors.biases[0]).tolist()
    assert [one["decision"] for one in records] == pytest.approx(said, abs=1e-5)


def test_a_concept_may_be_told_from_another(made: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    ask(out, images_of(made["class"]), [made["red"]], made["random"], rather_than=str(made["green"]))
    stored = np.load(out / "tcav.npz")[f"red, {LAYER}"]
    assert stored[0] > 0.5
    assert stored[1] < -0.5
    assert manifest_of(out)["findings"]["tcav"]["rather_than"] == "green"


def test_what_cannot_be_told_apart_has_no_score(made: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    ask(out, images_of(made["class"]), [made["grey"], made["red"]], made["random"])
    grey = scores_of(out)["grey"]
    assert grey["accuracy"] < 0.7
    assert "share" not in grey
    assert "mean" not in grey
    told = f"{100 * grey['accuracy']:.0f} %"
    assert grey["refused"] == f"{told} of the images are told from those of random, and 70 % are needed"
    red = scores_of(out)["red"]
    assert red["share"]["corrected_p"] == red["share"]["p"]  # of one score there is nothing to correct
    assert [one["concept"] for one in manifest_of(out)["images"][0]["findings"]["tcav"]] == ["red"]
    rows = (out / "tcav.csv").read_text().splitlines()
    assert rows[1].endswith(grey["refused"].join('""')) or rows[1].endswith(f'"{grey["refused"]}"')


def test_an_image_has_one_gradient_a_layer_which_grad_cam_shares(
    made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight images in batches of three are three backward passes, whatever concepts there are."""
    counted = []
    plain = torch.autograd.grad

    def count(*given: Any, **named: Any) -> Any:
        counted.append(1)
        return plain(*given, **named)

    sources = images_of(made["class"])
    monkeypatch.setattr(torch.autograd, "grad", count)
    heard = Listener()
    looked = looking.Looking.gather

    def gather(self: Any, name: str, shown: Any, *given: Any, **named: Any) -> Any:
        counted.clear()
        store = looked(self, name, shown, *given, **named)
        needs.extend(getattr(shown, "needs", ()))
        passes[name] = len(counted)
        return store

    passes: dict[str, int] = {}
    needs: list[Gradient] = []
    monkeypatch.setattr(looking.Looking, "gather", gather)
    ask(tmp_path / "out", sources, [made["red"], made["green"]], made["random"], heard=heard)
    assert passes == {"concepts": 0, "class": 3}
    assert len(counted) == 3  # none for records and figures
    gradcam = recipe_of("gradcam", Planted().double(), layer=(LAYER,))
    assert Plan.of([*gradcam.needs, *needs]).cost() == Plan.of(gradcam.needs).cost()
    assert set(needs) == {need for need in gradcam.needs if isinstance(need, Gradient)}


def test_the_same_numbers_on_every_run_and_in_shards(made: dict[str, Path], tmp_path: Path) -> None:
    sources = images_of(made["class"])
    asked = ([made["red"], made["green"]], made["random"])
    for name in ("one", "other"):
        ask(tmp_path / name, sources, *asked)
    assert files_of(tmp_path / "one") == files_of(tmp_path / "other")
    parts = tmp_path / "parts"
    for _ in range(3):  # the folders, the class, the figures: each shard waits for what the other has not done
        ended = [ask(parts, sources, *asked, shard=Shard(index, 2)) for index in range(2)]
    assert "interrupted" not in {one.status for one in ended}
    said: list[str] = []
    assert merge_shards(parts, partial(conclude_merged, warn=said.append)).missing == 0
    for path, data in files_of(tmp_path / "one").items():
        assert files_of(parts)[path] == data, path


def test_another_seed_cuts_other_halves_and_finds_the_same_directions(made: dict[str, Path], tmp_path: Path) -> None:
    for seed in (0, 1):
        out = tmp_path / str(seed)
        ask(out, images_of(made["class"]), [made["red"]], made["random"], cuts=20 + seed)
    first, second = (scores_of(tmp_path / str(seed))["red"] for seed in (0, 1))
    assert first["share"]["value"] == second["share"]["value"]
    assert first["mean"]["random"] != second["mean"]["random"]


def test_too_few_cuts_for_so_many_concepts_are_told(made: dict[str, Path], tmp_path: Path) -> None:
    asked = images_of(made["class"]), [made["red"], made["green"]]
    for number, (cuts, warned) in enumerate(((30, True), (60, False))):
        heard = Listener()
        ask(tmp_path / str(number), *asked, made["random"], cuts=cuts, heard=heard)
        said = (
            "30 random directions and 2 concepts and layers leave no corrected p below 0.065: ask for more with --cuts"
        )
        assert (said in heard.warned) is warned
    few = paint(tmp_path / "few", 10, (0.4, 0.4, 0.4), 7)
    ask(tmp_path / "few-cuts", *asked, few, cuts=1000)
    assert manifest_of(tmp_path / "few-cuts")["findings"]["tcav"]["cuts"] == 126  # all that ten images have


def refused(*given: Any, **named: Any) -> UsageError:
    with pytest.raises(UsageError) as caught:
        ask(*given, **named)
    return caught.value


def test_too_few_images_are_refused_before_any_is_read(made: dict[str, Path], tmp_path: Path) -> None:
    three = paint(tmp_path / "three", 3, (1, 0, 0), 0)
    sources = images_of(made["class"])
    error = refused(tmp_path / "out", sources, [three], made["random"])
    assert error.what == "'three' has 3 images that can be shown, and a direction takes 10 at the least"
    assert error.where == "--concept"
    error = refused(tmp_path / "out", sources, [made["red"]], three)
    assert error.where == "--against"
    error = refused(tmp_path / "out", sources, [tmp_path / "nothing"], made["random"])
    assert error.where == "--concept"
    assert "nothing" in error.what


def test_images_that_cannot_be_read_do_not_count(made: dict[str, Path], tmp_path: Path) -> None:
    broken = paint(tmp_path / "broken", 12, (0.8, 0.4, 0.4), 9)
    for number in range(2):
        (broken / f"{number:02}.png").write_bytes(b"no image")
    heard = Listener()
    ask(tmp_path / "out", images_of(made["class"]), [broken], made["random"], heard=heard)
    assert any("not among the images of broken, random" in line for line in heard.warned)
    (broken / "02.png").write_bytes(b"no image")
    error = refused(tmp_path / "other", images_of(made["class"]), [broken], made["random"])
    assert error.what.startswith("'broken' has 9 images that can be shown")


def test_an_image_on_both_sides_is_refused(made: dict[str, Path], tmp_path: Path) -> None:
    mixed = paint(tmp_path / "mixed", 10, (0.8, 0.4, 0.4), 9)
    (mixed / "more.png").write_bytes((made["random"] / "03.png").read_bytes())
    error = refused(tmp_path / "out", images_of(made["class"]), [mixed], made["random"])
    assert error.what == "1 image of 'mixed' is in 'random' as well"


@pytest.mark.parametrize(
    ("target", "said"),
    [((0, 1), "--target names 2"), (("top1",), "another one in each image")],
)
def test_one_class_is_asked_about(target: Any, said: str, made: dict[str, Path], tmp_path: Path) -> None:
    error = refused(tmp_path / "out", images_of(made["class"]), [made["red"]], made["random"], target=target)
    assert said in error.what
    assert error.where == "--target"


@pytest.mark.parametrize("layer", ["rest", "nothing"])
def test_a_layer_without_maps_is_refused(layer: str, made: dict[str, Path], tmp_path: Path) -> None:
    error = refused(tmp_path / "out", images_of(made["class"]), [made["red"]], made["random"], layer=layer)
    assert error.where == "--layer"


def section(**given: Any) -> ConceptsSection:
    return ConceptsSection(**given)


@pytest.mark.parametrize(
    ("given", "targets", "where"),
    [
        ({"concept": (Path("a"),)}, True, "--against"),
        ({"concept": (Path("a"),), "against": "r"}, False, "--target"),
        ({"concept": (Path("r"),), "against": "r"}, True, "--concept"),
        ({"concept": (Path("a"), Path("./a")), "against": "r"}, True, "--concept"),
        ({"concept": (Path("a"),), "against": "r", "rather_than": "r"}, True, "--rather-than"),
        ({"concept": (Path("a"),), "against": "r", "rather_than": "a"}, True, "--concept"),
        ({"against": "r"}, True, "--against"),
        ({"rather_than": "b"}, True, "--rather-than"),
        ({"cuts": 50}, True, "--cuts"),
        ({"concept": (Path("a"),), "against": "r", "crops": 0.3}, True, "--crops"),
        ({"concept": (Path("a"),), "against": "r", "concepts": 3}, True, "--concepts"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_told(given: dict[str, Any], targets: bool, where: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_tcav(section(**given), targets=targets)
    assert caught.value.where == where
    check_tcav(section(layer="last-conv"), targets=False)
    check_tcav(section(concepts=3, crops="none"), targets=False)
    check_tcav(section(concept=(Path("a"), Path("b")), against="r", rather_than="c"), targets=True)
