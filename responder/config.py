"""One YAML file, read whole: every mistake is told with its place, and nothing is guessed."""

from __future__ import annotations

import difflib
import ipaddress
import json
import os
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from responder.alerts import path_of
from responder.clients import Connections, missing_package
from responder.clients.alertmanager import Alertmanager, AlertmanagerSettings
from responder.clients.docker import Docker, DockerSettings
from responder.clients.kubernetes import Kubernetes, KubernetesSettings
from responder.clients.prometheus import Prometheus, PrometheusSettings
from responder.conduct import Limits, Watchdog
from responder.errors import ConfigError
from responder.freezes import Freeze
from responder.journal import state_problem
from responder.matching import all_match
from responder.policies import Mandate, Policy
from responder.services import Service

Scope = Literal["alerts", "read", "operate", "approve"]
_SHORTEST_TOKEN = 16


class Token(BaseModel):
    """One bearer token. Several of one name let it be changed without a gap; the name is on record as who did it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, description="Who it is, for the record")
    scopes: Annotated[
        tuple[Scope, ...],
        Field(
            min_length=1,
            description="alerts: send them; read: see everything; operate: roll back, stop, close; approve",
        ),
    ]
    file: Path | None = Field(default=None, description="File that holds the token, as a secret mounted by Kubernetes")
    token: SecretStr | None = Field(default=None, description="The token itself, as ${RESPONDER_TOKEN}")
    _secret: str = PrivateAttr(default="")

    @model_validator(mode="after")
    def _read(self) -> Token:
        if (self.file is None) == (self.token is None):
            raise ValueError("needs exactly one of file, token")
        if self.file is not None:
            try:
                secret = self.file.read_text().strip()
            except OSError as e:
                raise ValueError(f"{self.file} cannot be read: {e.strerror}") from None
        else:
            secret = self.token.get_secret_value() if self.token else ""
        if len(secret) < _SHORTEST_TOKEN:
            raise ValueError(
                f"a token has at least {_SHORTEST_TOKEN} characters (openssl rand -hex 32 makes a good one)"
            )
        self._secret = secret
        return self

    @property
    def secret(self) -> str:
        return self._secret


class Web(BaseModel):
    """Where the responder listens, and who may say what."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    listen: str = Field(
        default="127.0.0.1:9095", description="Address and port; without tokens only a loopback address"
    )
    external_url: HttpUrl | None = Field(
        default=None, description="How people reach it, for links in messages; else the address that it listens on"
    )
    tokens: tuple[Token, ...] = Field(
        default=(), description="Bearer tokens; none is allowed on a loopback address only"
    )

    @field_validator("listen")
    @classmethod
    def _has_a_port(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        if not host or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
            raise ValueError(f"{value!r} is not an address and a port such as 127.0.0.1:9095")
        return value

    @property
    def host(self) -> str:
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return int(self.listen.rpartition(":")[2])

    @property
    def loopback(self) -> bool:
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


class Log(BaseModel):
    """How the responder's own log looks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    style: Literal["console", "json"] = Field(default="console", description="For people, or for machines")
    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="The least that is told")


class Config(BaseModel):
    """responder.yml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: str = Field(description="sqlite:///absolute/path or postgresql://user:${PGPASSWORD}@host/database")
    prometheus: PrometheusSettings = Field(description="Asked by PromQL checks, and for alerts past Alertmanager")
    alertmanager: AlertmanagerSettings = Field(description="Asked before every act whether the alert still fires")
    kubernetes: KubernetesSettings = Field(default=KubernetesSettings(), description="How the cluster is reached")
    docker: DockerSettings = Field(default=DockerSettings(), description="How the Docker Engine is reached")
    web: Web = Web()
    limits: Limits = Limits()
    log: Log = Log()
    stop_file: Path | None = Field(default=None, description="While this file exists, nothing is begun and all stops")
    watchdog: Watchdog | None = Field(
        default=None, description="An alert that always fires; where it stays away or is silenced, nothing is begun"
    )
    freezes: tuple[Freeze, ...] = Field(default=(), description="When nothing is rolled back without approval")
    services: tuple[Service, ...] = Field(default=(), description="What can be rolled back")
    policies: tuple[Policy, ...] = Field(default=(), description="First match wins, for each alert by itself")
    _loaded_at: datetime = PrivateAttr(default_factory=lambda: datetime.now(UTC))

    @field_validator("state")
    @classmethod
    def _is_one_of_the_journals(cls, value: str) -> str:
        if problem := state_problem(value):
            raise ValueError(problem)
        return value

    @property
    def loaded_at(self) -> datetime:
        return self._loaded_at

    @property
    def mandate(self) -> Mandate:
        return Mandate(
            services=self.services,
            policies=self.policies,
            stop_file=self.stop_file,
            limits=self.limits,
            freezes=self.freezes,
            watchdog=self.watchdog,
        )

    def connections(self) -> Connections:
        return Connections(
            {
                Prometheus: self.prometheus,
                Alertmanager: self.alertmanager,
                Kubernetes: self.kubernetes,
                Docker: self.docker,
            }
        )

    def contradictions(self) -> Iterator[tuple[tuple[int | str, ...], str]]:
        """What each part cannot see by itself: the place of every mistake, and what is wrong."""
        if not self.web.tokens and not self.web.loopback:
            yield ("web", "tokens"), f"{self.web.listen} can be reached from outside: tokens are needed"
        seen: dict[tuple[str, str], int] = {}
        for i, service in enumerate(self.services):
            first = seen.setdefault((service.name, service.environment), i)
            if first != i:
                yield ("services", i, "name"), f"{service.name} in {service.environment} is services[{first}] already"
            for j, needed in enumerate(service.depends_on):
                if not any((s.name, s.environment) == (needed, service.environment) for s in self.services):
                    yield (
                        ("services", i, "depends_on", j),
                        f"no service {needed} is configured in {service.environment}",
                    )
            for told in sorted({told for kind in service.clients if (told := missing_package(kind))}):
                yield ("services", i), told
            if ring := self._ring(service):
                yield ("services", i, "depends_on"), f"depends on itself: {' → '.join(ring)}"
        names = {service.name for service in self.services}
        for i, policy in enumerate(self.policies):
            if any(policy.name == earlier.name for earlier in self.policies[:i]):
                yield ("policies", i, "name"), f"{policy.name} is the name of an earlier policy"
            for j, name in enumerate(policy.roll_back if isinstance(policy.roll_back, tuple) else ()):
                if name not in names:
                    yield ("policies", i, "roll_back", j), f"no service {name} is configured{_meant(name, names)}"
            fixed = {m.name: m.value for m in policy.match if m.op == "="}
            for j, noise in enumerate(policy.silence):
                if all_match(noise.match, fixed):
                    yield ("policies", i, "silence", j), "would silence the very alerts that the policy acts on"
        for i, freeze in enumerate(self.freezes):
            for j, name in enumerate(freeze.services):
                if name not in names:
                    yield ("freezes", i, "services", j), f"no service {name} is configured{_meant(name, names)}"

    def _ring(self, start: Service) -> list[str]:
        needs = {s.name: s.depends_on for s in self.services if s.environment == start.environment}
        ways = [[start.name]]
        seen = set()
        while ways:
            way = ways.pop()
            for needed in needs.get(way[-1], ()):
                if needed == start.name:
                    return [*way, needed]
                if needed not in seen:
                    seen.add(needed)
                    ways.append([*way, needed])
        return []


def load(file: Path, environment: Mapping[str, str] | None = None) -> Config:
    """The configuration in a file. Raises ConfigError with every mistake as `file:line: path: what is wrong`."""
    try:
        text = file.read_text()
    except OSError as e:
        raise ConfigError([f"{file}: cannot be read: {e.strerror}"]) from None
    except UnicodeDecodeError as e:
        raise ConfigError([f"{file}: cannot be read: it is not UTF-8 ({e.reason})"]) from None
    return parse(text, str(file), os.environ if environment is None else environment)


def parse(text: str, name: str, environment: Mapping[str, str]) -> Config:
    """The same for a text; `name` is what the mistakes call it."""
    lines: dict[tuple[int | str, ...], int] = {}
    try:
        node = yaml.compose(text, yaml.SafeLoader)
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(
                [f"{name}: must be a mapping with state, prometheus, alertmanager, services and policies"]
            )
        mistakes = list(_walk(node, (), lines))
        raw = yaml.safe_load(text)
    except yaml.MarkedYAMLError as e:
        at = f":{e.problem_mark.line + 1}" if e.problem_mark else ""
        raise ConfigError([f"{name}{at}: not YAML: {e.problem}"]) from None
    except (yaml.YAMLError, ValueError) as e:
        raise ConfigError([f"{name}: not YAML: {str(e).splitlines()[0]}"]) from None
    except RecursionError:
        raise ConfigError([f"{name}: not YAML that can be used: an anchor refers to itself"]) from None
    data, missing = _expand(raw, environment, ())
    mistakes += missing
    if not mistakes:
        try:
            # As JSON, so that text stays text: a bare `30` must not become a duration, nor `no` a version.
            config = Config.model_validate_json(json.dumps(data, default=str))
        except ValidationError as e:
            found = [(_real(tuple(error["loc"]), data), error) for error in e.errors(include_url=False)]
            # A list whose only item is wrong is told to be too short as well: that is no news.
            inner = {path[:n] for path, _ in found for n in range(len(path))}
            told = [(path, e) for path, e in found if e["type"] != "too_short" or path not in inner]
            # A key that is missing because it is misspelt is one mistake.
            near = {(*p[:-1], *_near(str(p[-1]))) for p, e in told if e["type"] == "extra_forbidden"}
            told = [(path, e) for path, e in told if e["type"] != "missing" or path not in near]
            # What was written, not what it stands for: that may be a secret.
            mistakes = [(path, _sentence(e, _at(raw, path))) for path, e in told]
        else:
            mistakes = list(config.contradictions())
            if not mistakes:
                return config
    raise ConfigError([_told(name, path, what, lines) for path, what in mistakes])


def _walk(
    node: yaml.Node, path: tuple[int | str, ...], lines: dict[tuple[int | str, ...], int]
) -> Iterator[tuple[tuple[int | str, ...], str]]:
    """Remembers the line of every path, and finds keys that are written twice (YAML would quietly keep the last)."""
    lines[path] = node.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode):
        for i, child in enumerate(node.value):
            yield from _walk(child, (*path, i), lines)
    elif isinstance(node, yaml.MappingNode):
        for key, child in node.value:
            below = (*path, str(key.value))
            if below in lines:
                yield below, f"is written twice (first in line {lines[below]})"
            yield from _walk(child, below, lines)
            lines[below] = key.start_mark.line + 1


