"""A model ready to be explained."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.network import MemoryFormat, network_errors
from cnnviz_cli.core.prompts import Prompts, TextEncoder
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.models.input.builtin_transform import preset_for
from cnnviz_cli.models.input.input_overrides import InputOverrides, apply_overrides
from cnnviz_cli.models.input.preprocessing import Preprocessing
from cnnviz_cli.models.inspect.facts import STANDARD_FACTS, NetworkFacts, run_trials
from cnnviz_cli.models.inspect.layers import ModelLayers
from cnnviz_cli.models.inspect.outputs import NOTHING_EXPECTED, ExpectedOutput, NetworkOutput, OutputKind
from cnnviz_cli.models.load.built_model import BuiltModel, set_eval_mode
from cnnviz_cli.models.spec.hub import HubModel, OpenClipModel, TimmHubModel, TransformersModel
from cnnviz_cli.models.spec.network import (
    FactoryModel,
    ModelSpec,
    OnnxModel,
    ProgramModel,
    TimmModel,
    ZooModel,
    check_code_allowed,
    parse_model,
)
from cnnviz_cli.models.spec.weights import (
    NamedWeights,
    OwnWeights,
    WeightsFile,
    is_described_elsewhere,
    offline_weights,
    weights_for,
)


@dataclass(frozen=True)
class LoadedModel:
    """A network with all that is needed to explain an image with it.

    Attributes:
        net: on the CPU, in float32, in eval mode, no parameter requires a gradient.
        name: what ``--model`` says, of a file only its name; where that is a file of weights, what ``--arch`` says.
        weights: what ``--weights`` would reproduce it; of a file only the name, since its place says nothing.
        weights_sha256: of the weights' file; of weights without one over the tensors.
        labels: one for each class score; its number where no name is known. Of boxes, one for each number that a box
            may be labelled with; none where they are unknown.
        preprocessing: as the weights (of random ones and files: the default ones) were trained with, or as wanted.
        repository, commit: of a network from a hub, whose name may stand for other files later; else "".
        text: what reads sentences, of an image-text network until its question is asked.
        embeds: whether it returns embeddings of images, which sentences are compared with, instead of scores.
        prompts_sha256: of the file whose sentences describe the classes, if one does.
        classifier: whether scores that it returns are those of classes for sure; a user's network may return anything.
    """

    net: nn.Module
    name: str
    weights: str
    weights_sha256: str
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    layers: ModelLayers
    returns: OutputKind = "scores"
    classifier: bool = False
    facts: NetworkFacts = STANDARD_FACTS
    repository: str = ""
    commit: str = ""
    text: TextEncoder | None = None
    embeds: bool = False
    prompts_sha256: str | None = None

    def parameter(self, name: str) -> Tensor:
        """A parameter, detached. Raises KeyError if there is none of that name."""
        return dict(self.net.named_parameters())[name].detach()


@network_errors()
def load_model(
    name: str,
    weights: str = "DEFAULT",
    *,
    arch: str | None = None,
    key: str | None = None,
    allow_code: bool = False,
    overrides: InputOverrides | None = None,
    expected: ExpectedOutput = NOTHING_EXPECTED,
    memory_format: MemoryFormat | None = None,
    offline: bool = False,
    mirror: str | None = None,
    prompts: Prompts | None = None,
    reporter: Reporter,
) -> LoadedModel:
    """Build a model, give it its weights, and find its layers.

    Args:
        name, arch, weights, key: see `parse_model`, `parse_weights` and `read_state_dict`.
        allow_code: whether a network that is code may run. Only the command line or a call from Python may say so.
        memory_format: None to find it out.
        mirror: base URL to download from instead of torchvision's.
        prompts: the classes of an image-text network.

    Raises:
        UsageError: an unknown name, impossible weights, code that is not allowed, an input that the network does not
            take, or something in its output that cannot be explained.
        ModelError: the weights are unavailable or were rejected, or the user's code failed.
    """
    named = parse_model(name, arch)
    check_code_allowed(named.network, allow_code=allow_code)
    if prompts is not None and not isinstance(named.network, OpenClipModel):
        what = f"{escape_text(_name_of(named, arch or name), 60)} reads no sentences"
        fix = "Use an image-text network: --model open_clip:NAME/TAG. Names of classes are --labels."
        raise UsageError(what, where="--prompts", fix=fix)
    built = _build(named, weights, key=key, offline=offline, mirror=mirror, prompts=prompts, reporter=reporter)
    called = _name_of(named, arch or name)
    net, kept_training = built.net, set_eval_mode(built.net)
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    preprocessing, layers = apply_overrides(
        net, preset_for(net, built.preset, called), overrides or InputOverrides(), called, expected
    )
    returns = layers.returned.require_kind(called)
    known = isinstance(named.network, ZooModel | TimmModel | HubModel) and not built.embeds
    labels = check_labels(built.labels, layers.returned, called)
    facts = find_network_facts(
        net, preprocessing, layers, kept_training, memory_format, known=isinstance(named.network, ZooModel)
    )
    return LoadedModel(
        net,
        called,
        built.weights,
        built.weights_sha256,
        labels,
        preprocessing,
        layers,
        returns,
        known,
        facts,
        built.repository,
        built.commit,
        built.text,
        built.embeds,
        prompts.sha256 if prompts else None,
    )


def _name_of(named: ModelSpec, text: str) -> str:
    network = named.network
    if isinstance(network, ProgramModel | OnnxModel):
        return network.path.name
    return network.name if isinstance(network, TransformersModel | OpenClipModel) else text


def find_network_facts(
    net: nn.Module,
    preprocessing: Preprocessing,
    layers: ModelLayers,
    kept_training: tuple[str, ...],
    memory_format: MemoryFormat | None = None,
    *,
    known: bool = False,
) -> NetworkFacts:
    """`run_trials` of a network, unless its code is `known` (torchvision's); weights are in its layout afterwards."""
    if known:
        return NetworkFacts(memory_format or "channels_last", kept_training=kept_training)
    shape, gradients = (preprocessing.channels, *preprocessing.size), layers.returned.kind != "boxes"
    return run_trials(net, shape, memory_format=memory_format, gradients=gradients, kept_training=kept_training)


@network_errors()
def load_layers(
    name: str,
    *,
    arch: str | None = None,
    allow_code: bool = False,
    overrides: InputOverrides | None = None,
    offline: bool = False,
    reporter: Reporter,
) -> ModelLayers:
    """`load_model`, but of the layers alone: no weights are downloaded, and of the catalogue's networks none made.

    `offline` forbids to fetch what a repository of a hub says of its network, too.
    """
    named = parse_model(name, arch)
    if isinstance(named.network, ZooModel) and named.weights is None:
        from cnnviz_cli.models.load import zoo

        net, preset = zoo.build_blank(named.network.name)
        set_eval_mode(net)
        return apply_overrides(net, preset_for(net, preset, name), overrides or InputOverrides(), name)[1]
    weights, offline = offline_weights(name, arch), offline or not is_described_elsewhere(name, arch)
    loaded = load_model(
        name, weights, arch=arch, allow_code=allow_code, overrides=overrides, offline=offline, reporter=reporter
    )
    return loaded.layers


def _build(
    named: ModelSpec,
    weights: str,
    *,
    key: str | None,
    offline: bool,
    mirror: str | None,
    prompts: Prompts | None,
    reporter: Reporter,
) -> BuiltModel:
    network, spec = named.network, weights_for(named, weights)
    if key is not None and not isinstance(spec, WeightsFile):
        raise UsageError("only a file of weights has keys", where="--weights-key", fix="Leave it out.")
    if isinstance(network, FactoryModel):
        from cnnviz_cli.models.load import factory

        assert isinstance(spec, WeightsFile | OwnWeights)
        return factory.build(network, spec, key=key, reporter=reporter)
    if isinstance(network, ProgramModel | OnnxModel):
        return _build_file(network, reporter)
    assert not isinstance(spec, OwnWeights)
    if isinstance(network, ZooModel):
        from cnnviz_cli.models.load import zoo

        return zoo.build(network.name, spec, key=key, offline=offline, mirror=mirror, reporter=reporter)
    if isinstance(network, OpenClipModel):
        from cnnviz_cli.models.load import open_clip

        return open_clip.build(network, spec, key=key, offline=offline, prompts=prompts, reporter=reporter)
    return _build_of_library(network, spec, key=key, offline=offline, reporter=reporter)


# Each kind is imported where it is needed: a run of one kind reads the code of no other.


def _build_file(network: ProgramModel | OnnxModel, reporter: Reporter) -> BuiltModel:
    if isinstance(network, OnnxModel):
        from cnnviz_cli.models.load import onnx

        return onnx.build(network, reporter=reporter)
    from cnnviz_cli.models.load import programs

    return programs.build(network)


def _build_of_library(
    network: TimmModel | TimmHubModel | TransformersModel,
    spec: NamedWeights,
    *,
    key: str | None,
    offline: bool,
    reporter: Reporter,
) -> BuiltModel:
    if isinstance(network, TimmModel):
        from cnnviz_cli.models.load import timm

        return timm.build(network.name, spec, key=key, offline=offline, reporter=reporter)
    if isinstance(network, TimmHubModel):
        from cnnviz_cli.models.load import timm_hub

        return timm_hub.build(network, spec, key=key, offline=offline, reporter=reporter)
    from cnnviz_cli.models.load import transformers

    return transformers.build(network, spec, key=key, offline=offline, reporter=reporter)


def check_labels(labels: tuple[str, ...] | None, found: NetworkOutput, model: str) -> tuple[str, ...]:
    """A name for each class with a score, else its number; of boxes what is known. UsageError for a wrong count."""
    count = found.classes
    if labels is None:
        return ("positive",) if (found.kind, count) == ("scores", 1) else tuple(map(str, range(count)))
    if count and len(labels) != count:
        what = f"{escape_text(model, 100)} gives {count} scores, and names {len(labels)} classes"
        raise UsageError(what, where="--model")
    return labels
