"""Reads the configuration file. Reports all mistakes at once, each with its line and path."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from foundation.secrets import is_reference
from foundation.yaml_document import Mistake, UnreadableYaml, YamlDocument, expand
from foundation.yaml_document import Path as KeyPath
from responder.app.settings import Config
from responder.config.mistakes import mistakes_of, unexpanded, written_path
from responder.config.text import meant
from responder.errors import ConfigError


def load(file: Path, environment: Mapping[str, str] | None = None) -> Config:
    """The configuration in a file. Raises ConfigError with every mistake as `file:line path: what is wrong`."""
    try:
        text = file.read_text()
    except OSError as e:
        raise ConfigError([f"{file}: cannot be read: {e.strerror} (set its path with --config)"]) from None
    except UnicodeDecodeError as e:
        raise ConfigError([f"{file}: cannot be read: it is not UTF-8 ({e.reason})"]) from None
    return parse(text, str(file), os.environ if environment is None else environment)


def locator(file: Path) -> Callable[[KeyPath], str]:
    """A function from the path of a setting to `file:line path`, for a file that `load` accepts."""
    return YamlDocument(file.read_text(), str(file)).locate


def parse(text: str, name: str, environment: Mapping[str, str]) -> Config:
    """The configuration in a text. Raises ConfigError; `name` stands for the file in its mistakes."""
    try:
        document = YamlDocument(text, name)
    except UnreadableYaml as e:
        raise ConfigError([str(e)]) from None
    if not isinstance(document.data, dict):
        raise ConfigError([f"{name}: must be a mapping with state, prometheus, alertmanager, services and policies"])
    mistakes = [*document.duplicates]

    def variable(path: KeyPath, name: str) -> str:
        if name not in environment:
            mistakes.append((path, f"${{{name}}} is not set in the environment"))
        return environment.get(name, "")

    data = expand(document.data, variable)
    if not mistakes:
        try:
            # As JSON, so that text stays text: a bare `30` must not become a duration, nor `no` a version.
            config = Config.model_validate_json(json.dumps(data, default=str))
        except ValidationError as e:
            mistakes = mistakes_of(e, document.data, data, keys=_known_keys(), explain_key=_explain_key)
        else:
            mistakes = [(written_path(path, data), problem) for path, problem in _contradictions(config)]
            if not mistakes:
                return config
    raise ConfigError([f"{document.locate(path)}: {problem}" for path, problem in mistakes])


def _contradictions(config: Config) -> Iterator[Mistake]:
    if is_reference(config.state):
        yield ("state",), "contains an unexpanded reference: only ${NAME} is replaced by an environment variable"
    yield from unexpanded(config)
    yield from config.contradictions()


def _explain_key(key: str, mapping: Any) -> str:
    strategy = mapping.get("strategy") if isinstance(mapping, dict) else None
    if strategy and (others := [name for name, keys in _strategies().items() if key in keys]):
        names = ", ".join(f'"{name}"' for name in others)
        return f'not an option of strategy "{strategy}" (it belongs to {names})'
    known = _known_keys()
    return f"unknown key here{meant(key, known - {key})}" if key in known else f"unknown key{meant(key, known)}"


def _strategies() -> dict[str, set[str]]:
    """The keys of each strategy."""
    schemas = (part.get("properties", {}) for part in Config.model_json_schema()["$defs"].values())
    return {keys["strategy"]["const"]: set(keys) for keys in schemas if "const" in keys.get("strategy", {})}


def _known_keys() -> set[str]:
    schema = Config.model_json_schema()
    return {key for part in (schema, *schema["$defs"].values()) for key in part.get("properties", ())}
