"""A network on its device, and what is asked of it: where commands, the Python API and a cluster's workers start."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from hashlib import sha256
from math import prod
from types import MappingProxyType

import torch
from torch import Tensor, nn

from cnnviz_cli.config.evaluate_fields import evaluate_fields
from cnnviz_cli.config.settings import Settings
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.global_rng import reseed_forwards
from cnnviz_cli.core.layers import Layers, input_proportions, split_run
from cnnviz_cli.core.method import InputSpec, MethodContext
from cnnviz_cli.core.needs import Need
from cnnviz_cli.core.network import network_errors
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.engine import device as devices
from cnnviz_cli.engine.answers import Tick, no_tick
from cnnviz_cli.engine.attention import count_attention
from cnnviz_cli.engine.execution import Execution
from cnnviz_cli.engine.observe import Choose, Observation, observe
from cnnviz_cli.engine.partial import LayerReader
from cnnviz_cli.engine.plan import Plan
from cnnviz_cli.engine.targets import TargetSelector
from cnnviz_cli.files.annotations.folders import Annotations
from cnnviz_cli.files.tables.prompts import read_prompts
from cnnviz_cli.models.input.input_overrides import InputOverrides
from cnnviz_cli.models.inspect.facts import NetworkFacts
from cnnviz_cli.models.inspect.heads import find_head, noise_input
from cnnviz_cli.models.inspect.outputs import ExpectedOutput
from cnnviz_cli.models.load.loaded_model import LoadedModel, load_model
from cnnviz_cli.run.image_data import Wording
from cnnviz_cli.run.question import Question, question_for
from cnnviz_cli.tasks.spec import default_task

LAST_CONV = "last-conv"


@dataclass(frozen=True)
class Session:
    """A network on its device, in the layout that suits it, and what is asked of it.

    Attributes:
        command: the name of the command, ``explain`` from Python.
        question: what is asked of the network.
        context: what methods know of the network, for the first target.
    """

    command: str
    settings: Settings
    model: LoadedModel
    net: nn.Module
    device: torch.device
    question: Question
    context: MethodContext

    @classmethod
    @network_errors()
    def load(
        cls,
        command: str,
        settings: Settings,
        reporter: Reporter,
        local_rank: int | None = None,
        threads: int | None = None,
    ) -> Session:
        """Load the model that the settings name.

        Args:
            local_rank: the number of this process on this machine, if it is one of several: its GPU.
            threads: of this process, in the place of what the settings say.

        Raises:
            ModelError: the model or its weights cannot be had.
            DeviceError: the device is not there.
            UsageError: see `of`.
        """
        device = devices.select_device(settings.device, local_rank)
        devices.use_deterministic_kernels()
        devices.use_threads(threads or settings.threads)
        if device.type == "cpu":
            devices.keep_freed_memory()
        return cls.of(command, settings, load_model_for(settings, reporter), device, reporter)

    @classmethod
    @network_errors()
    def of(
        cls,
        command: str,
        settings: Settings,
        model: LoadedModel,
        device: torch.device,
        reporter: Reporter,
        annotations: Annotations | None = None,
    ) -> Session:
        """A session with a model that is loaded, and with what is marked, if that is there already; raises UsageError
        if labels, truths or targets do not fit."""
        question, model = question_for(settings, model, device, annotations)
        for note in output_notes(settings, model):
            reporter.say(note)
        model = replace(model, labels=question.labels.names)
        for line in model.facts.warnings():
            reporter.warn(f"{escape_text(model.name, 100)}: {line}")
        for line in model.facts.notes():
            reporter.say(f"{escape_text(model.name, 100)}: {line}")
        arithmetic = devices.arithmetic_of(device, settings.precision)
        if arithmetic == "none":
            reporter.warn(f"{settings.precision} has no arithmetic on this processor and is slower than fp32")
        elif arithmetic == "traffic":
            gain = f"{settings.precision} saves memory traffic on this processor, and perhaps no arithmetic"
            reporter.say(f"{gain}: large networks may be slower than in fp32 (cnnviz doctor measures it)")
        net = devices.move_to_device(model.net, device, model.facts.memory_format)
        context = method_context(model.net, model.layers, model.preprocessing.input_spec, model.layers.returned.head)
        return cls(command, settings, model, net, device, question, question.add_to(context))

    def with_net(self, net: nn.Module) -> Session:
        """The same session with an altered twin of the network, on the device, with the same layers."""
        layers, spec = self.model.layers, self.context.input_spec
        context = self.question.add_to(method_context(net, layers, spec, layers.returned.head))
        return replace(self, net=net, model=replace(self.model, net=net), context=context)

    def observe(
        self,
        batch: Tensor,
        needs: Plan | Iterable[Need],
        given: Mapping[str, Tensor] = MappingProxyType({}),
        *,
        digests: Sequence[str],
        choose: Choose | None = None,
        masks: Tensor | None = None,
        tick: Tick = no_tick,
    ) -> Observation:
        """The evidence that a batch gives.

        Args:
            batch: (B, C, H, W) normalised, on the device.
            given: by name what the caller brings, the batch first; see `engine.observe`.
            digests: of each image's file, from which its random draws start.
            choose: the targets; by default those of the question.
            masks: (B, ...) where the region to be explained is in each image, see `Readout.hold`.

        Raises:
            NetworkError: the network does not take the batch.
            UsageError: it does not give what is asked for.
        """
        settings, facts = self.settings, self.model.facts
        seeds = self.seeds_of(digests)
        with network_errors(), reproducible_forward(self.net, facts, seeds[0]):
            return observe(
                self.net,
                batch,
                needs if isinstance(needs, Plan) else Plan.of(needs),
                choose or self.targets,
                readout=self.question.describer.readout,
                masks=masks,
                given={"seeds": torch.tensor(seeds, dtype=torch.int64, device="cpu"), **given},
                execution=self.execution,
                memory=None if settings.max_memory is None else int(settings.max_memory * 2**30),
                tick=tick,
                alone=facts.one_at_a_time,
            )

    def layers_reader(self, layers: Sequence[str]) -> Callable[[Tensor, Sequence[str]], dict[str, Tensor]]:
        """What gives by layer the (B, C, h, w) maps of a batch, (B, C, H, W) normalised and on the device, of whose
        files it takes the digests, too. The network runs no further than the last of the layers. Raises as `observe`
        does."""
        facts = self.model.facts
        reader = LayerReader(self.net, layers, self.execution, fold=self.settings.fold and not facts.one_at_a_time)

        def read(batch: Tensor, digests: Sequence[str]) -> dict[str, Tensor]:
            seed = image_seed(self.settings.seed, digests[0])
            with network_errors(), reproducible_forward(self.net, facts, seed):
                return reader.read(batch)

        return read

    def seeds_of(self, digests: Sequence[str]) -> list[int]:
        """From which number each image's random draws start, see `image_seed`."""
        return [image_seed(self.settings.seed, digest) for digest in digests]

    @property
    def execution(self) -> Execution:
        """How passes are carried out."""
        settings = self.settings
        return Execution(settings.precision, fold=settings.fold, compile=settings.compile)

    @property
    def targets(self) -> TargetSelector:
        return self.question.targets

    @property
    def target_names(self) -> list[str]:
        """Each target as file names say it; ``top-K`` and ``true`` where only an image can tell the class."""
        return self.targets.names(self.model.labels)

    @property
    def batch_size(self) -> int:
        """How many images pass the network together, if memory allows; `auto` follows from the network, the size of
        its input and the precision alone, and is one where maps are judged: that takes an image hundreds of passes,
        which make batches of their own, and an image that is finished is not lost."""
        if self.model.facts.one_at_a_time:
            return 1
        if self.settings.batch_size != "auto":
            return self.settings.batch_size
        if evaluate_fields(self.settings).chosen:
            return 1
        largest = max((prod(info.shape) for info in self.context.layers), default=0)
        return devices.batch_for(self.device, largest * (4 if self.settings.precision == "fp32" else 2))

    @property
    def wording(self) -> Wording:
        layers = self.context.layers
        names = [info.name for info in layers]
        width = max(2, len(str(len(names))))
        called = {
            f"{name}@{run}": f"{name}, run {run} of {len(runs)}"
            for name, runs in self.model.layers.runs.items()
            for run in range(1, len(runs) + 1)
        }
        with suppress(UsageError):
            for name in layers.resolve((LAST_CONV,)):
                path = split_run(name)[0]
                convolves = any(f"{one}.".startswith(f"{path}.") for one in self.model.layers.convolutions)
                what = "last convolution" if convolves else "last layer with maps"
                called[name] = f"{what} ({called.get(name, name)})"
        return Wording(
            model=f"{self.model.name} ({self.model.weights})",
            layers=called,
            depths={name: f"{number:0{width}}" for number, name in enumerate(names, 1)},
            counterfactual=self.question.counterfactual,
            classes=self.model.labels if self.context.classes else (),
        )


