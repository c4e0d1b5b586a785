"""The web configuration file of Prometheus, for our listener: TLS, client certificates, passwords, headers.

Reference: https://prometheus.io/docs/prometheus/latest/configuration/https/
"""

from __future__ import annotations

import logging
import re
import ssl
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from foundation.configuration.suggestions import meant
from foundation.models import StrictModel
from responder.logging import say

log = logging.getLogger("responder.web")

_AUTH = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_GO_ONLY = frozenset(
    ("cipher_suites", "prefer_server_cipher_suites", "curve_preferences", "cert", "key", "client_ca", "rate_limit")
)
_BCRYPT = re.compile(r"\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}")


class TlsServer(StrictModel):
    """`tls_server_config`. Files are PEM; relative paths start at the web configuration file."""

    cert_file: Path
    key_file: Path
    client_auth_type: Literal["NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"] = "NoClientCert"
    client_ca_file: Path | None = None
    client_allowed_sans: tuple[str, ...] = ()
    min_version: Literal["TLS12", "TLS13"] = "TLS12"
    max_version: Literal["TLS12", "TLS13"] = "TLS13"

    @field_validator("cert_file", "key_file", "client_ca_file")
    @classmethod
    def _beside_the_file(cls, file: Path | None, info: ValidationInfo) -> Path | None:
        return None if file is None else (info.context or Path()) / file

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        verifies = self.client_auth_type != "NoClientCert"
        if verifies and self.client_ca_file is None:
            raise ValueError(f"{self.client_auth_type} needs client_ca_file")
        if not verifies and (self.client_ca_file or self.client_allowed_sans):
            raise ValueError("client_ca_file and client_allowed_sans have no effect with NoClientCert")
        if self.client_allowed_sans and self.client_auth_type != "RequireAndVerifyClientCert":
            raise ValueError("client_allowed_sans needs RequireAndVerifyClientCert")
        if self.min_version > self.max_version:
            raise ValueError(f"min_version {self.min_version} is above max_version {self.max_version}")
        self.context()
        return self

    def context(self) -> ssl.SSLContext:
        """The TLS context of a listener. It picks up renewed certificates without a restart or reload.

        Raises ValueError if the files cannot be used.
        """
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.minimum_version, made.maximum_version = _VERSIONS[self.min_version], _VERSIONS[self.max_version]
        made.set_alpn_protocols(["http/1.1"])
        made.verify_mode = _AUTH[self.client_auth_type]
        if self.client_ca_file is not None:
            try:
                made.load_verify_locations(self.client_ca_file)
            except OSError as e:
                raise ValueError(f"client_ca_file {self.client_ca_file} cannot be used: {_reason(e)}") from None
        used = self._age()
        self._load(made)

        def renewed(connection: object, name: object, context: ssl.SSLContext) -> None:
            # Runs at each handshake, as in Prometheus. A certificate loaded now serves from the next connection on.
            nonlocal used
            if (now := self._age()) == used:
                return
            try:
                self._load(made)
                used = now
                say(log, "certificate renewed", file=str(self.cert_file))
            except ValueError as e:  # partly written: the next connection tries again
                say(log, "certificate not renewed, old one stays in use", level=logging.ERROR, reason=str(e))

        made.sni_callback = renewed
        return made

    def _age(self) -> tuple[int, ...]:
        try:
            return tuple(file.stat().st_mtime_ns for file in (self.cert_file, self.key_file))
        except OSError:
            return ()

    def _load(self, context: ssl.SSLContext) -> None:
        def no_password() -> str:
            raise ValueError(f"key_file {self.key_file} is encrypted")  # otherwise OpenSSL prompts on the terminal

        try:
            context.load_cert_chain(self.cert_file, self.key_file, no_password)
        except OSError as e:
            raise ValueError(
                f"cert_file {self.cert_file} and key_file {self.key_file} cannot be used: {_reason(e)}"
            ) from None


class HttpServer(StrictModel):
    """`http_server_config`. The listener uses HTTP/1.1, whatever `http2` says."""

    http2: bool = True
    headers: dict[
        Literal[
            "Strict-Transport-Security",
            "X-Frame-Options",
            "X-Content-Type-Options",
            "X-XSS-Protection",
            "Content-Security-Policy",
        ],
        str,
    ] = Field(default_factory=dict)


class WebConfig(StrictModel):
    """The whole file. An empty one changes nothing."""

    tls_server_config: TlsServer | None = None
    http_server_config: HttpServer = HttpServer()
    basic_auth_users: dict[str, str] = Field(default_factory=dict, repr=False)

    @field_validator("basic_auth_users")
    @classmethod
    def _are_hashes(cls, users: dict[str, str]) -> dict[str, str]:
        # Omits the value: it may be a password in the wrong place.
        for name, hashed in users.items():
            if ":" in name:
                raise ValueError(f"{name!r} contains a colon, which basic authentication does not allow")
            if not _BCRYPT.fullmatch(hashed):
                raise ValueError(f"{name} needs a bcrypt hash ($2y$10$…; generate one: htpasswd -nBC 10 {name})")
        return users


def read(file: Path) -> WebConfig:
    """The content of the file. Raises ValueError with every mistake and its path."""
    try:
        data = yaml.safe_load(file.read_text())
    except OSError as e:
        raise ValueError(f"{file} cannot be read: {e.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise ValueError(f"{file} is not valid YAML") from None
    if data is not None and not isinstance(data, dict):
        raise ValueError(f"{file} must be a mapping with tls_server_config, http_server_config and basic_auth_users")
    try:
        return WebConfig.model_validate(data or {}, context=file.parent)
    except ValidationError as e:
        found = e.errors(include_url=False, include_input=False)
        raise ValueError("; ".join(f"{file}: {_message(error)}" for error in found)) from None


def _message(error: Any) -> str:
    path = ".".join(str(part) for part in error["loc"] if part != "[key]")
    key = str(error["loc"][-1]) if error["loc"] else ""
    match error["type"]:
        case "extra_forbidden" if key in _GO_ONLY:
            return f"{path}: not supported here"
        case "extra_forbidden":
            return f"{path}: unknown key{meant(key, _keys())}"
        case "missing":
            return f"{path}: is missing"
        case "value_error":
            return f"{path}: {error['ctx']['error']}"
    return f"{path}: {error['msg'][0].lower()}{error['msg'][1:]}"


def _keys() -> Collection[str]:
    return {*TlsServer.model_fields, *HttpServer.model_fields, *WebConfig.model_fields}


def _reason(e: OSError) -> str:
    return str((isinstance(e, ssl.SSLError) and e.reason) or e.strerror or e).lower().replace("_", " ")
