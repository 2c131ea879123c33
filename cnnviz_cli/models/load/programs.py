"""Networks that were saved with their code: TorchScript and torch.export programs."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from cnnviz_cli.core.errors import ModelError
from cnnviz_cli.core.file_reading import MAX_WEIGHTS_BYTES, open_regular
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.models.input.preprocessing import Preprocessing
from cnnviz_cli.models.load.built_model import BuiltModel, imagenet_preprocessing
from cnnviz_cli.models.load.checkpoint import sha256_of_file
from cnnviz_cli.models.load.load_errors import not_weights_error
from cnnviz_cli.models.spec.network import FileKind, ProgramModel


class ProgramNetwork(nn.Module):
    """A program as one module.

    Args:
        program: what `torch.jit.load` gave, or the module of an exported program.
        batch: how many images it takes at a time, if it was saved for one number; others are made up of runs with that
            number.
        whole: why no layer in it can be read, one sentence; `probe` passes it on.
    """

    def __init__(self, program: nn.Module, batch: int | None, whole: str) -> None:
        super().__init__()
        self.program = program
        self.batch = batch
        self.whole = whole
        # A frozen program has no parameters, and a network's device is that of its first.
        self.anchor = nn.Parameter(torch.zeros((), dtype=torch.float32, device="cpu"), requires_grad=False)

    def forward(self, x: Tensor) -> Any:
        if self.batch is None or len(x) == self.batch:
            return self.program(x)
        parts = [self._run_padded(part) for part in torch.split(x, self.batch)]
        if isinstance(parts[0], Mapping):
            return {name: torch.cat([part[name] for part in parts])[: len(x)] for name in parts[0]}
        return torch.cat(parts)[: len(x)]

    def _run_padded(self, part: Tensor) -> Any:
        missing = (self.batch or 0) - len(part)
        scores: Any = self.program(torch.cat([part, part[-1:].expand(missing, -1, -1, -1)]) if missing else part)
        return scores[0] if isinstance(scores, tuple | list) else scores

    def train(self, mode: bool = True) -> Self:
        """Switch a TorchScript program; an exported one keeps what it was exported with."""
        self.training = mode
        if isinstance(self.program, torch.jit.ScriptModule):
            self.program.train(mode)
        else:
            for module in self.program.modules():
                module.training = mode
        return self


def build(program: ProgramModel) -> BuiltModel:
    """The network in a program's file. Loading it can do what any program can: see docs/checkpoints.md.

    Raises ModelError if the file is damaged, from another version, or was exported while training.
    """
    with warnings.catch_warnings(action="ignore"), redirect_stdout(sys.stderr):
        try:
            load = _load_torchscript if program.kind is FileKind.TORCHSCRIPT else _load_exported
            loaded, batch, preset = load(program.path)
        except ModelError:
            raise
        except Exception as error:  # whatever the loaders raise on a damaged file
            raise not_weights_error(program.path, str(error)) from error
    name = escape_text(program.path.name, 100)
    whole = f"{name} is {program.kind.value}, which runs as a whole, so no layer in it can be read"
    net = ProgramNetwork(loaded, batch, whole)
    return BuiltModel(net.eval(), program.path.name, sha256_of_file(program.path), None, preset)


def _load_torchscript(path: Path) -> tuple[nn.Module, int | None, Preprocessing]:
    with open_regular(path, MAX_WEIGHTS_BYTES) as file:
        loaded: nn.Module = torch.jit.load(file, map_location="cpu")  # type: ignore[no-untyped-call]
    return loaded, None, imagenet_preprocessing()


def _load_exported(path: Path) -> tuple[nn.Module, int | None, Preprocessing]:
    with open_regular(path, MAX_WEIGHTS_BYTES) as file:
        loaded = torch.export.load(file)
    if _is_training(loaded.graph_module):
        what = f"'{escape_text(path.name, 100)}' was exported while training: its scores would be random"
        raise ModelError(what, where="--model", fix="Call net.eval() before torch.export.export(net, ...).")
    shape, preset = _input_shape(loaded) or (None,), imagenet_preprocessing()
    size = tuple(side for side in shape[2:] if isinstance(side, int))
    if len(size) == 2:
        cover = tuple(round(side * preset.resized_size[0] / preset.size[0]) for side in size)
        preset = replace(preset, crop=(size[0], size[1]), resize=(cover[0], cover[1]))
    return loaded.module(), shape[0] if isinstance(shape[0], int) else None, preset


def _input_shape(loaded: Any) -> tuple[Any, ...] | None:
    """The shape of the batch of images; a number where it was fixed. None if it takes something else."""
    inputs = set(loaded.graph_signature.user_inputs)
    values = [node.meta.get("val") for node in loaded.graph.nodes if node.op == "placeholder" and node.name in inputs]
    if len(values) != 1 or not isinstance(values[0], Tensor) or values[0].dim() != 4:
        return None
    return tuple(values[0].shape)


def _is_training(graph: Any) -> bool:
    for node in graph.graph.nodes:
        kind = str(node.target)
        if "dropout" in kind and (node.args[2] if len(node.args) > 2 else node.kwargs.get("train", True)) is True:
            return True
        if "batch_norm" in kind and len(node.args) > 5 and node.args[5] is True:
            return True
    return False