def _expand(data: Any, environment: Mapping[str, str], path: tuple[int | str, ...]) -> tuple[Any, list[Any]]:
    """Puts the environment in for `${NAME}`; `$$` is a dollar sign."""
    missing: list[Any] = []

    def value(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        if found[1] not in environment:
            missing.append((path, f"${{{found[1]}}} is not set in the environment"))
        return environment.get(found[1], "")

    if isinstance(data, str):
        return re.sub(r"\$\$|\$\{(\w+)\}", value, data), missing
    if isinstance(data, dict):
        pairs = [(k, _expand(v, environment, (*path, str(k)))) for k, v in data.items()]
        return {k: v for k, (v, _) in pairs}, [m for _, (_, ms) in pairs for m in ms]
    if isinstance(data, list):
        items = [_expand(v, environment, (*path, i)) for i, v in enumerate(data)]
        return [v for v, _ in items], [m for _, ms in items for m in ms]
    return data, missing


def _real(location: tuple[int | str, ...], data: Any) -> tuple[int | str, ...]:
    """Pydantic's location without the names of union members, which nobody wrote."""
    path: list[int | str] = []
    for i, part in enumerate(location):
        last = i == len(location) - 1
        if isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        elif isinstance(data, dict) and part in data:
            data = data[part]
        elif not (last and isinstance(data, dict) and re.fullmatch(r"[a-z_]+", str(part))):
            continue
        path.append(part)
    return tuple(path)


def _at(data: Any, path: tuple[int | str, ...]) -> Any:
    for part in path:
        data = data.get(part) if isinstance(data, dict) else data[int(part)] if isinstance(data, list) else None
    return data


def _sentence(error: Any, written: Any) -> str:
    match error["type"]:
        case "extra_forbidden":
            key = str(error["loc"][-1])
            return (
                f"unknown key here{_meant(key, _known_keys() - {key})}"
                if key in _known_keys()
                else (f"unknown key{_meant(key, _known_keys())}")
            )
        case "missing":
            return "is missing"
        case "union_tag_not_found":
            return f"needs the key {error['ctx']['discriminator']}"
        case "union_tag_invalid":
            return f"{error['ctx']['tag']!r} is none of {error['ctx']['expected_tags']}"
        case "value_error":
            return str(error["ctx"]["error"])
    return f"{error['msg'][0].lower()}{error['msg'][1:]}, not {written!r:.80}"


def _known_keys() -> set[str]:
    schema = Config.model_json_schema()
    return {key for part in (schema, *schema["$defs"].values()) for key in part.get("properties", ())}


def _near(word: str, known: set[str] | None = None) -> list[str]:
    return difflib.get_close_matches(word, (known or _known_keys()) - {word}, n=1)


def _meant(word: str, known: set[str]) -> str:
    near = _near(word, known)
    return f"; did you mean {near[0]}?" if near else ""


def _told(name: str, path: tuple[int | str, ...], what: str, lines: dict[tuple[int | str, ...], int]) -> str:
    known = path
    while known not in lines:  # a missing key has no line: the one above it has
        known = known[:-1]
    return f"{name}:{lines[known]}: {path_of(path) or 'the file'}: {what}"
