"""Renders the files of a setup."""

from __future__ import annotations

import re
import secrets
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from responder import assets
from responder.app.setup.channels import channel_of
from responder.app.setup.found import FoundService
from responder.app.setup.host import unit_of

Where = Literal["host", "compose", "kubernetes"]

TOKENS = {
    "alertmanager": "ALERTS_TOKEN",
    "prometheus": "SCRAPE_TOKEN",
    "deploy": "DEPLOY_TOKEN",
    "operator": "OPERATOR_TOKEN",
}
"""Each token, and its key in the Secret of the Helm chart."""
SECRETS = "tokens/"
"""The directory of the files that only the user of the responder can read."""

IMAGES = "images/images.yaml"
"""The Compose file that keeps the good images."""

_RULES = "alert_rules/"
_ADDRESSES: dict[Where, dict[str, str]] = {
    "host": {
        "prometheus": "http://localhost:9090",
        "alertmanager": "http://localhost:9093",
        "responder": "127.0.0.1:9095",
        "exporters": "127.0.0.1:9469",
        "alertmanager_token": "/etc/alertmanager/responder.token",
        "prometheus_token": "/etc/prometheus/responder.token",
    },
    "compose": {
        "prometheus": "http://prometheus:9090",
        "alertmanager": "http://alertmanager:9093",
        "responder": "responder:9095",
        "exporters": "exporters:9469",
        "alertmanager_token": "/run/responder.token",
        "prometheus_token": "/run/responder.token",
    },
    "kubernetes": {  # the Services of the Prometheus Operator
        "prometheus": "http://prometheus-operated.monitoring:9090",
        "alertmanager": "http://alertmanager-operated.monitoring:9093",
    },
}
"""Where the programs find each other."""


@dataclass(frozen=True)
class Setup:
    """The answers that the files are made from. `project`: that of Docker Compose, or the namespace in Kubernetes."""

    where: Where
    directory: Path
    environment: str
    services: tuple[FoundService, ...]
    channel: str = "console"
    mode: str = "observe"
    user: str = ""
    project: str = ""
    compose_file: str = ""
    state: str = "/var/lib/responder/state.db"

    def files(self) -> dict[str, str]:
        """Every file by its name, with new secrets. Raises Invalid."""
        return dict(self._files())

    def _files(self) -> Iterator[tuple[str, str]]:
        tokens = f"{self.directory}/tokens"
        channel = channel_of(self.channel, tokens, secrets.token_hex(32))
        values = self._values(tokens) | {"channels": {channel.kind: channel.settings}}
        for name in TOKENS:
            yield f"{SECRETS}{name}.token", f"{secrets.token_hex(32)}\n"
        for name, text in channel.secrets.items():
            yield f"{SECRETS}{name}", f"{text}\n"
        if self.where == "kubernetes":
            yield "values.yaml", _rendered("values.yaml", values)
        else:
            yield "responder.yml", _rendered("responder.yml", values)
            yield "exporters.yml", _rendered("exporters.yml", values)
            yield "alertmanager/alertmanager.yml", _rendered("alertmanager.yml", values)
            yield from self._prometheus(values)
            yield from self._programs(values)
        yield "next-steps.md", _rendered("next-steps.md", values)

    def _values(self, tokens: str) -> dict[str, Any]:
        releases = [s.rollback["release"] for s in self.services if "release" in s.rollback]
        return {
            **{name: getattr(self, name) for name in self.__dataclass_fields__},
            **_ADDRESSES[self.where],
            "checks": [self._check(service) for service in self.services if service.health_url],
            "tokens": tokens,
            "secrets": TOKENS,
            "bin": Path(sys.executable).parent,
            "version": version("rollback-responder"),
            "roots": [release["root"] for release in releases],
            "units": [unit for release in releases if (unit := unit_of(release["restart"]))],
        }

    def _check(self, service: FoundService) -> dict[str, str]:
        """The check of the exporters."""
        where = {"service": service.name, "environment": self.environment}
        return {"id": f"{service.name}_health", "type": "http_response", "url": service.health_url, **where}

    def _prometheus(self, values: dict[str, Any]) -> Iterator[tuple[str, str]]:
        """The shipped rules and the shipped example of Prometheus with the addresses of this setup."""
        addresses = {"127.0.0.1:9469": values["exporters"], "127.0.0.1:9095": values["responder"]}
        addresses["/etc/prometheus/responder.token"] = values["prometheus_token"]
        addresses["127.0.0.1:9093"] = urlsplit(values["alertmanager"]).netloc
        for name, path in assets.files():
            if name.startswith(_RULES) and "/" not in name.removeprefix(_RULES):
                text = path.read_text()
                if name.endswith("prometheus.example.yml"):
                    yield "prometheus/prometheus.yml", _replaced(text, addresses)
                elif name.endswith(".yml") and not name.endswith(".example.yml"):
                    yield f"prometheus/{path.name}", text

    def _programs(self, values: dict[str, Any]) -> Iterator[tuple[str, str]]:
        """How the programs are started."""
        if self.where == "compose":
            yield "compose.yaml", _rendered("compose.yaml", values)
            yield IMAGES, "services: {}\n"
            return
        for name, path in assets.files():
            if name.startswith("systemd/"):
                yield name, path.read_text()
        for unit in ("responder.service", "exporters.service"):
            yield f"systemd/{unit}.d/setup.conf", _rendered(f"{unit}.conf", values)
        if values["units"]:
            yield "50-responder.rules", _rendered("polkit.rules", values)


def _replaced(text: str, replacements: dict[str, str]) -> str:
    return re.sub("|".join(map(re.escape, replacements)), lambda found: replacements[found[0]], text)


def _rendered(name: str, values: dict[str, Any]) -> str:
    return _templates().get_template(f"{name}.j2").render(values)


@cache
def _templates() -> Environment:
    # YAML and Markdown: values are written as YAML by `flow`, and HTML is not involved.
    made = Environment(  # noqa: S701
        loader=PackageLoader("responder.app.setup"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True,
    )  # fmt: skip
    made.filters["flow"] = _flow
    return made


def _flow(value: Any) -> str:
    """The value on one line of YAML."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1 << 20, allow_unicode=True)
    return text.removesuffix("...\n").strip()
