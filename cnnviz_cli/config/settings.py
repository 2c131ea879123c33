"""Every setting, once: flags, variables, YAML keys, help and the JSON Schema are made from these fields."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from functools import cache
from hashlib import sha256
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, cast, get_args, get_origin, get_type_hints

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, create_model

import cnnviz_cli.methods  # noqa: F401  (registers the methods, whose options are settings)
from cnnviz_cli.config import values
from cnnviz_cli.config.attack_fields import AttackFields
from cnnviz_cli.config.dream_fields import DREAM_FILES, DreamFields, recorded_terms, without_folders
from cnnviz_cli.config.evaluate_fields import evaluation_section, quick_methods, recorded_evaluation
from cnnviz_cli.config.fields import (
    CLOSED_CONFIG,
    ComputingFields,
    DrawingFields,
    Flag,
    NetworkFields,
    OutputFields,
    PlaceFields,
    QuestionFields,
    setting,
)
from cnnviz_cli.config.study_fields import SECTIONS, recorded_section, study_sections
from cnnviz_cli.config.top_images_fields import READ, TopImagesFields, without_idle
from cnnviz_cli.core.families import ALL, ATTACK, DREAM, EVALUATE, EVERY_FAMILY, FAMILIES, SELECTOR, Family
from cnnviz_cli.core.measures import measures
from cnnviz_cli.core.method import Method, every_method, find_method, methods
from cnnviz_cli.tasks.spec import parse_objective

if TYPE_CHECKING:
    from cnnviz_cli.core.records import Json


class Settings(PlaceFields, DrawingFields, ComputingFields, QuestionFields, OutputFields, NetworkFields):
    """The settings of one run. The concrete class, with a section for each family, comes from `settings_type`."""

    model_config = CLOSED_CONFIG
    command: ClassVar[str]

    def section(self, family: str) -> BaseModel:
        """The settings of one family."""
        return cast("BaseModel", getattr(self, family))

    def method_names(self, family: str) -> tuple[str, ...]:
        """The family's methods that were asked for, each once, `ALL` written out."""
        every = [m.name for m in methods(family)]
        return tuple(dict.fromkeys(n for word in self._selector(family) for n in (every if word == ALL else [word])))

    def is_named(self, method: Method) -> bool:
        """Whether a method was asked for by its name, not only as one of all."""
        return method.name in self._selector(method.family)

    def has_selection(self, family: str) -> bool:
        """Whether the family's methods were chosen; else they are its default."""
        return SELECTOR in self.section(family).model_fields_set

    def selected_methods(self, family: str) -> list[tuple[Method, Any]]:
        """The family's methods that were asked for, each with an instance of its options class."""
        section = self.section(family)
        picked = [find_method(name, family) for name in self.method_names(family)]
        return [(m, m.options(**{f.name: getattr(section, f.name) for f in fields(m.options)})) for m in picked]

    def with_methods(self, names: Mapping[str, Sequence[str]]) -> Self:
        """The same settings with other methods of some families."""
        sections = {f: self.section(f).model_copy(update={SELECTOR: tuple(n)}) for f, n in names.items()}
        return self.model_copy(update=sections)

    def unnamed(self) -> Self:
        """The same methods, as if none was asked for by its name: those that do not apply are left out."""
        sections = {}
        for family in families_of(self.command):
            sections[family] = self.section(family).model_copy()
            sections[family].__pydantic_fields_set__.discard(SELECTOR)
        return self.model_copy(update=sections)

    def _selector(self, family: str) -> tuple[str, ...]:
        return cast("tuple[str, ...]", getattr(self.section(family), SELECTOR))

    def as_json(self) -> Json:
        """What the manifest records: everything that decides what is drawn, nothing that says where. Of a file only its
        name; of the sections only those that the command runs, with the methods and options that these read."""
        whole = self.model_dump(mode="json")
        recorded = {name: whole[name] for name in Settings.model_fields if flag_of(type(self), name).recorded}
        for family in families_of(self.command):
            read = {item.name for method, _ in self.selected_methods(family) for item in fields(method.options)}
            read.update(own_fields(family))
            if family == DREAM.name:
                named = {name: _file_name(path) for name in DREAM_FILES if (path := whole[family][name])}
                judges = [without_folders(text) for text in whole[family]["judge"]]
                whole[family] |= named | {"term": recorded_terms(whole[family]["term"]), "judge": judges}
            options = {name: value for name, value in whole[family].items() if name in read}
            options = without_idle(self, family, whole[family], options)
            recorded[family] = options | {SELECTOR: list(self.method_names(family))}
        if self.command in SECTIONS:
            recorded[self.command] = recorded_section(self.section(self.command), whole[self.command])
        if judged := recorded_evaluation(self, whole[EVALUATE]):
            recorded[EVALUATE] = judged
        for name in ("weights", "labels", "prompts", "truth", "region"):
            recorded[name] = recorded[name] and _file_name(recorded[name])
        if recorded["prompts"] is None:
            del recorded["prompts"]  # so that runs from before it was there go on
        recorded["model"] = _model_name(recorded["model"])
        kind, _, other = recorded["objective"].partition(":")
        if parse_objective(recorded["objective"]).file is not None:
            recorded["objective"] = f"{kind}:{_file_name(other)}"
        return dict(sorted(recorded.items()))

    @property
    def config_sha256(self) -> str:
        """The digest of `as_json`."""
        text = json.dumps(self.as_json(), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return sha256(text.encode()).hexdigest()


_HUBS = ("timm:hf-hub:", "transformers:", "open_clip:")
"""Of models' names, what a repository comes behind, or a folder."""


def _model_name(model: str) -> str:
    """A model as a manifest has it: of a file or a folder the name, of a repository all of it."""
    for prefix in _HUBS:
        rest = model.removeprefix(prefix)
        if rest != model:
            folder = rest[:1] in (".", "/", "~", "\\") or rest[1:3] in (":\\", ":/")
            return f"{prefix}./{_file_name(rest)}" if folder else model
    return _file_name(model)


def _file_name(path: str) -> str:
    return PurePath(path.replace("\\", "/")).name or path


def families_of(command: str) -> tuple[str, ...]:
    """The families a command runs: its own, or every one that ``all`` does; a study's command none."""
    if command in SECTIONS:
        return ()
    return (command,) if command in EVERY_FAMILY else tuple(FAMILIES)


def settings_type(command: str) -> type[Settings]:
    """The class of a command's settings; under ``all`` some options have a default of their own."""
    registered = [m.name for m in every_method()]
    return _settings_type(command, (*registered, *(m.name for m in measures()), *SECTIONS))


@cache
def _settings_type(command: str, _registered: tuple[str, ...]) -> type[Settings]:
    sections: dict[str, Any] = {}
    for family in EVERY_FAMILY.values():
        section = _section_type(family, command)
        sections[family.name] = (section, Field(default_factory=section, description=family.summary))
    section = evaluation_section(command, _with_lower_bound)
    sections[EVALUATE] = (section, Field(default_factory=section, description="By what maps are judged."))
    sections |= study_sections()
    made = create_model("Settings", __base__=Settings, __module__=__name__, **sections)
    made.command = command
    return made


_BASES: Mapping[str, type[BaseModel]] = {
    DREAM.name: DreamFields,
    ATTACK.name: AttackFields,
    **dict.fromkeys(READ, TopImagesFields),
}
"""What the sections of some families have beside their methods' options."""


def own_fields(family: str) -> Collection[str]:
    """The settings of a family that are of no method, but of all."""
    return _BASES[family].model_fields.keys() if family in _BASES else ()


def _section_type(family: Family, command: str) -> type[BaseModel]:
    in_all = command == "all"
    panel = f"Options of {family.name}"
    names = tuple(m.name for m in methods(family.name))
    unique = AfterValidator(lambda chosen: tuple(dict.fromkeys(chosen)))
    selector: Any = Annotated[
        values.one_or_more(Literal[(ALL, *names)]), unique, BeforeValidator(values.split_at_commas)
    ]
    text = "Methods to run, of those that cnnviz methods lists, or all. Repeatable, or separated by commas."
    chosen: tuple[str, ...] = (family.default,)
    if command == EVALUATE:  # of some families none
        several = values.one_or_more(Literal[(ALL, *names)], empty=True)
        selector, chosen = Annotated[several, unique, BeforeValidator(values.split_at_commas)], quick_methods(names)
    members: dict[str, Any] = {SELECTOR: (selector, setting(panel, chosen, text, "METHOD"))}
    base = _BASES.get(family.name)
    for registered in methods(family.name):
        # Of those of the same name the registry sees to equality; a base says more exactly what one may be.
        known = members.keys() | (base.model_fields.keys() if base else set())
        new = [item for item in fields(registered.options) if item.name not in known]
        hints = get_type_hints(registered.options) if new else {}
        for item in new:
            default = item.metadata.get("in_all", item.default) if in_all else item.default
            annotation = _with_lower_bound(hints[item.name], item.metadata["at_least"], empty=default == ())
            metavar = f"{word}|N" if (word := _word_beside_count(hints[item.name])) else ""
            members[item.name] = (annotation, setting(panel, default, item.metadata["help"], metavar))
    made = f"{family.name.capitalize()}Section"
    if base is not None:
        return create_model(made, __base__=base, __module__=__name__, **members)
    return create_model(made, __config__=CLOSED_CONFIG, __module__=__name__, **members)


def _with_lower_bound(annotation: Any, at_least: int | None, *, empty: bool) -> Any:
    """`annotation` with its lower bound; of a repeatable option the bound holds for each value."""
    if get_origin(annotation) is tuple:
        return values.one_or_more(_with_lower_bound(get_args(annotation)[0], at_least, empty=False), empty=empty)
    if word := _word_beside_count(annotation):
        return Annotated[annotation, BeforeValidator(values.parse_auto_or_count(at_least or 0, word))]
    return annotation if at_least is None else Annotated[annotation, Field(ge=at_least)]


def _word_beside_count(annotation: Any) -> str:
    """The word that an option may be instead of a whole number; empty for options of other types."""
    kinds = get_args(annotation)
    return next((str(get_args(kind)[0]) for kind in kinds if get_origin(kind) is Literal), "") if int in kinds else ""


def flag_of(model: type[BaseModel], name: str) -> Flag:
    """The command-line side of a field."""
    return next(item for item in model.model_fields[name].metadata if isinstance(item, Flag))


def config_schema() -> dict[str, Any]:
    """The schema (draft 2020-12). Its defaults are those of the single-family commands."""
    kind = settings_type("config")
    schema = kind.model_json_schema()
    for name in Settings.model_fields:
        if flag_of(kind, name).flag_only:
            del schema["properties"][name]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "cnnviz configuration",
        "description": "Settings of cnnviz. Each key is also a flag and an environment variable.",
    }