def image_seed(seed: int, digest: str) -> int:
    """The number from which an image's random draws start: of the run's seed and the image's bytes alone."""
    return int.from_bytes(sha256(f"{seed}:{digest}".encode()).digest()[:7], "big")


@contextmanager
def reproducible_forward(net: nn.Module, facts: NetworkFacts, seed: int) -> Iterator[None]:
    """Within, the network is in eval mode, and every forward starts its draws at `seed` if it draws any."""
    for module in net.modules():
        if module.training:  # a forward of its own may have switched it back
            module.training = False
    with nullcontext() if facts.randomness == "none" else reseed_forwards(net, seed):
        yield


def load_model_for(settings: Settings, reporter: Reporter) -> LoadedModel:
    """The model that the settings name; raises what `load_model` does."""
    return load_model(
        settings.model,
        settings.weights,
        arch=settings.arch,
        key=settings.weights_key,
        allow_code=settings.allow_code,
        overrides=input_settings(settings),
        expected=output_settings(settings),
        memory_format=None if settings.memory_format == "auto" else settings.memory_format,
        offline=settings.offline,
        mirror=settings.weights_mirror,
        prompts=None if settings.prompts is None else read_prompts(settings.prompts),
        reporter=reporter,
    )


def input_settings(settings: Settings) -> InputOverrides:
    height, width = settings.input_size or (0, 0)
    return InputOverrides(
        mode=settings.resize,
        size=(height, width) if settings.input_size else None,
        mean=settings.mean,
        std=settings.std,
        interpolation=settings.interpolation,
        most=settings.max_side,
        cover=settings.resize_to,
        bands=settings.bands,
    )


