"""The configuration `exporters.yml`: its model, and loading it reporting every error with file, line and path."""

from __future__ import annotations

import gc
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from pydantic_core import from_json, to_json

from exporters.clients.address import Address
from exporters.errors import ConfigError
from exporters.probes import AnyCheck
from exporters.probes.check import Check
from exporters.resources.collector import READERS
from foundation.configuration.files import read_text
from foundation.configuration.findings import Finding
from foundation.configuration.mistakes import covered, mistakes_of
from foundation.configuration.schema import Schema
from foundation.configuration.suggestions import meant
from foundation.configuration.yaml_document import Mistake, UnreadableYaml, YamlDocument, expand
from foundation.configuration.yaml_document import Path as KeyPath
from foundation.redaction import Redactor
from foundation.secrets import is_reference, must_be_secret, read_secret

SECRETS_IN_FILES = ("dsn", "password", "bearer_token")
"""Keys that may be given as `<key>_file` instead."""

PUBLIC = {"id", "service", "environment", "labels", "listen", "advertise"}
"""Keys whose values become labels and addresses. A variable of the environment used there is not a secret."""

SYNONYMS = {"check_id": "id", "endpoint_url": "url", "check_type": "type", "threshold_critical": "at_most"}


def _known(name: str) -> str:
    if name not in READERS:
        raise ValueError(f"must be one of {', '.join(READERS)}{meant(name, READERS)}")
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
    warnings: tuple[Finding, ...] = ()
    """Settings that are allowed, but probably not meant."""


_EMPTY = "is empty; write checks, or resources to publish only those of the host"
_NO_CHECKS = "only resources are published; add checks, or write checks: []"
_UNEXPANDED = "unexpanded reference; write ${NAME}, which is replaced by an environment variable"
_NO_CHECK = (
    "system_resource is not a check: resources are always published on /metrics, and compared with limits by alert "
    "rules; select them under `resources`"
)


def load(file: Path, environment: Mapping[str, str] | None = None) -> Loaded:
    """Loads a file. Paths in `*_file` are relative to its directory. Raises ConfigError with every error."""
    return _Loading(file, os.environ if environment is None else environment).load()


@dataclass
class _Loading:
    file: Path
    environment: Mapping[str, str]
    data: Any = None
    mistakes: list[Mistake] = field(default_factory=list)
    secrets: set[str] = field(default_factory=set)
    warnings: list[Finding] = field(default_factory=list)

    def load(self) -> Loaded:
        self.mistakes += self.document.duplicates
        if self.document.data is None:
            raise ConfigError([self.document.finding((), _EMPTY)])
        self.data = expand(self.document.data, self._variable)
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
            self._add(mistakes_of(error, from_json(values), self.document, _schema(), SYNONYMS))
        if config is None or self.mistakes:
            raise ConfigError(self._findings())
        secrets = self.secrets | {text for check in config.checks for text in check.secrets()}
        return Loaded(config, Redactor(secrets), tuple(self.warnings))

    def _add(self, later: list[Mistake]) -> None:
        """Adds mistakes. Those about a value that could not be filled in only follow from that."""
        known = {path for path, _ in self.mistakes}
        self.mistakes.extend(mistake for mistake in later if not covered(mistake[0], known))

    def _findings(self) -> list[Finding]:
        redact = Redactor(self.secrets)
        found = [self.document.finding(path, redact(text)) for path, text in self.mistakes]
        return sorted(found, key=lambda finding: (finding.line or 0, finding.path))

    @cached_property
    def document(self) -> YamlDocument:
        """The parsed file. Parsed again if it is used after it was deleted."""
        try:
            return YamlDocument(self.text, str(self.file))
        except UnreadableYaml as error:
            raise ConfigError([error.finding]) from error

    @cached_property
    def text(self) -> str:
        """The file as it is written."""
        try:
            return read_text(self.file)
        except UnreadableYaml as error:
            raise ConfigError([error.finding]) from error

    def _mistake(self, path: KeyPath, text: str) -> None:
        self.mistakes.append((path, text))

    def _variable(self, path: KeyPath, name: str) -> str:
        value = self.environment.get(name, "")
        if not value:
            self._mistake(path, f"${{{name}}} is not set in the environment; set it, or write $$ for a dollar sign")
        elif not PUBLIC.intersection(path):
            self.secrets.add(value)
        return value

    def _visit_checks(self) -> None:
        checks = self.data.get("checks", ()) if isinstance(self.data, dict) else None
        if checks == ():
            self.warnings.append(self.document.finding((), _NO_CHECKS, "warning"))
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
            misread = self.document.misread((*path, "json_equals"))
            self.warnings += (self.document.finding(at, text, "warning") for at, text in misread)
            if check.get("type") == "system_resource":
                self._mistake((*path, "type"), _NO_CHECK)
            if isinstance(name := check.get("id"), str) and first.setdefault(name, index) != index:
                self._mistake((*path, "id"), f"{name!r} is already the ID of checks[{first[name]}]; give each its own")

    def _read_secret_files(self, values: dict[str, Any], path: KeyPath) -> None:
        for key in SECRETS_IN_FILES:
            if isinstance(values.get(key), str) and is_reference(values[key]):
                self._mistake((*path, key), _UNEXPANDED)
            if (file_key := f"{key}_file") not in values:
                continue
            written, file_path = values.pop(file_key), (*path, file_key)
            if key in values:
                self._mistake(file_path, f"needs exactly one of {key}, {file_key}; remove one")
                continue
            # A placeholder, so that "dsn is required" is not reported as well.
            values[key] = self._secret_in(written, file_path) or ("postgresql://" if key == "dsn" else "")

    def _secret_in(self, written: object, path: KeyPath) -> str:
        if not isinstance(written, str):
            self._mistake(path, "must be the path of a file; write it as text")
            return ""
        try:
            secret = read_secret(must_be_secret(self.file.parent / written))
        except ValueError as error:
            self._mistake(path, str(error))
        else:
            if not secret:
                self._mistake(path, f"{written} is empty; write the secret into it")
            self.secrets.add(secret)
            return secret
        return ""


_TLS_FILES = ("ca_file", "cert_file", "key_file")


@cache
def _schema() -> Schema:
    """The schema of the file, in which a secret can be in a file of its own."""
    schema = Config.model_json_schema()
    for model in schema["$defs"].values():
        properties = model.get("properties", {})
        properties |= {f"{key}_file": {"type": "string"} for key in SECRETS_IN_FILES if key in properties}
    return schema
