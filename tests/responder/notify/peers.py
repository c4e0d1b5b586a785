"""Peers on real sockets: Slack, GitHub, Grafana and any webhook, each by its documented contract;
and an SMTP server with TLS. Each can fail, hang, and send Retry-After."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import itertools
import json
import ssl
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

TOKEN = "a-token-that-must-never-show"


class Peer:
    """A server over HTTP. `trouble`: the first answers; "hang" never answers, "late" answers after acting."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, Any]] = []
        self.trouble: list[str | web.Response] = []
        self.url = ""
        self._over = asyncio.Event()

    @asynccontextmanager
    async def up(self) -> AsyncIterator[Any]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        async with TestServer(app) as server:
            self.url = str(server.make_url("")).rstrip("/")
            try:
                yield self
            finally:
                self._over.set()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        body = json.loads(raw) if raw else None
        self.requests.append((request.method, request.path, body))
        trouble = self.trouble.pop(0) if self.trouble else None
        if isinstance(trouble, web.Response):
            return trouble
        if trouble == "hang":
            await self._over.wait()
        answer = await self.answer(request, raw, body)
        if trouble == "late":
            await self._over.wait()
        return answer

    async def answer(self, request: web.Request, raw: bytes, body: Any) -> web.StreamResponse:
        raise NotImplementedError

    def did(self, method: str, path: str) -> list[Any]:
        return [body for m, p, body in self.requests if (m, p) == (method, path)]


class Sink(Peer):
    """Accepts every request."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[tuple[dict[str, str], bytes]] = []

    async def answer(self, request: web.Request, raw: bytes, body: Any) -> web.StreamResponse:
        self.taken.append((dict(request.headers), raw))
        return web.Response(text="ok")


class Slack(Peer):
    """Answers 200 to everything, with `ok: false` and a reason for a refusal."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: dict[str, dict[str, Any]] = {}
        self.broken = ""
        self._numbers = itertools.count(1)

    async def answer(self, request: web.Request, raw: bytes, body: Any) -> web.StreamResponse:
        if request.path == "/hook/secret-path":
            self.messages[str(next(self._numbers))] = body
            return web.Response(text="ok")
        return web.json_response(self._call(request, body))

    def _call(self, request: web.Request, body: Any) -> dict[str, Any]:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return {"ok": False, "error": "invalid_auth"}
        if self.broken:
            return {"ok": False, "error": self.broken}
        match request.path:
            case "/api/auth.test":
                return {"ok": True, "user": "rollbacks"}
            case "/api/chat.postMessage" if body["channel"] not in ("#ops", "C1"):
                return {"ok": False, "error": "channel_not_found"}
            case "/api/chat.postMessage":
                if body.get("thread_ts") and body["thread_ts"] not in self.messages:
                    return {"ok": False, "error": "thread_not_found"}
                ts = f"1700000000.{next(self._numbers):06}"
                self.messages[ts] = self._checked(body)
                return {"ok": True, "channel": "C1", "ts": ts}
            case "/api/chat.update":
                if body["channel"] != "C1":  # it needs the ID, not the name
                    return {"ok": False, "error": "channel_not_found"}
                if body["ts"] not in self.messages:
                    return {"ok": False, "error": "message_not_found"}
                self.messages[body["ts"]] = self._checked(body)
                return {"ok": True, "channel": "C1", "ts": body["ts"]}
        return {"ok": False, "error": "unknown_method"}

    def _checked(self, body: dict[str, Any]) -> dict[str, Any]:
        assert body["text"], "no_text"
        for block in (b for a in body.get("attachments", ()) for b in a["blocks"]):
            if block["type"] == "section":
                assert 0 < len(block["text"]["text"]) <= 3000, "invalid_blocks"
            if block["type"] == "actions":
                assert all(len(e["text"]["text"]) <= 75 and len(e["url"]) <= 3000 for e in block["elements"])
        return body

    @property
    def threads(self) -> list[dict[str, Any]]:
        return [message for message in self.messages.values() if "thread_ts" not in message]


