"""What cnnviz believes of a network, line by line, each with what corrects it."""

from __future__ import annotations

from collections.abc import Iterator
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
from cnnviz_cli.models.preprocessing import Preprocessing
from cnnviz_cli.run.doctor import Check, guarded
from cnnviz_cli.run.prepare import model_of

_SHOWN = 6


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
    yield Check("input", _input(model.preprocessing), fix="--input-size HxW, --resize MODE, --mean X,X,X, --std X,X,X")
    yield guarded("output", partial(_output, settings, model))
    yield Check("default layer", _default_layer(model), fix="--layer NAME; see: cnnviz layers MODEL")
    yield from _trial(model)
    yield guarded("classifier head", partial(_head, model))
    yield guarded("rectifiers", partial(_rectifiers, model))
    yield Check("max-pooling", "yes" if model.layers.max_pooled else "none", fix="--rule rectify|guide")
    yield guarded("batch norms", partial(_folding, model))


def _code(model: LoadedModel) -> str:
    kind = type(model.net)
    return model.layers.whole or f"Python, {visible(kind.__module__, 80)}.{visible(kind.__qualname__, 80)}"


def _input(preprocessing: Preprocessing) -> str:
    channels, (height, width) = preprocessing.channels, preprocessing.size
    means, stds = (", ".join(f"{one:g}" for one in ones) for ones in (preprocessing.mean, preprocessing.std))
    named = {1: "grey", 3: "RGB", 4: "RGB and alpha"}.get(channels, f"{channels} channels")
    return f"{named}, {height} x {width}, resize {preprocessing.mode}; mean {means}; std {stds}"


def _output(settings: Settings, model: LoadedModel) -> Check:
    returned = model.layers.returned
    words = [f"{returned.seen}: {model.returns}"]
    if returned.classes:
        words.append(f"{returned.classes:,} {'values' if settings.task == 'regression' else 'classes'}")
    if returned.head:
        words.append(f"head '{visible(returned.head, 60)}' of {len(returned.heads)}")
    if model.returns != "boxes":
        words.append(f"taken for {returned.values}" + (f" ({returned.why})" if returned.why else ""))
    if returned.bounds is not None:
        words.append(f"from {returned.bounds[0]:.3g} to {returned.bounds[1]:.3g} in the trial")
    return Check("output", ", ".join(words), fix="--returns logits|probabilities, --head NAME|INDEX, --task regression")


def _default_layer(model: LoadedModel) -> str:
    try:
        names = model.layers.resolve(("last-conv",))
    except UsageError as error:
        return error.what
    why = getattr(getattr(model.layers, "default", None), "why", "") or "the last layer with maps over the input"
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
    gradient = f"none reaches the input: {facts.no_gradient}" if facts.no_gradient else "reaches the input"
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
