"""Where a dictionary of concepts comes from: it is found in rows, or an earlier run has found it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cnnviz_cli.config.concepts_fields import ConceptsFields
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.layers import split_run
from cnnviz_cli.core.rows import Rows
from cnnviz_cli.core.text import escape_text, list_some
from cnnviz_cli.files.tables.concept_file import ConceptFile
from cnnviz_cli.models.inspect.heads import forward_hooks, noise_input
from cnnviz_cli.run.session import Session
from cnnviz_cli.studies.concepts.autoencoder import TOP_K, Autoencoder, train_autoencoder
from cnnviz_cli.studies.concepts.dictionary import Dictionary
from cnnviz_cli.studies.concepts.nmf import Factors, Knee, NegativeValuesError, count_at_knee, factorize

FEWEST, MOST = 2, 20
"""The numbers of concepts that ``auto`` tries."""


CLASSES = 3
"""Classes by which a concept without a name is called."""


@dataclass(frozen=True)
class Found:
    """A dictionary, and how it came about."""

    dictionary: Dictionary
    knee: Knee | None = None


def find_dictionary(session: Session, layer: str, rows: Rows, fields: ConceptsFields) -> Found:
    """The concepts of rows, as the settings want them.

    Raises:
        UsageError: there are fewer rows than concepts, all are zero, or some have values below zero.
    """
    try:
        knee = None
        if fields.concepts == "auto":
            most = min(MOST, *rows.shape)
            if most < FEWEST:
                raise UsageError(f"there is {rows.shape[0]} row of numbers, and concepts are parts of several")
            knee = count_at_knee(rows, range(FEWEST, most + 1))
        count = knee.at if knee is not None else int(fields.concepts)
        if fields.dictionary == "sae":
            few = min(TOP_K, count)  # of fewer concepts a row may use all
            return Found(train_autoencoder(rows, count, top_k=few, seed=session.settings.seed), knee)
        return Found(factorize(rows, count), knee)
    except NegativeValuesError as error:
        if fields.dictionary == "sae":
            what = f"auto looks for the number by NMF, and layer '{layer}' has values below zero ({error.lowest:.3g})"
            raise UsageError(what, where="--concepts", fix="Give a number: --concepts 20") from error
        raise negative_error(session, layer, error.lowest) from error


def dictionary_of(file: ConceptFile, where: str) -> Dictionary:
    """The dictionary that a file has. Raises UsageError where it has none."""
    kind: type[Dictionary] = Autoencoder if file.facts.dictionary == "sae" else Factors
    try:
        return kind.of(file.dictionary)
    except (KeyError, ValueError, TypeError, IndexError, RuntimeError) as error:
        what = f"'{escape_text(file.name, 60)}' is no file of concepts: its arrays do not fit together"
        raise UsageError(what, where=where) from error


def in_order(dictionary: Dictionary, order: Sequence[int]) -> Dictionary:
    """The same concepts in another order."""
    return type(dictionary).of(arrays_in_order(dictionary.arrays(), dictionary.count, order))


def arrays_in_order(arrays: Mapping[str, NDArray[Any]], count: int, order: Sequence[int]) -> dict[str, NDArray[Any]]:
    """The arrays of a dictionary of `count` concepts, these in another order."""
    at = np.asarray(order)
    made = {}
    for name, values in arrays.items():
        if name == "encoder":  # (C, k)
            made[name] = np.ascontiguousarray(values[:, at])
        elif values.ndim and len(values) == count and name in ("basis", "energies", "bias"):
            made[name] = np.ascontiguousarray(values[at])
        else:
            made[name] = values
    return made


def linear_head_of(session: Session, layer: str) -> Tensor | None:
    """(K, C) the weights of a linear head that averages the maps of `layer`, and whose scores are those that are
    explained; None where the network has none."""
    context, returned = session.context, session.model.layers.returned
    if context.probable or returned.values != "logits":
        return None
    head = context.head
    if head is None or not _gives_same_maps(session, head.layer, layer):
        return None
    weight = head.weight.detach().float().cpu()
    # A network with one score answers yes or no.
    return torch.cat([-weight, weight]) if len(weight) == 1 else weight


def _gives_same_maps(session: Session, one: str, other: str) -> bool:
    """Whether two layers, one of which may hold the other, have the same maps."""
    if one == other:
        return True
    maps = _noise_maps(session)
    return one in maps and other in maps and torch.equal(maps[one], maps[other])


def negative_error(session: Session, layer: str, lowest: float) -> UsageError:
    """Why a layer whose values fall below zero is not factorised, with the layers that could be."""
    behind = layers_behind(session, layer)
    what = f"layer '{layer}' has values below zero ({lowest:.3g}), and concepts are parts that add up"
    if behind:
        fix = f"Name the layer behind its ReLU: --layer {behind[0]}"
    else:
        others = layers_without_negatives(session)
        named = f"Name another layer: {list_some(others[-3:], 3)}.\n" if others else ""
        fix = f"{named}An autoencoder takes any values: --dictionary sae"
    return UsageError(what, where="--layer", fix=fix)


def layers_behind(session: Session, layer: str) -> list[str]:
    """The layers whose maps are those of `layer` with zero in the place of all below it."""
    outputs = _noise_maps(session)
    if layer not in outputs:
        return []
    wanted = outputs[layer].clamp(min=0)
    cut = wanted.clamp(max=6)  # of a ReLU6
    return [
        name
        for name, maps in outputs.items()
        if name != layer and maps.shape == wanted.shape and (torch.equal(maps, wanted) or torch.equal(maps, cut))
    ]


def layers_without_negatives(session: Session) -> list[str]:
    """The layers with several positions and channels whose maps of noise have no value below zero."""
    return [name for name, maps in _noise_maps(session).items() if float(maps.amin()) >= 0 and float(maps.amax()) > 0]


def _noise_maps(session: Session) -> dict[str, Tensor]:
    """By layer its maps of noise; of a module that runs several times those of each run."""
    context, runs = session.context, session.model.layers.runs
    known = {split_run(info.name)[0] for info in context.layers if info.spatial and info.shape[0] > 1}
    outputs: dict[str, Tensor] = {}
    counted: Counter[str] = Counter()

    def keep(name: str, _module: Any, _inputs: Any, output: Any) -> None:
        counted[name] += 1
        called = f"{name}@{counted[name]}" if name in runs else name
        if isinstance(output, Tensor) and output.dim() == 4:
            outputs[called] = output.detach().float().cpu().clone()

    net = session.net
    image = noise_input(net, (session.model.preprocessing.channels, *context.input_spec.size))
    with torch.no_grad(), forward_hooks({name: net.get_submodule(name) for name in known}, keep):
        net(image)
    return outputs


def classes_alone(basis: NDArray[np.float32], head: Tensor, labels: Sequence[str]) -> list[list[str]]:
    """For each concept of a (k, C) basis the classes that it alone gives the highest logits, of those above zero, by
    the (K, C) weights of a linear head."""
    logits = basis.astype(np.float64) @ head.double().cpu().numpy().T
    found = []
    for row in logits:
        order = np.argsort(-row, kind="stable")[:CLASSES]
        found.append([escape_text(labels[index], 60) for index in order if row[index] > 0])
    return found
