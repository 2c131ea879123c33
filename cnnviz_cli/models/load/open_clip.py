"""Image-text networks of open_clip (https://github.com/mlfoundations/open_clip), an extra: ``cnnviz-cli[clip]``.

The half that reads images is the network that is explained. The other half reads sentences, once, before any image: one
for ``--objective text:SENTENCE``, or those of ``--prompts``, whose embeddings become the weights of a last layer.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from cnnviz_cli.core.errors import CnnvizError, ModelError, UsageError
from cnnviz_cli.core.prompts import Prompts, TextEncoder
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.text import did_you_mean, escape_text, first_line, list_some
from cnnviz_cli.models.input.preprocessing import Interpolation, Preprocessing
from cnnviz_cli.models.load.built_model import BuiltModel, fit_file
from cnnviz_cli.models.load.checkpoint import StateDict, sha256_of_state
from cnnviz_cli.models.load.hub import Snapshot
from cnnviz_cli.models.load.state_dict import build_with_seed, fit_state_dict
from cnnviz_cli.models.spec.hub import HubRepository, OpenClipModel
from cnnviz_cli.models.spec.modules import installed_only
from cnnviz_cli.models.spec.weights import NamedWeights, PublishedWeights, RandomWeights, WeightsFile

CONFIG = "open_clip_config.json"
_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")

_MOST = 1 << 20  # of any number of a configuration: the largest vocabulary has 256,000 words
_MOST_LAYERS = 2000
_SENTENCES_AT_ONCE = 64
_MAX_NAMES = 8

_INTERPOLATIONS: Mapping[str, Interpolation] = {"bicubic": "bicubic", "bilinear": "bilinear"}


@dataclass(frozen=True, slots=True)
class _Described:
    """What is known of a network before it is made.

    Attributes:
        config: open_clip's own: sizes of both halves.
        preprocess: as its weights were trained with.
        repository: where its published weights lie; None where a tag has to say which.
    """

    name: str
    config: dict[str, Any]
    preprocess: Mapping[str, Any]
    repository: HubRepository | None
    files: Snapshot | None = None


def build(
    network: OpenClipModel,
    spec: NamedWeights,
    *,
    key: str | None,
    offline: bool,
    prompts: Prompts | None,
    reporter: Reporter,
) -> BuiltModel:
    """The half of the network that reads images; with `prompts` it is a classifier of their classes.

    Raises:
        UsageError: open_clip has no such network or tag.
        ModelError: the weights or the tokenizer are unavailable, or were rejected.
    """
    with _quiet() as library:
        found = _describe(library, network, offline=offline, reporter=reporter)
        published = None
        if isinstance(spec, PublishedWeights):
            published = found.files or _published(library, found, network, offline=offline, reporter=reporter)
        seed = spec.seed if isinstance(spec, RandomWeights) else 0
        model = build_with_seed(partial(_create, library, found), seed)
    commit = ""
    match spec:
        case RandomWeights():
            label, digest = f"random:{seed}", sha256_of_state(model)
        case WeightsFile(path):
            fitted, digest = fit_file(path, key, lambda state: _fit(model, state, path.name), reporter)
            model, label = fitted.net, path.name
        case _:
            assert published is not None
            state, digest = published.read_weights(_WEIGHTS)
            model, label, commit = _fit(model, state, found.name).net, network.tag or "DEFAULT", published.commit
    model.eval()
    preset = _preset(found, model)
    encode = OpenClipText(library, found, model)
    source = found.repository.name if found.repository else ""
    kept = (preset, source if commit else "", commit)
    if prompts is None:
        return BuiltModel(ImageEncoder(model.visual), label, digest, None, *kept, text=encode, embeds=True)
    net = ZeroShotClassifier(model.visual, *_class_weights(model, encode, prompts))
    return BuiltModel(net, label, digest, prompts.names, *kept, text=encode)


class ImageEncoder(nn.Module):
    """The half that reads images: (B, C, H, W) to (B, D) embeddings, not normalised."""

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual = visual

    def forward(self, images: Tensor) -> Tensor:
        found = self.visual(images)
        embeddings: Tensor = found[0] if isinstance(found, tuple) else found
        return embeddings


class ZeroShotClassifier(ImageEncoder):
    """Scores of classes that sentences describe: s cos(z, t_k) + b of the image's embedding z and the class's t_k."""

    def __init__(self, visual: nn.Module, weight: Tensor, bias: Tensor) -> None:
        super().__init__(visual)
        self.head = CosineHead(weight, bias)

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.head(super().forward(images))
        return scores


class CosineHead(nn.Module):
    """A linear layer on embeddings of unit length; `weight` (K, D) has the network's scale in it."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, embeddings: Tensor) -> Tensor:
        return linear(normalize(embeddings, dim=-1), self.weight, self.bias)