class Github(Peer):
    """Issues, comments and deployments of shop/backend, whose only tag besides v2.1 is v2.0."""

    def __init__(self) -> None:
        super().__init__()
        self.issues: dict[int, dict[str, Any]] = {}
        self.comments: list[tuple[int, str]] = []
        self.deployments: dict[int, dict[str, Any]] = {}
        self.statuses: list[tuple[int, str]] = []
        self.repository: dict[str, Any] = {"has_issues": True, "permissions": {"push": True}}
        self._numbers = itertools.count(41)

    async def answer(self, request: web.Request, raw: bytes, body: Any) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.json_response({"message": "Bad credentials"}, status=401)
        root, _, rest = request.path.partition("/repos/shop/backend")
        if root != "/api/v3":
            return web.json_response({"message": "Not Found"}, status=404)
        status, answer = self._act(request.method, rest.strip("/").split("/"), request.query, body)
        return web.json_response(answer, status=status)

    def _act(self, method: str, path: list[str], query: Any, body: Any) -> tuple[int, Any]:
        match method, path:
            case _, ["issues", number, *_] if int(number) not in self.issues:
                return 410, {"message": "This issue was deleted"}
            case "GET", [""]:
                return 200, {"full_name": "shop/backend", **self.repository}
            case "GET", ["issues"]:
                assert query["state"] == "all"
                return 200, list(self.issues.values())
            case "POST", ["issues"]:
                number = next(self._numbers)
                self.issues[number] = {"number": number, "state": "open", **body}
                return 201, self.issues[number]
            case "POST", ["issues", number, "labels"]:
                labels = self.issues[int(number)]["labels"]
                labels += [label for label in body["labels"] if label not in labels]
                return 200, labels
            case "PATCH", ["issues", number]:
                self.issues[int(number)] |= body
                return 200, self.issues[int(number)]
            case "GET", ["issues", number, "comments"]:
                return 200, [{"body": text} for n, text in self.comments if n == int(number)]
            case "POST", ["issues", number, "comments"]:
                self.comments.append((int(number), body["body"]))
                return 201, {}
            case _, ["deployments", *_]:
                return self._deploy(method, path, body)
        return 404, {"message": "Not Found"}

    def _deploy(self, method: str, path: list[str], body: Any) -> tuple[int, Any]:
        match method, path:
            case "GET", ["deployments"]:
                return 200, list(self.deployments.values())
            case "POST", ["deployments"]:
                if body["ref"] not in ("v2.0", "v2.1"):
                    return 422, {"message": f"No ref found for: {body['ref']}"}
                self.deployments[7] = {"id": 7, **body}
                return 201, self.deployments[7]
            case "POST", ["deployments", number, "statuses"]:
                self.statuses.append((int(number), body["state"]))
                return 201, {}
        return 404, {"message": "Not Found"}


class Grafana(Peer):
    """Annotations."""

    def __init__(self) -> None:
        super().__init__()
        self.annotations: dict[int, dict[str, Any]] = {}
        self.rights: tuple[str, ...] | None = None  # versions before 9 do not report them

    async def answer(self, request: web.Request, raw: bytes, body: Any) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.json_response({"message": "Invalid API key"}, status=401)
        match request.method, request.path.removeprefix("/grafana/api/").split("/"):
            case "GET", ["org"]:
                return web.json_response({"id": 1})
            case "GET", ["dashboards", "uid", _]:
                return web.json_response({"dashboard": {}})
            case "GET", ["access-control", "user", "permissions"] if self.rights is not None:
                return web.json_response({right: ["*"] for right in self.rights})
            case "GET", ["annotations"]:
                wanted = set(request.query.getall("tags", []))
                return web.json_response([a for a in self.annotations.values() if wanted <= set(a["tags"])])
            case "POST", ["annotations"]:
                number = len(self.annotations) + 1
                self.annotations[number] = {"id": number, **body}
                return web.json_response({"message": "Annotation added", "id": number})
            case "PATCH", ["annotations", number]:
                if int(number) not in self.annotations:
                    return web.json_response({"message": "annotation not found"}, status=404)
                self.annotations[int(number)] |= body
                return web.json_response({"message": "Annotation patched"})
        return web.json_response({"message": "Not found"}, status=404)


def certificate(directory: Path) -> tuple[Path, Path]:
    """A self-signed certificate and key for 127.0.0.1 and localhost."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    names: list[x509.GeneralName] = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = directory / "smtp.crt", directory / "smtp.key"
    cert_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert_file, key_file


class Mail:
    """An SMTP server that accepts mail after a login over TLS. `refuses`: unknown recipients."""

    def __init__(self, security: str, files: tuple[Path, Path]) -> None:
        self.security, self.files = security, files
        self.got: list[tuple[list[str], EmailMessage]] = []
        self.refuses: set[str] = set()
        self.trouble: list[str] = []
        self.hangs_at_the_end = False
        self.port = 0

    @asynccontextmanager
    async def up(self) -> AsyncIterator[Any]:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*self.files)
        starts = self.security == "starttls"

        def server() -> SMTP:
            with warnings.catch_warnings(action="ignore"):  # it does not see the TLS layer
                return made()

        def made() -> SMTP:
            return SMTP(
                self,
                hostname="mail.test",
                tls_context=context if starts else None,
                require_starttls=starts,
                auth_required=True,
                auth_require_tls=starts,
                authenticator=self._authenticate,
            )

        loop = asyncio.get_running_loop()
        listening = await loop.create_server(server, "127.0.0.1", 0, ssl=context if self.security == "tls" else None)
        self.port = listening.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            listening.close()

    def cause(self, trouble: str) -> None:
        """Fails after the next message."""
        self.trouble.append({"error": f"550 rejected for {TOKEN}", "hang": "hang", "lost_response": "late"}[trouble])

    def _authenticate(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        right = isinstance(data, LoginPassword) and (data.login, data.password) == (b"rollbacks", TOKEN.encode())
        return AuthResult(success=right, handled=right)

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:  # noqa: N802
        if address in self.refuses:
            return "550 5.1.1 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_QUIT(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        while self.hangs_at_the_end:
            await asyncio.sleep(0.05)
        return "221 Bye"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        trouble = self.trouble.pop(0) if self.trouble else ""
        if trouble == "hang":
            await asyncio.sleep(60)
        elif trouble and trouble != "late":
            return trouble
        message = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.got.append((list(envelope.rcpt_tos), message))
        if trouble == "late":
            await asyncio.sleep(60)
        return "250 OK"
