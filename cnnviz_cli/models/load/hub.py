"""Files of a repository of the Hugging Face hub, from its cache on this machine or downloaded into it.

``HF_HOME``, ``HF_ENDPOINT``, ``HF_TOKEN`` and ``HF_HUB_OFFLINE`` mean what they mean to the library `huggingface_hub`,
which timm and transformers bring along and which does all the talking.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from cnnviz_cli.core.errors import ModelError
from cnnviz_cli.core.file_reading import open_regular
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.text import escape_text, first_line
from cnnviz_cli.models.load.checkpoint import StateDict, read_state_dict, sha256_of_file
from cnnviz_cli.models.spec.hub import HubRepository
from cnnviz_cli.models.spec.modules import installed_only

CONFIG = "config.json"

_MAX_JSON_BYTES = 1 << 26  # a list of 21,843 classes takes two megabytes
_MAX_SHARDS = 1000
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_INDEX = ".index.json"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The files of one commit of a repository, fetched when they are asked for; or a folder that was saved like one.

    Attributes:
        name: what an error calls it.
        folder: where `config.json` is, and every file that was fetched.
        repository: None of a folder.
        commit: of the repository, in hexadecimal; "" of a folder.
    """

    name: str
    folder: Path
    repository: HubRepository | None = None
    commit: str = ""
    offline: bool = False
    reporter: Reporter | None = None

    @classmethod
    def of_folder(cls, name: str, folder: Path) -> Snapshot:
        return cls(name, folder)

    @classmethod
    def of_repository(
        cls, name: str, repository: HubRepository, *, offline: bool, reporter: Reporter, config: str = CONFIG
    ) -> Snapshot:
        """The commit that the revision stands for now, or did when it was last fetched, if nothing can be asked;
        `config` is the file that says what network it is.

        Raises ModelError if there is no such repository or revision, it is not open to the user, has no configuration,
        or was never fetched and cannot be now.
        """
        found = _fetch(repository, repository.revision, config, offline=offline, reporter=reporter, needed=True)
        if found is None:
            what = f"{escape_text(repository.name, 200)} has no {config}, which says what network it is"
            raise ModelError(what, where="--model", fix="Choose another repository, or another revision of it.")
        return cls(name, found.parent, repository, found.parent.name, offline, reporter)

    def find(self, name: str) -> Path | None:
        """The file of a name; None if there is none. Raises ModelError if it cannot be had."""
        if self.repository is None:
            path = self.folder / name
            return path if path.is_file() else None
        assert self.reporter is not None
        return _fetch(self.repository, self.commit, name, offline=self.offline, reporter=self.reporter, needed=False)

    def read_json(self, name: str) -> dict[str, Any] | None:
        """The object in a file; None if there is no such file. Raises ModelError if it holds something else."""
        path = self.find(name)
        if path is None:
            return None
        try:
            with open_regular(path, _MAX_JSON_BYTES) as file:
                found = json.load(file)
        except (OSError, ValueError, RecursionError) as error:
            raise self.damaged(name, str(error)) from error
        if not isinstance(found, dict):
            raise self.damaged(name, f"it holds {type(found).__name__}, no object")
        return found

    def damaged(self, name: str, why: str) -> ModelError:
        """The error about a file that cannot be used."""
        return ModelError(
            f"{name} of {escape_text(self.name, 200)} is damaged: {escape_text(why, 200)}", where="--model"
        )

    def read_weights(self, first: Sequence[str] = ()) -> tuple[StateDict, str]:
        """The network's tensors and a SHA-256 of their files; safetensors come before pickles.

        Args:
            first: names of files to look for before the usual ones.

        Raises ModelError if there are none, or they were refused, see `read_state_dict`.
        """
        for name in (*first, *_WEIGHTS):
            path = self.find(name)
            if path is not None:
                return read_state_dict(path).state_dict, sha256_of_file(path)
            index = self.read_json(f"{name}{_INDEX}")
            if index is not None:
                return self._read_shards(f"{name}{_INDEX}", index)
        what = f"{escape_text(self.name, 200)} holds no weights: none of {', '.join((*first, *_WEIGHTS))} is there"
        raise ModelError(what, where="--weights", fix="Add --weights random:0, or a file: --weights FILE.safetensors")

    def _read_shards(self, index: str, content: Mapping[str, Any]) -> tuple[StateDict, str]:
        places = content.get("weight_map")
        if not isinstance(places, Mapping) or not all(isinstance(name, str) for name in places.values()):
            raise self.damaged(index, "it has no weight_map")
        names = sorted(set(places.values()))
        if len(names) > _MAX_SHARDS or any("/" in name or "\\" in name or name.startswith(".") for name in names):
            raise self.damaged(index, "its weight_map does not name files beside it")
        state: StateDict = {}
        digest = hashlib.sha256()
        for name in names:
            path = self.find(name)
            if path is None:
                raise self.damaged(index, f"'{name}' is not there")
            state |= read_state_dict(path).state_dict
            digest.update(sha256_of_file(path).encode())
        return state, digest.hexdigest()