class OpenClipText(TextEncoder):
    """The half that reads sentences."""

    def __init__(self, library: ModuleType, found: _Described, model: Any) -> None:
        self._library, self._found, self._model = library, found, model
        self._tokenizer: Any = None

    def __call__(self, sentences: Sequence[str], /) -> Tensor:
        with _quiet(), torch.no_grad():
            tokens = self._tokenize(sentences)
            starts = range(0, len(tokens), _SENTENCES_AT_ONCE)
            parts = [self._model.encode_text(tokens[at : at + _SENTENCES_AT_ONCE]).float() for at in starts]
        return torch.cat(parts).cpu()

    def _tokenize(self, sentences: Sequence[str]) -> Tensor:
        if self._tokenizer is None:
            self._tokenizer = _tokenizer(self._library, self._found)
        length = int(self._tokenizer.context_length)
        encode: Callable[[str], Sequence[int]] | None = getattr(self._tokenizer, "encode", None)
        for sentence in sentences if encode else ():
            assert encode is not None
            count = len(encode(sentence)) + 2  # a start and an end
            if count > length:
                what = f"'{escape_text(sentence, 60)}' has {count} tokens, and {self._found.name} reads {length}"
                raise UsageError(what, where="--objective", fix="Say it in fewer words.")
        tokens: Tensor = self._tokenizer(list(sentences))
        return tokens


@contextmanager
def _quiet() -> Iterator[ModuleType]:
    """The library, which inside neither logs nor warns."""
    with installed_only(), warnings.catch_warnings(action="ignore"):
        disabled = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            yield import_module("open_clip")
        finally:
            logging.disable(disabled)


def _describe(library: ModuleType, network: OpenClipModel, *, offline: bool, reporter: Reporter) -> _Described:
    if isinstance(network.source, HubRepository):
        files = Snapshot.of_repository(network.name, network.source, offline=offline, reporter=reporter, config=CONFIG)
        stated = files.read_json(CONFIG) or {}
        config, preprocess = stated.get("model_cfg"), stated.get("preprocess_cfg") or {}
        if not _is_config(config) or not isinstance(preprocess, Mapping):
            raise files.damaged(CONFIG, "it describes no network in model_cfg")
        if unlikely := next(_unlikely_numbers(config), None):
            raise files.damaged(CONFIG, unlikely)
        return _Described(network.name, config, preprocess, network.source, files)
    config = library.get_model_config(network.source)
    shown = escape_text(network.source, 60)
    if config is None:
        names = library.list_models()
        fix = did_you_mean(network.source, names) or "python -c 'import open_clip; print(open_clip.list_models())'"
        raise UsageError(f"open_clip has no network '{shown}'", where="--model", fix=fix)
    if network.tag is None:
        return _Described(network.name, config, {}, None)
    tags = library.list_pretrained_tags_by_model(network.source)
    published = library.get_pretrained_cfg(network.source, network.tag)
    if not published:
        what = f"open_clip has no weights '{escape_text(network.tag, 60)}' for {shown}"
        fix = did_you_mean(network.tag, tags) or f"It has: {list_some(tags, _MAX_NAMES) or 'none'}."
        raise UsageError(what, where="--model", fix=fix)
    if published.get("quick_gelu"):
        config["quick_gelu"] = True
    name, _, _ = str(published.get("hf_hub") or "").strip("/").partition("@")
    return _Described(network.name, config, published, HubRepository(name) if name else None)


def _published(
    library: ModuleType, found: _Described, network: OpenClipModel, *, offline: bool, reporter: Reporter
) -> Snapshot:
    """The repository of a tag's weights."""
    if found.repository is not None:
        return Snapshot.of_repository(found.name, found.repository, offline=offline, reporter=reporter, config=CONFIG)
    tags = library.list_pretrained_tags_by_model(network.source) if network.tag is None else []
    what = f"{found.name} does not say which weights"
    if network.tag:
        what = f"the weights of {found.name} are not on the hub"
    fix = "Use your own weights, --weights FILE, or random ones, --weights random:0"
    if tags:
        fix = f"Add the tag of published weights, for instance: --model {found.name}/{tags[-1]}\n{fix}"
    raise ModelError(what, where="--model", fix=fix)


