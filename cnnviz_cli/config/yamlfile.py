"""A strict reader of YAML: what a person wrote, or an error that names its line and column.

PyYAML's events carry places, and nothing has been thrown away yet: its loader keeps the last of two equal keys and
reads ``no`` as False, ``012`` as 10 and ``12:30:45`` as 45045.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import yaml
from yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
    StreamStartEvent,
)

from cnnviz_cli.config.errors import Location, SettingsSource, SourcePlace, caret_excerpt, combine_errors
from cnnviz_cli.config.values import parse_scalar
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.file_reading import OversizeError, read_regular
from cnnviz_cli.core.text import did_you_mean, escape_text

MAX_BYTES = 256 * 1024
"""Bytes; a configuration of cnnviz has a few hundred."""
MAX_DEPTH = 8

_LINE_BREAK = re.compile(r"\r\n|[\n\r\x85\u2028\u2029]")


def read_file(path: Path) -> SettingsSource:
    """The file's mapping. Raises UsageError for a file that cannot be read, and for what this reader refuses."""
    name = escape_text(str(path))
    try:
        raw = read_regular(path, MAX_BYTES)
    except FileNotFoundError:
        siblings = sorted(p.name for p in path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
        raise UsageError(
            "there is no such configuration file", where=name, fix=did_you_mean(path.name, siblings)
        ) from None
    except IsADirectoryError:
        raise UsageError("this is a folder, not a configuration file", where=name) from None
    except OversizeError:
        raise UsageError(f"the configuration file is larger than {MAX_BYTES // 1024} KiB", where=name) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"the configuration file cannot be read: {escape_text(reason)}", where=name) from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8-sig")
        lines = _LINE_BREAK.split(before)
        where = f"{name}:{len(lines)}:{len(lines[-1]) + 1}"
        raise UsageError("the configuration file is not UTF-8", where=where, fix="Save it as UTF-8.") from None
    document = SettingsSource()
    root = _Builder(text, name, document).build()
    if not isinstance(root, dict):
        raise UsageError("the configuration file is empty", where=name, fix="Write keys into it: model: resnet50")
    document.data = root
    return document


def parse(text: str, name: str) -> Any:
    """The value in `text`, such as ``[top3, tiger cat]``; errors show `name` as its place. Raises as `read_file`."""
    return _Builder(text, name, SettingsSource(), mapping=False).build()


