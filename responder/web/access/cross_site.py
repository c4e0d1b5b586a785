"""Denies requests that a foreign web page can make a browser send: unknown Host, foreign Origin, form and text bodies.

Browsers let any page send "simple" requests to any address, and DNS rebinding lets a page read the answers as well.
Tokens do not help if a browser adds a password by itself, or if no tokens are configured. The rules, and why they
suffice: docs/decisions/0033-cross-site-requests.md.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from aiohttp import web

from responder.web.access.settings import WebSettings, split_host

Body = Literal["json", "form", "none"]
"""The body of a request; `none` is JSON or nothing."""

Cause = Literal["host", "origin", "content_type"]

SAFE = frozenset(("GET", "HEAD", "OPTIONS"))
"""Methods that change nothing."""

_JSON, _FORM = "application/json", "application/x-www-form-urlencoded"
_UNNAMED = "application/octet-stream"  # the same as no content type; some clients send it
_DEFAULT_PORTS = {"http": 80, "https": 443}
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Refusal:
    """Why a request is denied, and the status of the answer."""

    cause: Cause
    message: str
    status: int = 403


class OwnHosts:
    """The names and ports of this responder. Any other `Host` is foreign."""

    def __init__(self, settings: WebSettings) -> None:
        self._any_port: set[str] = set()
        self._external = origin_of(str(settings.external_url)) if settings.external_url else None
        own = [(_plain(settings.host), settings.port)]
        if settings.loopback or settings.wildcard:
            own += [(name, settings.port) for name in _LOOPBACK]
        if self._external:
            own.append(self._external[1:])
        for host in settings.allowed_hosts:
            name, port = split_host(host)
            if port is None:
                self._any_port.add(name)
            else:
                own.append((name, port))
        self._known = {form for name, port in own for form in _forms(name, port)}

    def refusal(self, request: web.Request) -> Refusal | None:
        """Why the Host of a reading request is foreign, or None."""
        hosts = request.headers.getall("Host", [])
        if len(hosts) == 1 and self._knows(hosts[0], request.get_extra_info("sockname")):
            return None
        shown = ", ".join(hosts)[:100]
        return Refusal(
            "host",
            f"Host {shown!r} is not a known address of this responder: add it to web.allowed_hosts, or set "
            "web.external_url",
        )

    def refusal_of_change(self, request: web.Request) -> Refusal | None:
        """Why a changing request comes from a foreign web page, or None."""
        if foreign := self.refusal(request):
            return foreign
        sites = request.headers.getall("Sec-Fetch-Site", [])
        if any(site.lower() not in ("same-origin", "none") for site in sites):
            return Refusal("origin", f"a web page of another site sent this (Sec-Fetch-Site: {', '.join(sites)[:100]})")
        origins = request.headers.getall("Origin", [])
        if origins and not (len(origins) == 1 and self._is_own(origins[0], request)):
            return Refusal(
                "origin",
                f"Origin {', '.join(origins)[:100]!r} is not this responder: where a proxy is in front, set "
                "web.external_url to the address that browsers use",
            )
        return None

    def _knows(self, host: str, local: Any) -> bool:
        try:
            name, port = split_host(host)
        except ValueError:
            return False
        if name in self._any_port or (name, port) in self._known:
            return True
        # An address of this host, such as curl and Prometheus use. A foreign page cannot have it as its own Host.
        return isinstance(local, tuple) and (name, port) in _local_forms(*local[:2])

    def _is_own(self, origin: str, request: web.Request) -> bool:
        try:
            parsed = origin_of(origin)
        except ValueError:  # null among others
            return False
        if parsed == self._external:
            return True
        scheme, name, port = parsed
        host, host_port = split_host(request.headers["Host"])
        if (name, port) != (host, host_port or _DEFAULT_PORTS[scheme]):
            return False
        # If external_url is https, a page served over http may have been modified.
        by_tls = request.secure or (self._external is not None and self._external[:2] == ("https", name))
        return scheme == "https" or not by_tls


def wrong_content_type(request: web.Request, body: Body) -> Refusal | None:
    """Why the content type is denied, or None. Browsers send forms and text to any site, but JSON only if allowed."""
    expected = _FORM if body == "form" else _JSON
    if body == "none" and not request.body_exists and request.content_type == _UNNAMED:
        return None
    if request.content_type == expected and len(request.headers.getall("Content-Type", [])) == 1:
        return None
    sent = request.headers.get("Content-Type", "")[:100]
    return Refusal("content_type", f"Content-Type must be {expected}, not {sent or 'missing'}", status=415)


def origin_of(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of an origin. Raises ValueError if it lacks one, such as the origin `null`."""
    parts = urlsplit(url)
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise ValueError(f"{url!r} is not an origin")
    name, port = split_host(parts.netloc.rpartition("@")[2])
    return parts.scheme, name, port or _DEFAULT_PORTS[parts.scheme]


def _forms(name: str, port: int) -> set[tuple[str, int | None]]:
    """With the port, and also without it if it is a default port."""
    return {(name, port), (name, None)} if port in _DEFAULT_PORTS.values() else {(name, port)}


def _local_forms(address: str, port: int) -> set[tuple[str, int | None]]:
    name = _plain(address)
    names = _LOOPBACK if name in _LOOPBACK else (name,)
    return {form for name in names for form in _forms(name, port)}


def _plain(address: str) -> str:
    """As `split_host` returns it; an IPv4-mapped IPv6 address becomes IPv4."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address.lower()
    return str((ip.version == 6 and ip.ipv4_mapped) or ip)
