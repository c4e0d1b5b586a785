"""Turns `exporters.yml` into a frozen value, or names every mistake in it with file, line and path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from exporters.document import Document, Place, read
from exporters.errors import ConfigError, Problem
from exporters.probes import TYPES, AnyCheck
from exporters.probes.tcp import host_and_port
from exporters.redaction import Redactor
from foundation.secret_files import is_reference, must_be_secret

Resource = Literal["cpu", "memory", "swap", "disk", "network", "load", "pressure", "processes", "files", "cgroup"]
ALL_RESOURCES: tuple[Resource, ...] = (
    *("cpu", "memory", "swap", "disk", "network"),
    *("load", "pressure", "processes", "files", "cgroup"),
)
SECRET_FILES = ("dsn_file", "password_file", "bearer_token_file")
IN_OTHER_WORDS = {"check_id": "id", "endpoint_url": "url", "check_type": "type", "threshold_critical": "at_most"}


def _address(text: str) -> str:
    host_and_port(text)
    return text


Address = Annotated[str, AfterValidator(_address)]


class Config(BaseModel):
    """Everything that a user may write."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    listen: Address = "127.0.0.1:9469"
    advertise: Address | None = None
    checks: Annotated[tuple[AnyCheck, ...], Field(strict=False)] = ()
    resources: Annotated[tuple[Resource, ...], Field(strict=False)] = ALL_RESOURCES

    @cached_property
    def by_id(self) -> dict[str, AnyCheck]:
        """The checks by their id."""
        return {check.id: check for check in self.checks}


@dataclass(frozen=True)
class Loaded:
    """A configuration and what must be hidden of it."""

    config: Config
    redact: Redactor


def load(path: Path, environment: Mapping[str, str] | None = None) -> Loaded:
    """The configuration in that file; relative `*_file` paths start at its folder. ConfigError with all mistakes."""
    document = read(path, environment)
    _read_secret_files(document, path.parent)
    _duplicate_ids(document)
    config = None
    try:
        config = Config.model_validate({} if document.data is None else document.data)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            document.mistake(*_path_and_message(details, document))
    if config is None or document.problems:
        raise ConfigError(_tidied(document))
    secrets = {secret for check in config.checks for secret in check.secrets()}
    return Loaded(config, Redactor(document.secrets | secrets))


def _read_secret_files(document: Document, folder: Path) -> None:
    checks = document.data.get("checks") if isinstance(document.data, dict) else None
    for index, check in enumerate(checks if isinstance(checks, list) else ()):
        _with_files(document, check, ("checks", index), folder)


def _with_files(document: Document, values: Any, path: Place, folder: Path) -> None:
    if not isinstance(values, dict):
        return
    for name in (key.removesuffix("_file") for key in SECRET_FILES):
        if isinstance(values.get(name), str) and is_reference(values[name]):
            why = "is an unexpanded reference: only ${NAME} is filled in from the environment"
            document.mistake((*path, name), why)
    for key in [key for key in values if key in SECRET_FILES]:
        name, written, key_path = key.removesuffix("_file"), values.pop(key), (*path, key)
        if name in values:
            document.mistake(key_path, f"give either {name} or {key}")
            continue
        # A placeholder keeps the second opinion "dsn is missing" out of the list.
        values[name] = "postgresql://" if name == "dsn" else ""
        if not isinstance(written, str):
            document.mistake(key_path, "must be the path of a file")
            continue
        try:
            secret = must_be_secret(folder / written).read_text(encoding="utf-8").rstrip("\r\n")
        except OSError as error:
            document.mistake(key_path, f"cannot read {written}: {error.strerror}")
        except UnicodeDecodeError:
            document.mistake(key_path, f"{written} is not UTF-8 text")
        except ValueError as error:
            document.mistake(key_path, str(error))
        else:
            if not secret:
                document.mistake(key_path, f"{written} is empty")
            values[name] = secret or values[name]
            document.secrets.add(secret)
    if "basic_auth" in values:
        _with_files(document, values["basic_auth"], (*path, "basic_auth"), folder)
    if isinstance(tls := values.get("tls"), dict):
        for key in ("ca_file", "cert_file", "key_file"):
            if isinstance(tls.get(key), str):
                tls[key] = str(folder / tls[key])


def _duplicate_ids(document: Document) -> None:
    checks = document.data.get("checks") if isinstance(document.data, dict) else None
    first: dict[str, int] = {}
    for index, check in enumerate(checks if isinstance(checks, list) else ()):
        name = check.get("id") if isinstance(check, dict) else None
        if not isinstance(name, str):
            continue
        if name in first:
            document.mistake(("checks", index, "id"), f"{name!r} is the id of checks[{first[name]}] already")
        first.setdefault(name, index)


def _path_and_message(details: ErrorDetails, document: Document) -> tuple[Place, str]:
    path: Place = tuple(details["loc"])
    model: Any = Config
    if path[:1] == ("checks",) and len(path) > 2 and path[2] in TYPES:
        # pydantic puts the tag of the union into the path; nobody has written it there.
        model, path = TYPES[str(path[2])], (*path[:2], *path[3:])
    message = details["msg"].removeprefix("Value error, ")
    match details["type"]:
        case "extra_forbidden":
            written = str(path[-1])
            near = IN_OTHER_WORDS.get(written)
            guesses = get_close_matches(written, list(model.model_fields) if len(path) < 4 else [], n=1)
            meant = near if near in model.model_fields else next(iter(guesses), None)
            message = f"unknown key; did you mean {meant}?" if meant else "unknown key"
        case "missing":
            message = "is required"
        case "union_tag_invalid" if details.get("ctx", {}).get("tag") == "system_resource":
            path = (*path, "type")
            message = (
                "system_resource is not a check: resources are always published on /metrics, "
                "are selected under `resources` and held to limits by alert rules"
            )
        case "union_tag_invalid":
            path, message = (*path, "type"), f"must be one of {', '.join(TYPES)}"
        case "union_tag_not_found":
            path, message = (*path, "type"), f"is required: one of {', '.join(TYPES)}"
        case "string_pattern_mismatch":
            message = f"does not match {details.get('ctx', {}).get('pattern')}"
        case "model_type" | "model_attributes_type" | "dict_type":
            message = "must be a mapping of keys and values"
        case "tuple_type" | "list_type":
            message = "must be a list"
        case _:
            message = message[0].lower() + message[1:]
    if message.startswith("input should be"):
        message = "must be" + message.removeprefix("input should be")
    if path[-1:] == ("[key]",):
        path = path[:-1]
    return path, Redactor(document.secrets)(message)


def _tidied(document: Document) -> list[Problem]:
    # Where a value could not be filled in, what pydantic thinks of the gap is noise.
    paths: set[str] = set()
    tidy = []
    for problem in document.problems:
        if problem.path and problem.path in paths:
            continue
        paths.add(problem.path)
        tidy.append(problem)
    return sorted(tidy, key=lambda problem: (problem.line or 0, problem.path))
