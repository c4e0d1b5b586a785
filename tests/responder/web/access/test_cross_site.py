"""Requests that a foreign web page makes a browser send change and read nothing, with and without tokens."""

from __future__ import annotations

import re
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from multidict import CIMultiDict
from pydantic import SecretStr

from responder.web.access.access import Access
from responder.web.access.boundary import Boundary
from responder.web.access.cross_site import SAFE, OwnHosts
from responder.web.access.settings import Token, WebSettings
from responder.web.http.routes import post
from tests.responder.web.conftest import ResponderServer

PROBES = {"/-/healthy", "/-/ready", "/metrics"}
JSON = {"Content-Type": "application/json"}


def routes_of(responder: ResponderServer) -> list[tuple[str, str]]:
    """Method and path of every route of the application."""
    return [
        (route.method, re.sub("{[a-z]+}", "x", route.resource.canonical))
        for route in responder.client.app.router.routes()
        if route.resource
    ]


def all_scopes(responder: ResponderServer) -> dict[str, str]:
    """A token with all scopes, if tokens are configured: no denial below is due to a missing token."""
    return {"Authorization": "Bearer token-that-may-all"} if responder.settings.tokens else {}


@pytest.fixture(params=["no tokens", "tokens"])
async def any_responder(request: Any, make_responder: Any) -> ResponderServer:
    scopes = ("alerts", "read", "operate", "approve")
    token = Token(name="all", scopes=scopes, token=SecretStr("token-that-may-all"))
    made: ResponderServer = await make_responder(*([token] if request.param == "tokens" else []))
    return made


FOREIGN: list[tuple[str, dict[str, str], int]] = [
    ("another site", {**JSON, "Origin": "https://evil.example"}, 403),
    ("no origin", {**JSON, "Origin": "null"}, 403),
    ("no URL", {**JSON, "Origin": "evil"}, 403),
    ("another port", {**JSON, "Origin": "http://{name}:1"}, 403),
    ("another scheme", {**JSON, "Origin": "ftp://{host}"}, 403),
    ("a user in front", {**JSON, "Origin": "http://{host}@evil.example"}, 403),
    ("a longer name", {**JSON, "Origin": "http://{name}.evil.example:{port}"}, 403),
    ("cross-site", {**JSON, "Sec-Fetch-Site": "cross-site"}, 403),
    ("same site, another port", {**JSON, "Sec-Fetch-Site": "same-site"}, 403),
    ("cross-site, own origin", {**JSON, "Sec-Fetch-Site": "cross-site", "Origin": "http://{host}"}, 403),
    ("rebinding", {**JSON, "Host": "evil.example:{port}", "Origin": "http://evil.example:{port}"}, 403),
    ("rebinding, no origin", {**JSON, "Host": "evil.example:{port}"}, 403),
    ("our name, another port", {**JSON, "Host": "{name}:1"}, 403),
    ("a host that is none", {**JSON, "Host": "a b"}, 403),
    ("an empty host", {**JSON, "Host": ""}, 403),
    ("text", {"Content-Type": "text/plain"}, 415),
    ("text that mentions JSON", {"Content-Type": "text/plain; application/json"}, 415),
    ("multipart", {"Content-Type": "multipart/form-data; boundary=x"}, 415),
    ("nothing said", {}, 415),
]


def filled(responder: ResponderServer, headers: dict[str, str]) -> dict[str, str]:
    name, port = responder.client.host, responder.client.port
    fields = {"name": name, "port": port, "host": f"{name}:{port}"}
    return {key: value.format(**fields) for key, value in headers.items()}


@pytest.mark.parametrize(("what", "headers", "status"), FOREIGN, ids=[what for what, _, _ in FOREIGN])
async def test_no_route_changes_anything_for_a_foreign_page(
    any_responder: ResponderServer, what: str, headers: dict[str, str], status: int
) -> None:
    changing = [(method, path) for method, path in routes_of(any_responder) if method not in SAFE]
    assert len(changing) > 10
    for method, path in changing:
        sent = {**filled(any_responder, headers), **all_scopes(any_responder)}
        async with any_responder.client.request(
            method, path, data=b"{}", headers=sent, skip_auto_headers=JSON
        ) as answer:
            assert (answer.status, (await answer.json())["error"] != "") == (status, True), path
            assert "Access-Control-Allow-Origin" not in answer.headers


async def test_only_the_signed_pages_accept_a_form(any_responder: ResponderServer) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for method, path in routes_of(any_responder):
        if method in SAFE:
            continue
        headers = {**form, **all_scopes(any_responder)}
        async with any_responder.client.request(method, path, data=b"name=x", headers=headers) as answer:
            signed = path in ("/approve/x", "/stop/x")
            assert (answer.status == 415) is not signed, path
            assert not signed or answer.status == 409, "the link is not valid"


