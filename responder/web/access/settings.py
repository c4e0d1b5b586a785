"""Listener, tokens and users."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, HttpUrl, PrivateAttr, SecretStr, field_validator, model_validator

from foundation.configuration.suggestions import meant
from foundation.models import StrictModel
from foundation.secrets import SecretFile, is_reference, secret_of
from responder.web.access.web_config import WebConfig
from responder.web.access.web_config import read as read_web_config

Scope = Literal["alerts", "deploy", "read", "operate", "approve"]
Scopes = Annotated[
    tuple[Scope, ...],
    Field(
        min_length=1,
        description="alerts: send alerts; deploy: report deployments; read: see everything; "
        "operate: report deployments, roll back, stop, close, mark; approve: approve plans",
    ),
]
Limit = Annotated[
    tuple[Annotated[str, Field(pattern=r"^[a-z0-9][-a-z0-9_.]{0,62}$")], ...] | None, Field(default=None, min_length=1)
]
_SHORTEST_TOKEN = 16
_HOST = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9_](?:[-A-Za-z0-9_.]{0,253})))(?::(?P<port>[0-9]{1,5}))?"
)


def split_host(host: str) -> tuple[str, int | None]:
    """The name or address in lower case and the port of a `Host` such as `[::1]:9095`. Raises ValueError."""
    found = _HOST.fullmatch(host)
    port = int(found["port"]) if found and found["port"] else None
    if found is None or (port or 0) > 65535:
        raise ValueError(f"{host!r} is not a name or address with an optional port, such as responder.example:9095")
    if found["v6"]:
        ip = ipaddress.IPv6Address(found["v6"])
        return str(ip.ipv4_mapped or ip), port
    return found["name"].lower().removesuffix("."), port


class Bearer(StrictModel):
    """Scopes and limits of a token or user."""

    scopes: Scopes
    services: Limit = Field(default=None, description="Services that every scope is limited to; default: all")
    environments: Limit = Field(default=None, description="Environments that every scope is limited to; default: all")

    @property
    def limited(self) -> bool:
        """Whether it is limited to some services or environments."""
        return self.services is not None or self.environments is not None

    def unknown_limits(self, services: Collection[tuple[str, str]]) -> Iterator[tuple[tuple[int | str, ...], str]]:
        """Limits that name unknown services or environments."""
        for key, named, known in (
            ("services", self.services, {name for name, _ in services}),
            ("environments", self.environments, {environment for _, environment in services}),
        ):
            for i, name in enumerate(named or ()):
                if name not in known:
                    yield (key, i), f"no {key[:-1]} {name!r} is configured{meant(name, known)}"


class Token(Bearer):
    """A bearer token. Its name is recorded for every action. Two tokens may share a name during a rotation."""

    name: str = Field(min_length=1, description="Name for the record")
    file: SecretFile | None = Field(default=None, description="File with the token, such as a mounted secret")
    token: SecretStr | None = Field(default=None, description="The token itself, such as ${RESPONDER_TOKEN}")
    _secret: str = PrivateAttr(default="")

    @model_validator(mode="after")
    def _read(self) -> Token:
        secret = secret_of(self, "token", file_key="file")
        # An unexpanded reference is reported as one, not for its length.
        if len(secret) < _SHORTEST_TOKEN and not is_reference(secret):
            raise ValueError(f"a token needs at least {_SHORTEST_TOKEN} characters; generate one: openssl rand -hex 32")
        self._secret = secret
        return self

    @property
    def secret(self) -> str:
        return self._secret


class User(Bearer):
    """A user with a password. The name is recorded for every action."""

    name: str = Field(min_length=1, description="Name in `basic_auth_users` of the web configuration file")


class WebSettings(StrictModel):
    """Listener, tokens and users."""

    listen: str = Field(default="127.0.0.1:9095", description="Address and port; loopback only unless tokens are set")
    external_url: HttpUrl | None = Field(
        default=None, description="URL for people, used in links; default: the listen address"
    )
    allowed_hosts: tuple[str, ...] = Field(
        default=(),
        description="Additional host names, such as responder.monitoring.svc or 10.0.0.5:9095; without a port: any. "
        "The listen address and external_url are always allowed",
    )
    tokens: tuple[Token, ...] = Field(
        default=(), description="Bearer tokens; required unless the listen address is a loopback address"
    )
    config_file: Path | None = Field(
        default=None,
        description="Web configuration file of Prometheus: TLS, client certificates, passwords, headers",
    )
    users: tuple[User, ...] = Field(default=(), description="Scopes and limits of users with passwords")
    _served: WebConfig = PrivateAttr(default=WebConfig())

    @field_validator("listen")
    @classmethod
    def _has_a_port(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        if not host or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
            raise ValueError(f"{value!r} is not an address and a port such as 127.0.0.1:9095")
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _are_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            split_host(host)
        return hosts

    @model_validator(mode="after")
    def _with_its_file(self) -> WebSettings:
        if self.config_file is not None:
            self._served = read_web_config(self.config_file)
        return self

    def contradictions(
        self, services: Collection[tuple[str, str]], *, watchdog: bool
    ) -> Iterator[tuple[tuple[int | str, ...], str]]:
        """Mistakes that no token or user can see alone, with their path below `web`."""
        if not self.tokens and not self.users and not self.loopback:
            yield (
                ("tokens",),
                f"{self.listen} can be reached from other hosts: tokens are required; add them, or listen on 127.0.0.1",
            )
        secrets: dict[str, int] = {}
        for i, token in enumerate(self.tokens):
            first = secrets.setdefault(token.secret, i)
            if first != i:
                problem = f"has the same secret as tokens[{first}] ({self.tokens[first].name})"
                yield ("tokens", i), f"{problem}; use a different one: openssl rand -hex 32"
        logins = self._served.basic_auth_users
        for i, user in enumerate(self.users):
            if user.name not in logins:
                yield (
                    ("users", i, "name"),
                    f"{user.name} has no password in basic_auth_users of web.config_file; add it",
                )
            if any(user.name == earlier.name for earlier in self.users[:i]):
                yield ("users", i, "name"), f"duplicate name {user.name}"
        for name in sorted(logins.keys() - {user.name for user in self.users}):
            yield ("config_file",), f"{name} has a password but no scopes; add it to web.users"
        every: list[tuple[str, int, Bearer]] = [
            *(("tokens", i, token) for i, token in enumerate(self.tokens)),
            *(("users", i, user) for i, user in enumerate(self.users)),
        ]
        for key, i, bearer in every:
            yield from (((key, i, *path), wrong) for path, wrong in bearer.unknown_limits(services))
        if watchdog and every and not any("alerts" in bearer.scopes and not bearer.limited for _, _, bearer in every):
            yield ("tokens",), "the watchdog needs a token with scope alerts and without limits; add one"

    @property
    def served(self) -> WebConfig:
        """The content of the web configuration file."""
        return self._served

    @property
    def url(self) -> str:
        """The URL for people."""
        scheme = "https" if self._served.tls_server_config else "http"
        return str(self.external_url or f"{scheme}://{self.listen}").rstrip("/")

    @property
    def host(self) -> str:
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return int(self.listen.rpartition(":")[2])

    @property
    def wildcard(self) -> bool:
        """Whether it listens on every address of the host."""
        try:
            return ipaddress.ip_address(self.host).is_unspecified
        except ValueError:
            return False

    @property
    def loopback(self) -> bool:
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"
