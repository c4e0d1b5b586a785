"""A client can do only what its token allows, and an unauthenticated client learns nothing."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import SecretStr

from responder.web.access.access import ANYONE, Access
from responder.web.access.settings import Token, WebSettings
from tests.responder.examples import sent_body
from tests.responder.web.conftest import SECRETS, ResponderServer

ROUTES = [
    ("POST", "/api/v1/alerts", "alerts"),
    ("POST", "/api/v2/alerts", "alerts"),
    ("GET", "/api/v1/deployments", "read"),
    ("POST", "/api/v1/deployments", "deploy"),
    ("POST", "/api/v1/deployments/flux", "deploy"),
    ("GET", "/api/v1/versions/backend", "read"),
    ("POST", "/api/v1/versions/backend/2.1", "operate"),
    ("GET", "/api/v1/versions/backend/web", "read"),
    ("GET", "/api/v1/clients/keys", "read"),
    ("GET", "/api/v1/clients/backend/web", "read"),
    ("POST", "/api/v1/clients/backend/web", "operate"),
    ("GET", "/api/v1/clients/backend/web/history", "read"),
    ("POST", "/api/v1/rollbacks", "operate"),
    ("GET", "/api/v1/preview", "read"),
    ("POST", "/api/v1/explain", "read"),
    ("GET", "/api/v1/executions", "read"),
    ("GET", "/api/v1/executions/x", "read"),
    ("GET", "/api/v1/executions/x/events", "read"),
    ("GET", "/api/v1/events", "read"),
    ("GET", "/api/v1/executions/x/report", "read"),
    ("GET", "/api/v1/executions/x/plot", "read"),
    ("GET", "/api/v1/report", "read"),
    ("POST", "/api/v1/executions/x/approve", "approve"),
    ("POST", "/api/v1/executions/x/stop", "operate"),
    ("POST", "/api/v1/executions/all/stop", "operate"),
    ("POST", "/api/v1/executions/x/close", "operate"),
    ("GET", "/api/v1/executions/x/evidence", "read"),
    ("GET", "/api/v1/executions/x/evidence/app.log.gz", "read"),
    ("GET", "/api/v1/decisions", "read"),
    ("GET", "/api/v1/status", "read"),
    ("GET", "/metrics", "read"),
    ("POST", "/-/reload", "operate"),
]


OR = {("POST", path): "operate" for path in ("/api/v1/deployments", "/api/v1/deployments/flux")}
"""A second scope that is accepted."""


def bearer(scope: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {SECRETS[scope]}"}


@pytest.mark.parametrize(("method", "path", "scope"), ROUTES)
async def test_a_route_accepts_only_its_scopes(
    guarded_responder: ResponderServer, method: str, path: str, scope: str
) -> None:
    async with guarded_responder.client.request(method, path) as response:
        assert response.status == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert await response.json() == {"error": "a bearer token is required"}
    for other in SECRETS:
        async with guarded_responder.client.request(method, path, headers=bearer(other)) as response:
            if other in (scope, OR.get((method, path))):
                assert response.status not in (401, 403)
            else:
                assert (response.status, await response.json()) == (
                    403,
                    {"error": f"{other}-only lacks scope {scope}"},
                )


async def test_unauthenticated_requests_are_counted_and_do_not_fill_the_log(
    guarded_responder: ResponderServer, caplog: pytest.LogCaptureFixture
) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong-token-wrong-token"}):
        for _ in range(50):
            async with guarded_responder.client.get("/api/v1/status", headers=headers) as response:
                assert response.status == 401
    async with guarded_responder.client.get("/metrics", headers=bearer("read")) as response:
        assert 'responder_http_requests_refused_total{cause="unauthenticated"} 100.0' in await response.text()
    warnings = [record.fields for record in caplog.records if record.message == "request denied"]  # type: ignore[attr-defined]
    assert [(fields["path"], fields["reason"]) for fields in warnings] == [
        ("/api/v1/status", "a bearer token is required")
    ]


@pytest.mark.parametrize("path", ["/-/healthy", "/-/ready"])
async def test_health_probes_need_no_token(guarded_responder: ResponderServer, path: str) -> None:
    async with guarded_responder.client.get(path) as response:
        assert response.status in (200, 503)


async def test_every_route_is_in_the_table_above(guarded_responder: ResponderServer) -> None:
    found = {
        (route.method, str(route.resource.canonical))
        for route in guarded_responder.client.app.router.routes()
        if route.method != "HEAD" and route.resource
    }
    known = {(m, p.replace("/x/", "/{id}/").replace("/executions/x", "/executions/{id}")) for m, p, _ in ROUTES}
    known = {(m, p.replace("/all/", "/{id}/").replace("versions/backend", "versions/{service}")) for m, p in known}
    known = {(m, p.replace("/2.1", "/{version}").replace("/app.log.gz", "/{name}")) for m, p in known}
    known = {(m, p.replace("/web", "/{platform}")) for m, p in known}
    known = {(m, p.replace("clients/backend", "clients/{service}")) for m, p in known}
    documents = ("/runbooks", "/runbooks/", "/runbooks/{alert}", "/docs/{page}", "/docs/{folder}/{page}")
    open_to_all = {("GET", path) for path in ("/-/healthy", "/-/ready", *documents)}
    by_a_signed_link = {(m, path) for m in ("GET", "POST") for path in ("/approve/{id}", "/stop/{id}")}
    assert found == known | open_to_all | by_a_signed_link


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong-token-wrong-token",
        f"Basic {SECRETS['alerts']}",
        SECRETS["alerts"],
        f"Bearer {SECRETS['alerts']}x",
        f"Bearer {SECRETS['alerts'][:-1]}",
        f"Bearer {SECRETS['alerts'].upper()}",
        f"Bearer {SECRETS['alerts']} {SECRETS['read']}",
    ],
)
async def test_an_unknown_token_is_a_401(guarded_responder: ResponderServer, header: str) -> None:
    status, _ = await guarded_responder.post("/api/v1/alerts", sent_body(), headers={"Authorization": header})
    assert status == 401


@pytest.mark.parametrize("header", ["bearer {}", "BEARER {}", "Bearer  {} "])
async def test_the_scheme_is_case_insensitive(guarded_responder: ResponderServer, header: str) -> None:
    headers = {"Authorization": header.format(SECRETS["read"])}
    assert (await guarded_responder.get("/api/v1/executions", headers=headers))[0] == 200


async def raw(responder: ResponderServer, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(responder.client.host, responder.client.port)
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(4000), 60)
    writer.close()
    await writer.wait_closed()
    return answer


async def test_an_unauthenticated_request_is_rejected_before_its_body_is_read(
    guarded_responder: ResponderServer,
) -> None:
    head = (
        b"POST /api/v1/alerts HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 999999\r\n\r\n{"
    )
    assert (await raw(guarded_responder, head)).startswith(b"HTTP/1.1 401")


async def test_a_token_that_is_not_text_is_also_a_401(guarded_responder: ResponderServer) -> None:
    head = b"GET /api/v1/status HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\xfe\xe4\r\n\r\n"
    assert (await raw(guarded_responder, head)).startswith(b"HTTP/1.1 401")


async def test_without_tokens_every_local_user_may_do_everything(responder: ResponderServer) -> None:
    assert (await responder.get("/api/v1/status"))[0] == 200
    _, body = await responder.post("/api/v1/executions/all/stop", {"reason": "x", "by": "alice"})
    assert body["by"] == "alice", "they may give a name"
    _, body = await responder.post("/api/v1/executions/all/stop", {"reason": "x"})
    assert body["by"] == ANYONE.name


async def test_with_tokens_nobody_can_claim_another_name(guarded_responder: ResponderServer) -> None:
    payload = {"reason": "x", "by": "the boss"}
    _, body = await guarded_responder.post("/api/v1/executions/all/stop", payload, headers=bearer("operate"))
    assert body["by"] == "operate-only"


def token(name: str, secret: str) -> Token:
    return Token(name=name, scopes=("read",), token=SecretStr(secret))


class _Asking:
    def __init__(self, secret: str) -> None:
        self.headers = {"Authorization": f"Bearer {secret}"}


def test_two_tokens_with_one_name_allow_rotation_without_a_gap() -> None:
    access = Access(WebSettings(tokens=(token("am", "the-old-secret-of-am"), token("am", "the-new-secret-of-am"))))
    for secret in ("the-old-secret-of-am", "the-new-secret-of-am"):
        who = access.who(_Asking(secret))  # type: ignore[arg-type]
        assert who is not None
        assert who.name == "am"
    assert access.who(_Asking("the-next-secret-of-am")) is None  # type: ignore[arg-type]


async def test_a_bug_is_a_500_without_internals(responder: ResponderServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("postgresql://user:hunter2@db/state")

    monkeypatch.setattr(responder.journal, "read", broken)
    status, body = await responder.get("/api/v1/executions")
    assert status == 500
    assert "hunter2" not in str(body)
    assert "RuntimeError" in body["error"]


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/api/v1/nope", 404), ("GET", "/api/v1/alerts", 405)])
async def test_an_unknown_path_is_answered_as_json(
    responder: ResponderServer, method: str, path: str, status: int
) -> None:
    async with responder.client.request(method, path) as response:
        assert (response.status, response.content_type) == (status, "application/json")
        assert (await response.json())["error"]