async def test_no_preflight_is_answered_with_a_permission(any_responder: ResponderServer) -> None:
    for _, path in routes_of(any_responder):
        sent = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
        async with any_responder.client.request("OPTIONS", path, headers=sent) as answer:
            assert answer.status in (403, 405), path
            assert "Access-Control-Allow-Origin" not in answer.headers


async def test_dns_rebinding_reads_no_data_but_probes_may_use_any_host(
    any_responder: ResponderServer,
) -> None:
    for method, path in routes_of(any_responder):
        if method not in SAFE:
            continue
        headers = {"Host": "10.244.1.7:8080", **all_scopes(any_responder)}
        async with any_responder.client.request(method, path, headers=headers) as answer:
            if path in PROBES:
                assert answer.status in (200, 503), path
            else:
                assert answer.status == 403, path
                assert method == "HEAD" or "web.allowed_hosts" in (await answer.json())["error"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://{host}"},
        {"Origin": "https://{host}"},  # a proxy in front of us ends TLS
        {"Sec-Fetch-Site": "same-origin", "Origin": "http://{host}"},
        {"Sec-Fetch-Site": "none"},
        {"Host": "localhost:{port}"},
        {"Host": "LOCALHOST.:{port}", "Origin": "http://localhost:{port}"},
        {"Host": "[::1]:{port}", "Origin": "http://[::1]:{port}"},
        {"X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example"},  # ignored
    ],
    ids=str,
)
async def test_own_pages_and_programs_are_allowed(any_responder: ResponderServer, headers: dict[str, str]) -> None:
    sent = {**JSON, **filled(any_responder, headers), **all_scopes(any_responder)}
    status, body = await any_responder.post("/api/v1/executions/all/stop", {"reason": "x"}, headers=sent)
    assert (status, body["stopped"]) == (202, "all")


async def test_a_forwarded_host_does_not_make_a_foreign_one_known(responder: ResponderServer) -> None:
    name = f"{responder.client.host}:{responder.client.port}"
    sent = {**JSON, "Host": "evil.example", "X-Forwarded-Host": name, "Forwarded": f"host={name}"}
    assert (await responder.post("/api/v1/executions/all/stop", {"reason": "x"}, headers=sent))[0] == 403