def _is_config(config: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(config, dict) and all(isinstance(config.get(part), dict) for part in ("vision_cfg", "text_cfg"))


def _unlikely_numbers(config: Mapping[str, Any]) -> Iterator[str]:
    """What would make a network too large for any machine, in words."""
    for part in (config, config["vision_cfg"], config["text_cfg"]):
        for name, found in part.items():
            numbers = found if isinstance(found, list) else [found]
            for number in numbers:
                if not isinstance(number, int | float) or isinstance(number, bool):
                    continue
                if not abs(number) <= (_MOST_LAYERS if "layers" in name else _MOST):
                    yield f"'{escape_text(str(name), 60)}' is {number:,}, more than in any network"


def _create(library: ModuleType, found: _Described) -> Any:
    """The network with drawn weights; what it is made of is not downloaded to be overwritten."""
    config = deepcopy(found.config)
    vision, text = config["vision_cfg"], config["text_cfg"]
    if "timm_model_name" in vision:
        vision["timm_model_pretrained"] = False
    if "hf_model_name" in text:
        text["hf_model_pretrained"] = False
    custom = config.pop("custom_text", False) or "hf_model_name" in text
    kind = library.CLIP
    if custom:
        kind = library.CoCa if "multimodal_cfg" in config else library.CustomTextCLIP
    try:
        return kind(**config)
    except CnnvizError:
        raise
    except Exception as error:  # of timm, of transformers, and for settings that no version knows
        said = first_line(error)
        fix = "pip install --upgrade 'cnnviz-cli[clip]'"
        raise ModelError(f"open_clip cannot make {found.name}: {said}", where="--model", fix=fix) from error


def _fit(model: nn.Module, state: StateDict, source: str) -> Any:
    # Buffers that older versions saved and newer ones make themselves.
    return fit_state_dict(model, state, source, unused=("attn_mask", "text.attn_mask", "visual.attn_mask"))


def _preset(found: _Described, model: Any) -> Preprocessing:
    """The preprocessing that the weights were trained with; raises ModelError for one that cnnviz lacks."""
    size = model.visual.image_size
    height, width = (int(size), int(size)) if isinstance(size, int) else (int(size[0]), int(size[1]))
    library = import_module("open_clip")
    stated = {"mean": library.OPENAI_DATASET_MEAN, "std": library.OPENAI_DATASET_STD, **found.preprocess}
    mode, interpolation = stated.get("resize_mode") or "shortest", stated.get("interpolation") or "bicubic"
    if mode not in ("shortest", "squash") or interpolation not in _INTERPOLATIONS:
        what = f"{found.name} wants its images resized by '{escape_text(f'{mode}, {interpolation}', 60)}'"
        raise ModelError(f"{what}, which cnnviz cannot do", where="--model")
    mean, std = (_channels(stated[name]) for name in ("mean", "std"))
    sizes = (height, width)
    return Preprocessing(
        sizes, sizes, mean, std, _INTERPOLATIONS[interpolation], "squash" if mode == "squash" else "crop"
    )


def _channels(given: Any) -> tuple[float, ...]:
    return tuple(float(one) for one in given) if isinstance(given, Sequence) else (float(given),) * 3


def _tokenizer(library: ModuleType, found: _Described) -> Any:
    text = found.config["text_cfg"]
    try:
        if found.files is None:
            architecture = found.name.partition(":")[2].partition("/")[0]
            return library.get_tokenizer(architecture)
        length, settings = text.get("context_length", 77), text.get("tokenizer_kwargs") or {}
        if name := text.get("hf_tokenizer_name"):
            return library.HFTokenizer(
                name, context_length=length, tokenizer_mode=text.get("tokenizer_mode"), **settings
            )
        return library.SimpleTokenizer(context_length=length, **settings)
    except Exception as error:  # of transformers and its hub
        said = first_line(error)
        what = f"the tokenizer of {found.name} is unavailable: {said}"
        fix = "Its files come from the hub once, and need transformers: pip install 'cnnviz-cli[clip,transformers]'"
        raise ModelError(what, where="--model", fix=fix) from error


def _class_weights(model: Any, encode: TextEncoder, prompts: Prompts) -> tuple[Tensor, Tensor]:
    """(K, D) weights and (K,) biases of the classes: of each the mean of its sentences' directions, at unit length."""
    every = [sentence for sentences in prompts.sentences for sentence in sentences]
    try:
        directions = normalize(encode(every), dim=-1)
    except UsageError as error:
        error.where = "--prompts"
        raise
    means, start = [], 0
    for sentences in prompts.sentences:
        means.append(directions[start : start + len(sentences)].mean(0))
        start += len(sentences)
    weight = normalize(torch.stack(means), dim=-1) * model.logit_scale.detach().exp().float().cpu()
    bias = getattr(model, "logit_bias", None)
    added = torch.zeros((), dtype=torch.float32, device="cpu") if bias is None else bias.detach().float().cpu()
    return weight, added.reshape(()).expand(len(weight)).clone()