def output_settings(settings: Settings) -> ExpectedOutput:
    return ExpectedOutput(settings.head, settings.returns)


def method_context(net: nn.Module, layers: Layers, frame: InputSpec, part: str | None = None) -> MethodContext:
    """What methods know of a network, for the first target; `part` names the part of its output that is explained."""
    channels = len(frame.black)
    head = cache(partial(find_head, net, layers, (channels, *frame.size), part))

    @cache
    def find_attention() -> int:
        with input_proportions(*frame.size):
            return count_attention(net, noise_input(net, (channels, *frame.size)))

    return MethodContext(layers, 0, first_kernels(net, channels), frame, head, find_attention=find_attention)


def first_kernels(net: nn.Module, channels: int) -> tuple[str, Tensor] | None:
    """The name and weight of the first convolution of so many channels, if its kernels can be drawn as images."""
    for name, module in net.named_modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, Tensor) and weight.dim() == 4 and weight.shape[1] == channels in (1, 3):
            return name, weight.detach()
    return None


_PLURAL = {"scores": "scores", "maps": "maps of scores"}


def output_notes(settings: Settings, model: LoadedModel) -> Iterator[str]:
    """One line for each thing that was found out by trying and that a user might have to correct."""
    returned, name = model.layers.returned, escape_text(model.name, 60)
    if returned.kind not in _PLURAL:
        return
    if len(returned.heads) > 1 and settings.head is None:
        others = ", ".join(escape_text(head.name, 30) for head in returned.heads if head.name != returned.head)
        yield f"of what {name} returns, '{escape_text(returned.head, 60)}' is explained, not {others} (--head chooses)"
    if not default_task(returned.kind, settings.task).probabilities:
        if returned.classes > 1 and "target" not in settings.model_fields_set:
            yield f"of the {returned.classes} values the largest of each image is explained (--target chooses)"
        return
    if settings.returns == "auto" and returned.values != "logits":
        shares = "" if returned.exclusive or returned.classes == 1 else ", each class by itself"
        yield f"{name} returns {returned.values}{shares}: {returned.why} (--returns logits takes them for scores)"
    elif settings.returns == "auto" and returned.why:
        regression = "; of a regression: --task regression" if _may_be_regression(settings, model) else ""
        fix = f"--returns probabilities takes them for those{regression}"
        yield f"{name} is taken to return logits: {returned.why} ({fix})"
    elif _may_be_regression(settings, model):
        yield f"{name} returns one value, taken for the logit of a yes (of a regression: --task regression)"


def _may_be_regression(settings: Settings, model: LoadedModel) -> bool:
    returned = model.layers.returned
    one = returned.classes == 1 and returned.kind == "scores"
    return settings.task == "auto" and one and model.labels == ("positive",)
