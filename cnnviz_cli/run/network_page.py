"""What cnnviz believes of a network, line by line, each with what corrects it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import torch

from cnnviz_cli.config.settings import Settings
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.network_errors import network_errors
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.text import visible
from cnnviz_cli.engine.fold import fold
from cnnviz_cli.engine.rectifiers import RectifierMode
from cnnviz_cli.models.facts import NetworkFacts
from cnnviz_cli.models.heads import find_head, noise_for
from cnnviz_cli.models.load import LoadedModel, facts_of
from cnnviz_cli.models.returned import HeadShape
from cnnviz_cli.run.doctor import Check, guarded
from cnnviz_cli.run.prepare import model_of
from cnnviz_cli.tasks.spec import default_task

_SHOWN = 6

_UNNAMED = {1: "the grey of its colours, or its only band", 3: "its colours"}
"""What of an image goes into a network of so many channels if no bands are named."""

_RANGES = {"auto": "what the values need", "container": "all that their type holds"}
"""What becomes 0 and 1, by the value of the setting."""


def examine_network(settings: Settings, reporter: Reporter) -> Iterator[Check]:
    """All that was found out of the network that `settings` name; one failure where it cannot be loaded or run."""
    found: list[LoadedModel] = []

    def loaded() -> Check:
        with network_errors():
            found.append(model_of(settings, reporter))
        return Check("model", f"{found[0].name} ({found[0].weights})", fix="--model NAME, --weights SPEC")

    yield guarded("model", loaded)
    if not found:
        return
    (model,) = found
    yield Check("code", _code(model))
    yield from _input(settings, model)
    yield from _output(settings, model)
    yield Check("default layer", _default_layer(model), fix="--layer NAME; see: cnnviz layers MODEL")
    yield from _trial(model)
    yield guarded("classifier head", partial(_head, model))
    yield guarded("rectifiers", partial(_rectifiers, model))
    yield Check("max-pooling", "yes" if model.layers.max_pooled else "none", fix="--rule rectify|guide")
    yield guarded("batch norms", partial(_folding, model))


def _code(model: LoadedModel) -> str:
    kind = type(model.net)
    return model.layers.whole or f"Python, {visible(kind.__module__, 80)}.{visible(kind.__qualname__, 80)}"


def _input(settings: Settings, model: LoadedModel) -> Iterator[Check]:
    preprocessing = model.preprocessing
    channels, (height, width) = preprocessing.channels, preprocessing.size
    named = {1: "grey", 3: "RGB", 4: "RGB and alpha"}.get(channels, f"{channels} channels")
    size = f"{named}, {height} x {width}, resize {preprocessing.mode}"
    if preprocessing.mode == "crop":
        size += f" of {' x '.join(map(str, preprocessing.covered))}"
    yield Check("input", size, fix="--input-size HxW, --resize MODE, --resize-to N, --interpolation FILTER")
    chosen = ", ".join(map(str, settings.bands))
    bands = f"{chosen} go into the {channels} channels" if chosen else _UNNAMED.get(channels, "all that an image has")
    yield Check("bands", bands, fix="--bands N[,N...], counted from 1; --show-bands R,G,B")
    wide = _RANGES.get(settings.value_range, settings.value_range.replace(",", " to "))
    values = f"0 to 255 in 8 bits, {wide} in more, become 0 and 1"
    yield Check("value range", values, fix="--value-range auto|container|LO,HI")
    normalised = f"mean {_listed(preprocessing.mean)}; std {_listed(preprocessing.std)}"
    yield Check("normalisation", normalised, fix="--mean X[,X...], --std X[,X...]")


def _output(settings: Settings, model: LoadedModel) -> Iterator[Check]:
    returned, task = model.layers.returned, default_task(model.returns, settings.task)
    words = [f"{returned.seen}: {model.returns}"]
    if returned.bounds is not None:
        words.append(f"from {returned.bounds[0]:.3g} to {returned.bounds[1]:.3g} in the trial")
    yield Check(
        "output", ", ".join(words), fix="" if returned.head else "--head NAME|INDEX, of an output of several parts"
    )
    if returned.head:
        yield Check("head", f"'{visible(returned.head, 60)}' of {_names(returned.heads)}", fix="--head NAME|INDEX")
    if task.probabilities:
        values = f"taken for {returned.values}" + (f" ({returned.why})" if returned.why else "")
        yield Check("values", values, fix="--returns logits|probabilities|log-probabilities")
    if returned.classes:
        unit = f" in {visible(settings.unit, 20)}" if settings.unit else ""
        several = returned.classes > 1
        plain = f"{returned.classes:,} class{'es' * several}"
        values = f"{task.name}, {returned.classes:,} value{'s' * several}{unit}"
        shown, fix = (plain, "regression --unit UNIT") if task.probabilities else (values, "auto, --unit UNIT")
        yield Check("task", shown, fix=f"--task {fix}")


def _names(heads: Sequence[HeadShape]) -> str:
    shown = ", ".join(f"'{visible(head.name, 60)}'" for head in heads[:_SHOWN])
    return shown + (f" and {len(heads) - _SHOWN} more" if len(heads) > _SHOWN else "")


def _listed(values: Iterable[float]) -> str:
    return ", ".join(f"{one:g}" for one in values)


def _default_layer(model: LoadedModel) -> str:
    try:
        names = model.layers.resolve(("last-conv",))
    except UsageError as error:
        return error.what
    default = model.layers.default
    why = (default.why if default else "") or "the last layer with maps over the input"
    shape = " x ".join(map(str, model.layers[names[-1]].shape))
    return f"{', '.join(names)} ({shape}): {why}"


def _trial(model: LoadedModel) -> Iterator[Check]:
    facts = model.facts
    if not facts.tried:  # torchvision's are known; here somebody wants to see
        tried: list[NetworkFacts] = []

        def trial() -> Check:
            with network_errors():
                tried.append(facts_of(model.net, model.preprocessing, model.layers, facts.kept_training))
            return Check("trial", "run on noise")

        check = guarded("trial", trial)
        if not tried:
            yield check
            return
        (facts,) = tried
    layout = f"{facts.memory_format}" + (f": {facts.why_contiguous}" if facts.why_contiguous else "")
    yield Check("memory layout", layout, fix="--memory-format channels_last|contiguous")
    kept = ", ".join(visible(name, 60) for name in facts.kept_training[:_SHOWN])
    yield Check("eval mode", f"switched one by one, against its own train(): {kept}" if kept else "its own")
    agree = {
        "none": "agree to the bit",
        "seeded": "differ by its random draws, which start from the seed and the image: --seed N",
        "free": "differ whatever the seed: the same command may give other pictures",
    }
    yield Check("two forwards", agree[facts.randomness], "ok" if facts.randomness == "none" else "warning")
    batches = {
        "independent": "an image's output does not depend on the others of its batch",
        "coupled": "an image's output depends on the others of its batch, so that images pass one at a time",
        "single": "it takes one image at a time",
    }
    yield Check("batches", batches[facts.batching], "ok" if facts.batching != "coupled" else "warning")
    gradient = f"none reaches the input: {facts.no_gradient}" if facts.no_gradient else "reach the input"
    yield Check("gradients", gradient, "warning" if facts.no_gradient else "ok")
    runs = {name: len(found) for name, found in model.layers.runs.items()}
    several = ", ".join(f"{visible(name, 60)} {count} times" for name, count in list(runs.items())[:_SHOWN])
    more = f" and {len(runs) - _SHOWN} more" if len(runs) > _SHOWN else ""
    yield Check("repeated layers", f"{several}{more}" if several else "none", fix="--layer NAME@N" if runs else "")


def _head(model: LoadedModel) -> Check:
    preprocessing = model.preprocessing
    with network_errors():
        head = find_head(model.net, model.layers, (preprocessing.channels, *preprocessing.size))
    if head is None:
        return Check("classifier head", "no global average and one linear layer at the end")
    return Check("classifier head", f"averages the maps of '{head.layer}' and weighs the averages")


def _rectifiers(model: LoadedModel) -> Check:
    preprocessing, mode = model.preprocessing, RectifierMode()
    noise = noise_for(model.net, (preprocessing.channels, *preprocessing.size)).requires_grad_()
    with network_errors(), torch.enable_grad(), mode:
        model.net(noise.clone())
    found = f"{mode.seen} that a gradient passes" if mode.seen else "none that a gradient passes"
    return Check("rectifiers", found)


def _folding(model: LoadedModel) -> Check:
    folds = fold(model.net) is not None
    return Check(
        "batch norms", "are folded into convolutions for altered inputs" if folds else "none that can be folded"
    )