def _fetch(
    repository: HubRepository, revision: str | None, name: str, *, offline: bool, reporter: Reporter, needed: bool
) -> Path | None:
    """A file of a repository at a revision; None if it is known that there is none, or nothing can be asked and it is
    not `needed`."""
    with installed_only():
        hub, errors = import_module("huggingface_hub"), import_module("huggingface_hub.errors")
        constants, bars = import_module("huggingface_hub.constants"), import_module("huggingface_hub.utils")
    local = offline or bool(constants.HF_HUB_OFFLINE)
    known = hub.try_to_load_from_cache(repository.name, name, revision=revision)
    if local or (known is hub._CACHED_NO_EXIST and not needed):
        if isinstance(known, str):
            return Path(known)
        if not needed:
            return None
        raise _not_cached_error(repository, "--offline or HF_HUB_OFFLINE forbids a download")
    bar = _transfer_bar(bars.tqdm, name, reporter)
    try:
        if known is None and needed:  # asked once: a download tries again for half a minute where nothing answers
            hub.get_hf_file_metadata(hub.hf_hub_url(repository.name, name, revision=revision))
        return Path(hub.hf_hub_download(repository.name, name, revision=revision, tqdm_class=bar))
    except errors.EntryNotFoundError as error:
        if isinstance(error, errors.LocalEntryNotFoundError):
            raise _not_cached_error(
                repository, f"it cannot be fetched: {first_line(error.__cause__ or error)}"
            ) from error
        return None
    except Exception as error:  # dozens of kinds, of two libraries
        raise _refusal(repository, error, errors, str(constants.ENDPOINT)) from error


def _not_cached_error(repository: HubRepository, why: str) -> ModelError:
    what = f"{escape_text(str(repository), 200)} is not in the cache of the hub (HF_HOME), and {why}"
    fix = f"{_folder_here(repository)}Where there is a connection: hf download {escape_text(repository.name, 200)}"
    return ModelError(what, where="--model", fix=f"{fix}\nand copy what that writes. HF_ENDPOINT names a mirror.")


def _folder_here(repository: HubRepository) -> str:
    """What to say where a folder has the name of a repository: a line, or nothing."""
    if not Path(repository.name).is_dir():
        return ""
    return f"For the folder of this name that is here: --model transformers:./{escape_text(repository.name, 200)}\n"


def _refusal(repository: HubRepository, error: Exception, errors: ModuleType, endpoint: str) -> ModelError:
    name = escape_text(repository.name, 200)
    if isinstance(error, errors.GatedRepoError):
        what = f"{name} is gated: it is open to those who have accepted its terms"
        fix = f"Accept them at {escape_text(endpoint, 200)}/{name}, then: hf auth login, or set HF_TOKEN"
    elif isinstance(error, errors.RepositoryNotFoundError):
        what = f"the hub has no repository '{name}', or it is private"
        fix = f"{_folder_here(repository)}Check the name. For a private one: hf auth login, or set HF_TOKEN"
    elif isinstance(error, errors.RevisionNotFoundError):
        what = f"{name} has no branch, tag or commit '{escape_text(repository.revision or '', 200)}'"
        fix = f"Leave it out for the default branch, or look at {escape_text(endpoint, 200)}/{name}/commits/main"
    elif isinstance(error, errors.HfHubHTTPError):
        what, fix = f"the hub refuses {name}: {first_line(error)}", "Try again later, or ask a mirror: HF_ENDPOINT"
    else:
        return _not_cached_error(repository, f"it cannot be fetched: {first_line(error)}")
    return ModelError(what, where="--model", fix=fix)


def _transfer_bar(bar: Any, name: str, reporter: Reporter) -> Any:
    """The library's progress bar, which draws nothing and tells the reporter instead."""

    class TransferBar(bar):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            super().__init__(*arguments, **{**settings, "disable": True})
            self._whole, self._received = settings.get("total"), int(settings.get("initial") or 0)

        def update(self, count: float | None = 1) -> None:
            self._received += int(count or 0)
            reporter.transfer(name, self._received, self._whole)

    return TransferBar
