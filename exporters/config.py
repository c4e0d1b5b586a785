"""The configuration `exporters.yml`: its model, and loading it reporting every error with file, line and path."""

from __future__ import annotations

import gc
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails, from_json, to_json

from exporters.clients.address import Address
from exporters.errors import ConfigError, Problem
from exporters.probes import PROBES, AnyCheck
from exporters.probes.check import Check
from exporters.resources.collector import READERS
from foundation.redaction import Redactor
from foundation.secrets import is_reference, must_be_secret, read_secret
from foundation.yaml_document import Path as KeyPath
from foundation.yaml_document import UnreadableYaml, YamlDocument, expand, path_text

SECRETS_IN_FILES = ("dsn", "password", "bearer_token")
"""Keys that may be given as `<key>_file` instead."""

PUBLIC = {"id", "service", "environment", "labels", "listen", "advertise"}
"""Keys whose values become labels and addresses. A variable of the environment used there is not a secret."""

SYNONYMS = {"check_id": "id", "endpoint_url": "url", "check_type": "type", "threshold_critical": "at_most"}


def _known(name: str) -> str:
    if name not in READERS:
        raise ValueError(f"must be one of {', '.join(READERS)}")
    return name


Resource = Annotated[str, AfterValidator(_known)]


class Config(BaseModel):
    """The whole configuration file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    listen: Address = "127.0.0.1:9469"
    advertise: Address | None = None
    checks: tuple[AnyCheck, ...] = ()
    resources: tuple[Resource, ...] = tuple(READERS)

    @cached_property
    def by_id(self) -> dict[str, Check]:
        """The checks by their ID."""
        return {check.id: check for check in self.checks}


@dataclass(frozen=True)
class Loaded:
    """A configuration, and the redactor that masks its secrets."""

    config: Config
    redact: Redactor


def load(file: Path, environment: Mapping[str, str] | None = None) -> Loaded:
    """Loads a file. Paths in `*_file` are relative to its directory. Raises ConfigError with every error."""
    return _Loading(file, os.environ if environment is None else environment).load()


@dataclass
class _Loading:
    file: Path
    environment: Mapping[str, str]
    data: Any = None
    problems: list[Problem] = field(default_factory=list)
    secrets: set[str] = field(default_factory=set)

    def load(self) -> Loaded:
        for path, message in self.document.duplicates:
            self._mistake(path, message)
        self.data = {} if self.document.data is None else expand(self.document.data, self._variable)
        self._visit_checks()
        # As JSON: a bare 30 must not become a duration, and a list is a tuple.
        values = to_json(self.data, inf_nan_mode="constants", fallback=str)
        # Freed before the models take its place: with 1,000 checks, the process stays 6 MiB smaller.
        del self.document, self.data
        gc.collect()
        config = None
        try:
            config = Config.model_validate_json(values)
        except ValidationError as error:
            data = from_json(values)
            for details in error.errors(include_url=False):
                path, message = _path_and_message(details, data)
                self._mistake(path, Redactor(self.secrets)(message))
        if config is None or self.problems:
            raise ConfigError(_tidy(self.problems))
        return Loaded(config, Redactor(self.secrets | {text for check in config.checks for text in check.secrets()}))

    @cached_property
    def document(self) -> YamlDocument:
        """The parsed file. Parsed again if it is used after it was deleted."""
        try:
            return YamlDocument(self.text, str(self.file))
        except UnreadableYaml as error:
            raise ConfigError([Problem(str(self.file), error.line, "", error.problem)]) from error

    @cached_property
    def text(self) -> str:
        """The file as it is written."""
        try:
            return self.file.read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigError([Problem(str(self.file), None, "", f"cannot be read: {error.strerror}")]) from error
        except UnicodeDecodeError as error:
            raise ConfigError([Problem(str(self.file), None, "", f"not UTF-8 ({error.reason})")]) from error

    def _mistake(self, path: KeyPath, message: str) -> None:
        line = self.document.line(path) if path else None
        self.problems.append(Problem(str(self.file), line, path_text(path), message))

    def _variable(self, path: KeyPath, name: str) -> str:
        value = self.environment.get(name, "")
        if not value:
            self._mistake(path, f"${{{name}}} is not set in the environment")
        elif not PUBLIC.intersection(path):
            self.secrets.add(value)
        return value

    def _visit_checks(self) -> None:
        checks = self.data.get("checks") if isinstance(self.data, dict) else None
        first: dict[str, int] = {}
        for index, check in enumerate(checks if isinstance(checks, list) else ()):
            if not isinstance(check, dict):
                continue
            path: KeyPath = ("checks", index)
            self._read_secret_files(check, path)
            if isinstance(basic_auth := check.get("basic_auth"), dict):
                self._read_secret_files(basic_auth, (*path, "basic_auth"))
            if isinstance(tls := check.get("tls"), dict):
                tls |= {key: str(self.file.parent / tls[key]) for key in _TLS_FILES if isinstance(tls.get(key), str)}
            if isinstance(name := check.get("id"), str) and first.setdefault(name, index) != index:
                self._mistake((*path, "id"), f"{name!r} is already the ID of checks[{first[name]}]")

    def _read_secret_files(self, values: dict[str, Any], path: KeyPath) -> None:
        for key in SECRETS_IN_FILES:
            if isinstance(values.get(key), str) and is_reference(values[key]):
                why = "is an unexpanded reference: only ${NAME} is replaced by an environment variable"
                self._mistake((*path, key), why)
            if (file_key := f"{key}_file") not in values:
                continue
            written, file_path = values.pop(file_key), (*path, file_key)
            if key in values:
                self._mistake(file_path, f"needs exactly one of {key}, {file_key}")
                continue
            # A placeholder, so that "dsn is required" is not reported as well.
            values[key] = self._secret_in(written, file_path) or ("postgresql://" if key == "dsn" else "")

    def _secret_in(self, written: object, path: KeyPath) -> str:
        if not isinstance(written, str):
            self._mistake(path, "must be the path of a file")
            return ""
        try:
            secret = read_secret(must_be_secret(self.file.parent / written))
        except ValueError as error:
            self._mistake(path, str(error))
        else:
            if not secret:
                self._mistake(path, f"{written} is empty")
            self.secrets.add(secret)
            return secret
        return ""


_TLS_FILES = ("ca_file", "cert_file", "key_file")
_MESSAGES = {
    "missing": "is required",
    "model_type": "must be a mapping of keys and values",
    "model_attributes_type": "must be a mapping of keys and values",
    "dict_type": "must be a mapping of keys and values",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
}


def _path_and_message(details: ErrorDetails, data: Any) -> tuple[KeyPath, str]:
    path: KeyPath = tuple(details["loc"])
    context = details.get("ctx", {})
    match details["type"]:
        case "extra_forbidden":
            return path, _unknown_key(path, data)
        case "union_tag_invalid" if context.get("tag") == "system_resource":
            return (*path, "type"), (
                "system_resource is not a check: resources are always published on /metrics, selected under "
                "`resources`, and compared with limits by alert rules"
            )
        case "union_tag_invalid":
            return (*path, "type"), f"must be one of {', '.join(PROBES.names)}"
        case "union_tag_not_found":
            return (*path, "type"), f"is required: one of {', '.join(PROBES.names)}"
        case "string_pattern_mismatch":
            return path, f"does not match {context.get('pattern')}"
    message = details["msg"].removeprefix("Value error, ")
    message = _MESSAGES.get(details["type"], message[0].lower() + message[1:])
    if message.startswith("input should be"):
        message = "must be" + message.removeprefix("input should be")
    return (path[:-1] if path[-1:] == ("[key]",) else path), message


def _unknown_key(path: KeyPath, data: Any) -> str:
    model: type[BaseModel] = Config
    if path[0] == "checks" and len(path) > 1:
        model = PROBES.load(str(PROBES.name_of(data["checks"][path[1]])))
    fields = list(model.model_fields) if len(path) in (1, 3) else []
    key = str(path[-1])
    meant = [SYNONYMS[key]] if SYNONYMS.get(key) in fields else get_close_matches(key, fields, n=1)
    return f"unknown key; did you mean {meant[0]}?" if meant else "unknown key"


def _tidy(problems: list[Problem]) -> list[Problem]:
    """The first error of each path: errors that follow from a value that could not be filled in are noise."""
    first: dict[str, Problem] = {}
    for number, problem in enumerate(problems):
        first.setdefault(problem.path or str(number), problem)
    return sorted(first.values(), key=lambda problem: (problem.line or 0, problem.path))