async def test_every_denied_request_is_counted_and_logged_once_a_minute(
    responder: ResponderServer, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(50):
        await responder.post("/api/v1/alerts", b"{}", headers={**JSON, "Host": "responder:9095"})
        await responder.post("/-/reload", b"{}", headers={**JSON, "Origin": "null"})
        await responder.post("/-/reload", b"{}", headers={"Content-Type": "text/plain"})
    series = await responder.series()
    for cause in ("host", "origin", "content_type"):
        assert f'responder_http_requests_refused_total{{cause="{cause}"}} 50.0' in series
    assert 'responder_webhooks_total{outcome="invalid"} 50.0' in series, "denied alerts are also counted"
    warnings = [record.fields for record in caplog.records if record.message == "request denied"]  # type: ignore[attr-defined]
    assert len(warnings) == 3
    assert "'responder:9095'" in warnings[0]["reason"]
    assert "web.allowed_hosts" in warnings[0]["reason"]


class Request:
    """The headers that the rules check."""

    def __init__(self, host: str, origin: str = "", local: Any = ("10.0.0.5", 9095), secure: bool = False) -> None:
        self.headers = CIMultiDict({"Host": host, **({"Origin": origin} if origin else {})})
        self.local, self.secure = local, secure

    def get_extra_info(self, name: str) -> Any:
        return self.local if name == "sockname" else None


def refused(settings: dict[str, Any], *args: Any, **how: Any) -> bool:
    web_settings = WebSettings.model_validate(settings)
    return OwnHosts(web_settings).refusal_of_change(Request(*args, **how)) is not None  # type: ignore[arg-type]


ALL = {"listen": "0.0.0.0:9095"}
URL = {**ALL, "external_url": "https://rollbacks.example/"}


@pytest.mark.parametrize(
    ("settings", "host", "known"),
    [
        ({}, "127.0.0.1:9095", True),
        ({}, "localhost:9095", True),
        ({}, "[::1]:9095", True),
        ({}, "[0:0:0:0:0:0:0:1]:9095", True),
        ({}, "[::ffff:127.0.0.1]:9095", True),
        ({}, "[::ffff:127.0.0.2]:9095", False),
        ({}, "localhost", False),
        ({}, "localhost:9096", False),
        ({}, "127.0.0.2:9095", False),
        ({}, "localhost.evil.example:9095", False),
        ({"listen": "localhost:9095"}, "127.0.0.1:9095", True),
        ({"listen": "127.0.0.1:80"}, "localhost", True),
        (ALL, "0.0.0.0:9095", True),
        (ALL, "localhost:9095", True),
        (ALL, "10.0.0.5:9095", True),  # the address of the connection
        (ALL, "10.0.0.6:9095", False),
        (ALL, "10.0.0.5:80", False),
        (ALL, "responder:9095", False),
        ({**ALL, "allowed_hosts": ["responder"]}, "responder:9095", True),
        ({**ALL, "allowed_hosts": ["responder"]}, "responder", True),
        ({**ALL, "allowed_hosts": ["Responder"]}, "RESPONDER.:80", True),
        ({**ALL, "allowed_hosts": ["responder"]}, "responder.evil.example:9095", False),
        ({**ALL, "allowed_hosts": ["responder"]}, "xresponder:9095", False),
        ({**ALL, "allowed_hosts": ["responder:9095"]}, "responder:9095", True),
        ({**ALL, "allowed_hosts": ["responder:9095"]}, "responder:9096", False),
        ({**ALL, "allowed_hosts": ["responder:80"]}, "responder", True),
        ({**ALL, "allowed_hosts": ["10.0.0.9"]}, "10.0.0.9:31095", True),
        ({**ALL, "allowed_hosts": ["[fd00::0:1]:9095"]}, "[fd00::1]:9095", True),
        (URL, "rollbacks.example", True),
        (URL, "rollbacks.example:443", True),
        (URL, "rollbacks.example:8443", False),
        ({**ALL, "external_url": "http://rollbacks.example:8080"}, "rollbacks.example:8080", True),
        ({**ALL, "external_url": "http://rollbacks.example:8080"}, "rollbacks.example", False),
    ],
)
def test_the_known_hosts(settings: dict[str, Any], host: str, known: bool) -> None:
    tokens = [{"name": "am", "scopes": ["alerts"], "token": "x" * 16}]
    assert refused({"tokens": tokens, **settings}, host) is not known


def test_an_ipv4_address_over_ipv6_is_the_same_address() -> None:
    assert not refused({"listen": "[::]:9095"}, "10.0.0.5:9095", local=("::ffff:10.0.0.5", 9095, 0, 0))
    assert not refused({"listen": "[::]:9095"}, "[fd00::5]:9095", local=("fd00::5", 9095, 0, 0))


@pytest.mark.parametrize(
    ("settings", "host", "origin", "secure", "own"),
    [
        (URL, "responder:9095", "https://rollbacks.example", False, True),  # a proxy that sets its own Host
        (URL, "rollbacks.example", "https://rollbacks.example", False, True),
        (URL, "rollbacks.example", "https://rollbacks.example:443", False, True),
        (URL, "rollbacks.example", "http://rollbacks.example", False, False),
        (URL, "rollbacks.example", "https://rollbacks.example:8443", False, False),
        (URL, "rollbacks.example", "https://evil.example", False, False),
        (URL, "responder:9095", "https://responder:9095", False, True),
        (URL, "responder:9095", "http://responder:9095", True, False),  # the responder uses https
        (URL, "responder:9095", "http://responder:3000", False, False),
        (URL, "responder:9095", "null", False, False),
    ],
)
def test_the_allowed_origins(settings: dict[str, Any], host: str, origin: str, secure: bool, own: bool) -> None:
    assert refused({**settings, "allowed_hosts": ["responder"]}, host, origin, secure=secure) is not own


@pytest.mark.parametrize("host", ["*", "http://responder:9095", "responder:99999", "a/b", "", "a b", "fd00::1"])
def test_an_invalid_host_is_rejected_in_the_configuration(host: str) -> None:
    with pytest.raises(ValueError, match="is not a name or address with an optional port"):
        WebSettings(allowed_hosts=(host,))


async def test_an_undeclared_route_is_behind_the_same_boundary() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(text="done")

    boundary = Boundary(lambda: Access(WebSettings()), [post("/known", None, handler)])
    app = web.Application(middlewares=[boundary.middleware])
    for path in ("/known", "/not-in-the-table"):
        app.router.add_route("*", path, handler)
    async with TestClient(TestServer(app)) as client:
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            for path in ("/known", "/not-in-the-table", "/nowhere"):
                async with client.request(method, path, headers={**JSON, "Origin": "https://evil.example"}) as answer:
                    assert answer.status == 403, (method, path)
        for path, status in (("/known", 200), ("/not-in-the-table", 500), ("/nowhere", 404)):
            async with client.post(path, headers=JSON) as answer:
                assert answer.status == status


async def test_a_reload_without_a_body_is_protected_as_well(any_responder: ResponderServer) -> None:
    """As sent by sidecars that watch a ConfigMap."""
    empty = all_scopes(any_responder)
    for more, status in (({}, 200), ({"Origin": "https://evil.example"}, 403), ({"Content-Type": "text/plain"}, 415)):
        async with any_responder.client.post("/-/reload", headers={**empty, **more}) as answer:
            assert answer.status == status, more
    async with any_responder.client.post("/api/v1/executions/all/stop", headers=empty) as answer:
        assert answer.status == 415
