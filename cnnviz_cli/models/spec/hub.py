"""Names of what lies in a repository of a model hub, or in a folder that was saved as one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from cnnviz_cli.core.errors import ModelError, UsageError
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.models.spec.modules import installed_only

TIMM_PREFIX = "timm:"
TIMM_HUB_PREFIX = "timm:hf-hub:"
TRANSFORMERS_PREFIX = "transformers:"
OPEN_CLIP_PREFIX = "open_clip:"
_OPEN_CLIP_HUB_PREFIX = "open_clip:hf-hub:"

_REPOSITORY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+-]{0,199}")
_OPEN_CLIP_NAME = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_.+-]{0,99})(?:/([A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}))?")


@dataclass(frozen=True, slots=True)
class HubRepository:
    """A repository, ``ORG/NAME``; `revision` is a branch, a tag or a commit, None the default branch."""

    name: str
    revision: str | None = None

    def __str__(self) -> str:
        return self.name if self.revision is None else f"{self.name}@{self.revision}"


@dataclass(frozen=True, slots=True)
class TimmHubModel:
    """A network of timm's that a repository describes and has the weights of."""

    repository: HubRepository

    @property
    def name(self) -> str:
        return f"{TIMM_HUB_PREFIX}{self.repository}"


@dataclass(frozen=True, slots=True)
class TransformersModel:
    """A network of the library transformers, from a repository or from a folder that ``save_pretrained`` wrote."""

    source: HubRepository | Path

    @property
    def name(self) -> str:
        """What ``--model`` says; of a folder only its name, since its place says nothing."""
        source = self.source
        return f"{TRANSFORMERS_PREFIX}{source if isinstance(source, HubRepository) else source.resolve().name}"


@dataclass(frozen=True, slots=True)
class OpenClipModel:
    """An image-text network of the library open_clip: by its architecture, and maybe the tag of published weights; or
    from a repository."""

    source: HubRepository | str
    tag: str | None = None

    @property
    def name(self) -> str:
        if isinstance(self.source, HubRepository):
            return f"{_OPEN_CLIP_HUB_PREFIX}{self.source}"
        return f"{OPEN_CLIP_PREFIX}{self.source}{f'/{self.tag}' if self.tag else ''}"


_SAMPLES = {
    TIMM_HUB_PREFIX: "timm/resnet18.a1_in1k",
    TRANSFORMERS_PREFIX: "microsoft/resnet-50",
    _OPEN_CLIP_HUB_PREFIX: "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
}

HubModel = TimmHubModel | TransformersModel | OpenClipModel


def is_hub_name(text: str) -> bool:
    """Whether a model's name has a prefix after which a repository or a folder comes, and so may have slashes."""
    return text.startswith((TIMM_HUB_PREFIX, TRANSFORMERS_PREFIX, OPEN_CLIP_PREFIX))


def parse_hub_model(text: str, where: str) -> HubModel:
    """What a name `is_hub_name` of says.

    Raises UsageError if no repository or folder can be called that, ModelError if no folder is there, or the library
    is not installed.
    """
    if text.startswith(TIMM_HUB_PREFIX):
        repository = _parse_repository(TIMM_HUB_PREFIX, text.removeprefix(TIMM_HUB_PREFIX), where)
        require_library("timm", text, where)
        return TimmHubModel(repository)
    if text.startswith(OPEN_CLIP_PREFIX):
        return _parse_open_clip(text, where)
    rest = text.removeprefix(TRANSFORMERS_PREFIX)
    source = _existing_folder(rest, where) if _is_folder(rest) else _parse_repository(TRANSFORMERS_PREFIX, rest, where)
    require_library("transformers", text, where)
    return TransformersModel(source)


def require_library(library: str, model: str, where: str, extra: str = "") -> None:
    """Raise ModelError, with the extra that brings it, unless a library is installed."""
    with installed_only():
        found = find_spec(library)  # of a package at the top this runs none of its code
    if found is None:
        what = f"'{escape_text(model, 200)}' needs {library}"
        raise ModelError(what, where=where, fix=f"pip install 'cnnviz-cli[{extra or library}]'")


def _parse_open_clip(text: str, where: str) -> OpenClipModel:
    if text.startswith(_OPEN_CLIP_HUB_PREFIX):
        rest = text.removeprefix(_OPEN_CLIP_HUB_PREFIX)
        found = OpenClipModel(_parse_repository(_OPEN_CLIP_HUB_PREFIX, rest, where))
    else:
        named = _OPEN_CLIP_NAME.fullmatch(text.removeprefix(OPEN_CLIP_PREFIX))
        if named is None:
            what = f"'{escape_text(text, 60)}' needs a name of open_clip's after the colon, and maybe /TAG"
            raise UsageError(what, where=where, fix="For instance: open_clip:ViT-B-32/laion2b_s34b_b79k")
        found = OpenClipModel(named[1], named[2])
    require_library("open_clip", text, where, extra="clip")
    return found


def _is_folder(text: str) -> bool:
    return text.startswith((".", "/", "~", "\\")) or text[1:3] in (":\\", ":/")


def _existing_folder(text: str, where: str) -> Path:
    path = Path(text).expanduser()
    if not path.is_dir():
        what = f"'{escape_text(text, 200)}' is not a folder" if path.exists() else "there is no folder"
        what += "" if path.exists() else f" '{escape_text(text, 200)}'"
        fix = "It has to be what save_pretrained wrote: config.json, model.safetensors, preprocessor_config.json."
        raise ModelError(what, where=where, fix=fix)
    return path


def _parse_repository(prefix: str, text: str, where: str) -> HubRepository:
    name, at, revision = text.partition("@")
    if _REPOSITORY.fullmatch(name) and ".." not in text and (not at or _REVISION.fullmatch(revision)):
        return HubRepository(name, revision or None)
    what = f"'{escape_text(prefix + text, 200)}' needs ORG/NAME after the colon, or ORG/NAME@REVISION"
    fix = f"For instance: {prefix}{_SAMPLES[prefix]}"
    if prefix == TRANSFORMERS_PREFIX:
        fix += f"\nA folder is written with a path: {prefix}./FOLDER"
    raise UsageError(what, where=where, fix=fix)