class _Builder:
    def __init__(self, text: str, name: str, document: SettingsSource, *, mapping: bool = True) -> None:
        self._text = text
        self._lines = _LINE_BREAK.split(text)
        self._name = name
        self._document = document
        self._mapping = mapping
        self._problems: list[UsageError] = []

    def build(self) -> Any:
        try:
            # Reader errors surface when the loader is made, scanner and parser errors while it runs.
            self._events: Iterator[Event] = yaml.parse(self._text, Loader=yaml.SafeLoader)
            value = self._stream()
        except yaml.reader.ReaderError as error:
            index = error.position if isinstance(error.position, int) else 0
            lines = _LINE_BREAK.split(self._text[:index])
            self._stop(len(lines) - 1, len(lines[-1]), f"the character {self._text[index]!a} is not allowed in YAML")
        except yaml.MarkedYAMLError as error:
            line, column = _position(error.problem_mark or error.context_mark)
            context = f" ({error.context})" if error.context else ""
            if context and error.context_mark is not None:
                start = _position(error.context_mark)
                context = f"{context[:-1]} from {start[0] + 1}:{start[1] + 1})"
            self._stop(line, column, escape_text(f"this is not YAML: {error.problem}{context}"))
        if self._problems:
            raise combine_errors(self._problems)
        return value

    def _stream(self) -> Any:
        value: Any = None
        documents = 0
        for event in self._events:
            if isinstance(event, DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._stop_at(event, "a second document starts here", "Keep one document in a file.")
            elif not isinstance(event, StreamStartEvent | StreamEndEvent | DocumentEndEvent):
                if self._mapping and not isinstance(event, MappingStartEvent):
                    self._stop_at(event, "the file must hold keys and values", "For instance: model: resnet50")
                value = self._value(event, ())
        return value

    def _value(self, event: Event, path: Location) -> Any:
        self._document.values[path] = self._place(event)
        if isinstance(event, AliasEvent):
            self._refuse(event, f"aliases are not allowed (*{event.anchor})", "Write the value out.")
            return None
        anchor, tag = getattr(event, "anchor", None), getattr(event, "tag", None)
        if anchor is not None:
            self._refuse(event, f"anchors are not allowed (&{anchor})", "Write the value out where it is used.")
        if tag is not None:
            self._refuse(event, f"tags are not allowed ({tag})", "Put text in quotes; numbers need nothing.")
        if isinstance(event, ScalarEvent):
            return self._scalar(event)
        if len(path) >= MAX_DEPTH:
            self._stop_at(event, f"nested deeper than {MAX_DEPTH} levels")
        return self._sequence(path) if isinstance(event, SequenceStartEvent) else self._members(path)

    def _sequence(self, path: Location) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self._events), SequenceEndEvent):
            items.append(self._value(event, (*path, len(items))))
        return items

    def _members(self, path: Location) -> dict[str, Any]:
        members: dict[str, Any] = {}
        while not isinstance(event := next(self._events), MappingEndEvent):
            key = self._key(event, path, members)
            inner = (*path, key or "")
            if key is not None:
                self._document.keys[inner] = self._place(event)
            value = self._value(next(self._events), inner)
            if key is not None:
                members[key] = value
        return members

    def _key(self, event: Event, path: Location, members: dict[str, Any]) -> str | None:
        """The key, or None where it was refused; its value is still to be read."""
        if isinstance(event, ScalarEvent) and event.value == "<<" and event.style is None:
            self._refuse(event, "merge keys are not allowed (<<)", "Write the keys out.")
            return None
        refused = len(self._problems)
        key = self._value(event, (*path, ""))
        if len(self._problems) > refused:
            return None
        if not isinstance(key, str):
            self._refuse(event, "a key must be text", "Put it in quotes.")
            return None
        if key in members:
            first = self._document.keys[(*path, key)].where
            self._refuse(event, f"the key '{key}' is given twice, first at {first}", "Keep one of them.")
            return None
        return key

    def _scalar(self, event: ScalarEvent) -> Any:
        for character in event.value:
            if character == "\0" or "\ud800" <= character <= "\udfff":
                self._refuse(event, f"the character {character!a} is not allowed here")
                return ""
        return parse_scalar(event.value) if event.style is None else event.value

    def _place(self, event: Event) -> SourcePlace:
        return self._at(*_position(event.start_mark))

    def _at(self, line: int, column: int) -> SourcePlace:
        shown = caret_excerpt(self._lines[line], line + 1, column + 1) if line < len(self._lines) else ""
        return SourcePlace(f"{self._name}:{line + 1}:{column + 1}", shown, (line, column))

    def _refuse(self, event: Event, what: str, fix: str = "") -> None:
        place = self._place(event)
        self._problems.append(UsageError(escape_text(what), where=place.where, excerpt=place.excerpt, fix=fix))

    def _stop_at(self, event: Event, what: str, fix: str = "") -> NoReturn:
        self._stop(*_position(event.start_mark), what, fix)

    def _stop(self, line: int, column: int, what: str, fix: str = "") -> NoReturn:
        """Reading on makes no sense: raise this together with what was found before."""
        place = self._at(line, column)
        self._problems.append(UsageError(what, where=place.where, excerpt=place.excerpt, fix=fix))
        raise combine_errors(self._problems)


def _position(mark: Any) -> tuple[int, int]:
    return (mark.line, mark.column)
