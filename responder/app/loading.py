"""Reads the configuration file. Reports all mistakes at once, each with its line, its path and what to do."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr, ValidationError

from foundation.configuration.files import read_text
from foundation.configuration.findings import finding_of
from foundation.configuration.mistakes import covered, mistakes_of, written_path
from foundation.configuration.partial import partial
from foundation.configuration.yaml_document import Mistake, UnreadableYaml, YamlDocument, expand, value_at
from foundation.configuration.yaml_document import Path as KeyPath
from foundation.secrets import is_reference
from responder.app.settings import Config
from responder.errors import ConfigError

_UNEXPANDED = "unexpanded reference; write ${NAME}, which is replaced by an environment variable"


def load(file: Path, environment: Mapping[str, str] | None = None) -> Config:
    """The configuration in a file. Raises ConfigError with every mistake."""
    return load_with_document(file, environment)[0]


def load_with_document(file: Path, environment: Mapping[str, str] | None = None) -> tuple[Config, YamlDocument]:
    """The configuration in a file, and the document that knows the lines of its settings. Raises ConfigError."""
    try:
        text = read_text(file)
    except UnreadableYaml as e:
        raise ConfigError([e.finding]) from None
    document = _document(text, str(file))
    return _parse(document, os.environ if environment is None else environment), document


def parse(text: str, name: str, environment: Mapping[str, str]) -> Config:
    """The configuration in a text. Raises ConfigError; `name` stands for the file in its mistakes."""
    return _parse(_document(text, name), environment)


def _document(text: str, name: str) -> YamlDocument:
    try:
        document = YamlDocument(text, name)
    except UnreadableYaml as e:
        raise ConfigError([e.finding]) from None
    if not isinstance(document.data, dict):
        what = "is empty" if document.data is None else "is no mapping"
        needed = "write the keys state, prometheus, alertmanager, services and policies"
        raise ConfigError([finding_of(f"{what}; {needed}", file=name, line=None if document.data is None else 1)])
    return document


def _parse(document: YamlDocument, environment: Mapping[str, str]) -> Config:
    mistakes = [*document.duplicates]

    def variable(path: KeyPath, name: str) -> str:
        if name not in environment:
            mistakes.append((path, f"${{{name}}} is not set in the environment; set it, or write $$ for a dollar sign"))
        return environment.get(name, "")

    data = expand(document.data, variable)
    try:
        # As JSON, so that text stays text: a bare `30` must not become a duration, nor `no` a version.
        config = Config.model_validate_json(json.dumps(data, default=str))
    except ValidationError as e:
        _add(mistakes, mistakes_of(e, data, document, _schema(), {}))
        config = partial(Config, data)
    broken = {name for path, _ in mistakes for name in _names_in(path, data)}
    found = ((written_path(path, data), text) for path, text in _contradictions(config, sound=not mistakes))
    _add(mistakes, [mistake for mistake in found if _text_at(mistake[0], data) not in broken])
    if mistakes:
        findings = sorted((document.finding(path, text) for path, text in mistakes), key=lambda found: found.line or 0)
        raise ConfigError(findings)
    return config


@cache
def _schema() -> dict[str, Any]:
    try:
        return Config.model_json_schema()
    except Exception:  # of a plugin that cannot be imported: without suggestions, its mistakes are reported
        return {}


def _text_at(path: KeyPath, data: Any) -> str | None:
    value = value_at(data, path)
    return value if isinstance(value, str) else None


def _names_in(path: KeyPath, data: Any) -> Iterator[str]:
    """The names under which other parts refer to the parts that contain the value at the path."""
    for end, part in enumerate(path, start=1):
        names = (part, _text_at((*path[:end], "name"), data))
        yield from (name for name in names if isinstance(name, str))


def _add(mistakes: list[Mistake], later: list[Mistake]) -> None:
    """Adds mistakes. Those about a part, or a list with a part, that already has one may only follow from it."""
    known = {path for path, _ in mistakes}
    containing = {path[:end] for path in known for end in range(1, len(path)) if isinstance(path[end], int)}
    mistakes.extend((path, text) for path, text in later if path not in containing and not covered(path, known))


def _contradictions(config: Config, *, sound: bool) -> Iterator[Mistake]:
    """`sound`: whether every part is right. Otherwise a check that cannot work with what is left finds nothing."""
    if isinstance(config.state, str) and is_reference(config.state):
        yield ("state",), f"contains an {_UNEXPANDED}"
    yield from unexpanded(config)
    for check in config.contradictions():
        with suppress(*(() if sound else (Exception,))):
            yield from check()


def unexpanded(value: Any, path: KeyPath = ()) -> Iterator[Mistake]:
    """Secrets that are still a reference: as literal text, every reader of the file would know the secret."""
    if isinstance(value, SecretStr) and is_reference(value.get_secret_value()):
        yield path, _UNEXPANDED
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from unexpanded(getattr(value, name, None), (*path, name))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from unexpanded(item, (*path, key))
    elif isinstance(value, tuple | list):
        for i, item in enumerate(value):
            yield from unexpanded(item, (*path, i))
