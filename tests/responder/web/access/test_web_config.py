"""The web configuration file works as in Prometheus: TLS, client certificates, passwords and headers."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import bcrypt
import pytest
import yaml
from aiohttp import web

from responder.app.loading import parse
from responder.cli.client import trust
from responder.cli.command import TLS_FILES, CommandError
from responder.errors import ConfigError
from responder.web.access import web_config
from responder.web.access.access import WHO, Access
from responder.web.access.settings import WebSettings
from responder.web.http.routes import Handlers, Route, get
from responder.web.http.server import listen, routes
from tests import parts
from tests.certificates import Authority

SERVER = {"cert_file": "server.crt", "key_file": "server.key"}
VERIFIED = {"client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": "test-authority.crt"}
PASSWORD = "correct horse battery staple"
HASHED = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()


class Hello(Handlers):
    """Returns the name of the client."""

    def routes(self) -> Iterable[Route]:
        return (
            get("/hello", "read", self.hello),
            get("/permitted", "read", self.permitted),
            get("/strict", None, self.strict),
        )

    async def hello(self, request: web.Request) -> web.Response:
        return web.Response(text=request[WHO].name)

    async def permitted(self, request: web.Request) -> web.Response:
        return web.Response(text=str(request[WHO].permitted.includes("backend", request.query["environment"])))

    async def strict(self, request: web.Request) -> web.Response:
        return web.Response(headers={"X-Frame-Options": "DENY"})


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority(tmp_path)
    made.issue("server", "127.0.0.1", "localhost")
    return made


def written(directory: Path, **content: Any) -> Path:
    file = directory / "web.yml"
    file.write_text(yaml.safe_dump(content))
    return file


@asynccontextmanager
async def listening(directory: Path, users: Any = (), tokens: Any = (), **content: Any) -> AsyncIterator[str]:
    port = parts.free_port()
    settings = WebSettings.model_validate(
        {
            "listen": f"127.0.0.1:{port}",
            "config_file": str(written(directory, **content)),
            "users": users,
            "tokens": tokens,
        }
    )
    access = Access(settings)
    runner = await listen(routes(lambda: access, [Hello()]), settings)
    try:
        yield settings.url
    finally:
        await runner.cleanup()


async def ask(url: str, **how: Any) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url, **how) as answer:
        return answer.status, await answer.text()


def login(name: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


def trusting(authority: Authority, client: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.ca_file)
    if client:
        context.load_cert_chain(*client)
    return context


# --- The file ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "content",
    [
        {},
        {"tls_server_config": SERVER},
        {"tls_server_config": {**SERVER, **VERIFIED, "min_version": "TLS13"}},
        {"tls_server_config": {**SERVER, **VERIFIED, "client_auth_type": "VerifyClientCertIfGiven"}},
        {"basic_auth_users": {"alice": HASHED}},
        {"http_server_config": {"http2": False, "headers": {"X-Frame-Options": "deny"}}},
    ],
)
def test_a_valid_file_is_valid_for_prometheus(tmp_path: Path, authority: Authority, content: dict[str, Any]) -> None:
    file = written(tmp_path, **content)
    web_config.read(file)
    checked = subprocess.run(
        ["promtool", "check", "web-config", str(file)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


def test_the_documented_file_can_be_used(tmp_path: Path, authority: Authority) -> None:
    page = (Path(__file__).parents[4] / "docs" / "how-to" / "tls.md").read_text()
    authority.ca_file.rename(tmp_path / "clients-ca.crt")
    (text,) = re.findall(r"```yaml\n(tls_server_config.*?)```", page, flags=re.DOTALL)
    (tmp_path / "web.yml").write_text(text)
    assert web_config.read(tmp_path / "web.yml").basic_auth_users.keys() == {"prometheus", "alertmanager"}


@pytest.mark.parametrize(
    ("content", "mistake"),
    [
        ({"tls_server_config": {"cert_file": "server.crt"}}, "tls_server_config.key_file: is missing"),
        (
            {"tls_server_config": {**SERVER, "key_file": "no.key"}},
            r"tls_server_config: cert_file \S+server\.crt and key_file \S+no\.key cannot be used: no such file",
        ),
        (
            {"tls_server_config": {**SERVER, "key_file": "other.key"}},
            r"tls_server_config: cert_file \S+ and key_file \S+other\.key cannot be used: key values mismatch",
        ),
        (
            {"tls_server_config": {**SERVER, "client_ca_file": "test-authority.crt"}},
            "tls_server_config: client_ca_file and client_allowed_sans have no effect with NoClientCert",
        ),
        (
            {"tls_server_config": {**SERVER, "client_auth_type": "RequireAndVerifyClientCert"}},
            "tls_server_config: RequireAndVerifyClientCert needs client_ca_file",
        ),
        (
            {"tls_server_config": {**SERVER, **VERIFIED, "client_ca_file": "server.key"}},
            r"tls_server_config: client_ca_file \S+server\.key cannot be used",
        ),
        (
            {"tls_server_config": {**SERVER, "min_version": "TLS13", "max_version": "TLS12"}},
            "tls_server_config: min_version TLS13 is above max_version TLS12",
        ),
        ({"tls_server_config": {**SERVER, "min_version": "TLS10"}}, "tls_server_config.min_version: input should be"),
        ({"tls_server_config": {**SERVER, "certfile": "x"}}, "certfile: unknown key; did you mean cert_file?"),
        ({"tls_server_config": {**SERVER, "cipher_suites": []}}, "cipher_suites: not supported here"),
        ({"basic_auth_users": {"alice": PASSWORD}}, "basic_auth_users: alice needs a bcrypt hash"),
        ({"basic_auth_users": {"al:ice": HASHED}}, "basic_auth_users: 'al:ice' contains a colon"),
        ({"http_server_config": {"headers": {"X-Powered-By": "us"}}}, "http_server_config.headers.X-Powered-By"),
        ({"tls": {}}, "tls: unknown key"),
    ],
)
def test_a_mistake_is_reported_with_its_path(
    tmp_path: Path, authority: Authority, content: dict[str, Any], mistake: str
) -> None:
    authority.issue("other")
    with pytest.raises(ValueError, match=re.escape(str(tmp_path)) + "/web.yml: .*" + mistake) as caught:
        web_config.read(written(tmp_path, **content))
    assert PASSWORD not in str(caught.value)


def test_an_encrypted_key_is_rejected_without_a_prompt(tmp_path: Path, authority: Authority) -> None:
    key = tmp_path / "server.key"
    subprocess.run(
        ["openssl", "pkcs8", "-topk8", "-in", str(key), "-out", str(tmp_path / "locked.key"), "-passout", "pass:x"],
        check=True,
    )
    with pytest.raises(ValueError, match=r"key_file \S+locked\.key is encrypted"):
        web_config.read(written(tmp_path, tls_server_config={**SERVER, "key_file": "locked.key"}))


@pytest.mark.parametrize(
    ("text", "mistake"), [("[]", "must be a mapping"), ("{", "is not valid YAML"), (None, "No such file")]
)
def test_an_invalid_file(tmp_path: Path, text: str | None, mistake: str) -> None:
    if text is not None:
        (tmp_path / "web.yml").write_text(text)
    with pytest.raises(ValueError, match=mistake):
        web_config.read(tmp_path / "web.yml")


@pytest.mark.parametrize(
    ("users", "mistake"),
    [
        ([], "web.config_file: alice has a password but no scopes (add it to web.users)"),
        (["alice", "bob"], "web.users[1].name: bob has no password in basic_auth_users of web.config_file (add it)"),
        (["alice", "alice"], "web.users[1].name: duplicate name alice"),
    ],
)
def test_users_and_passwords_must_match(tmp_path: Path, users: list[str], mistake: str) -> None:
    web = {
        "listen": "0.0.0.0:9095",
        "config_file": str(written(tmp_path, basic_auth_users={"alice": HASHED})),
        "users": [{"name": name, "scopes": ["read"]} for name in users],
        "tokens": [{"name": "robot", "scopes": ["read"], "token": "a-token-that-is-long-enough"}],
    }
    config = {
        "state": "sqlite:///state.db",
        "prometheus": {"url": "http://p"},
        "alertmanager": {"urls": ["http://a"]},
        "web": web,
    }
    with pytest.raises(ConfigError) as caught:
        parse(yaml.safe_dump(config), "r.yml", {})
    assert [line.split(" ", 1)[1] for line in caught.value.mistakes] == [mistake]


# --- TLS --------------------------------------------------------------------------------------------------------------
async def test_only_tls_is_accepted(tmp_path: Path, authority: Authority) -> None:
    async with listening(tmp_path, tls_server_config=SERVER) as url:
        assert url.startswith("https://")
        assert await ask(f"{url}/hello", ssl=trusting(authority)) == (200, "anyone on this host")
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await ask(f"{url}/hello")
        with pytest.raises(aiohttp.ClientError):
            await ask(url.replace("https", "http"))


async def test_the_minimum_version_is_enforced(tmp_path: Path, authority: Authority) -> None:
    async with listening(tmp_path, tls_server_config={**SERVER, "min_version": "TLS13"}) as url:
        old = trusting(authority)
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(aiohttp.ClientError):
            await ask(f"{url}/hello", ssl=old)
        assert (await ask(f"{url}/hello", ssl=trusting(authority)))[0] == 200


async def test_a_client_certificate_is_requested(tmp_path: Path, authority: Authority) -> None:
    stranger = Authority(tmp_path, "stranger").issue("mallory", "ops.example")
    async with listening(
        tmp_path, tls_server_config={**SERVER, **VERIFIED, "client_allowed_sans": ["ops.example"]}
    ) as url:
        for bad in (None, stranger):
            with pytest.raises(aiohttp.ClientError):
                await ask(f"{url}/hello", ssl=trusting(authority, bad))
        known = trusting(authority, authority.issue("alice", "ops.example"))
        assert (await ask(f"{url}/hello", ssl=known))[0] == 200
        other = trusting(authority, authority.issue("bob", "dev.example"))
        status, text = await ask(f"{url}/hello", ssl=other)
        assert (status, json.loads(text)["error"]) == (
            403,
            "the client certificate has no name in client_allowed_sans",
        )


async def test_a_renewed_certificate_is_served_without_a_restart(tmp_path: Path, authority: Authority) -> None:
    async def served(url: str) -> str:
        port = int(url.rpartition(":")[2])
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting(authority))
        certificate = writer.get_extra_info("peercert")
        writer.close()
        return str(certificate["serialNumber"])

    async with listening(tmp_path, tls_server_config=SERVER) as url:
        first = await served(url)
        (tmp_path / "server.key").write_text("half written")
        assert [await served(url), await served(url)] == [first, first]
        authority.issue("server", "127.0.0.1")
        await served(url)
        assert await served(url) != first


# --- Passwords and headers --------------------------------------------------------------------------------------------
async def test_a_password_allows_what_its_scopes_allow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    check = bcrypt.checkpw
    monkeypatch.setattr(bcrypt, "checkpw", lambda *args: tried.append(args) or check(*args))
    users = [{"name": "alice", "scopes": ["read"]}, {"name": "bob", "scopes": ["alerts"]}]
    tokens = [{"name": "robot", "scopes": ["read"], "token": "a-token-that-is-long-enough"}]
    async with listening(tmp_path, users, tokens, basic_auth_users={"alice": HASHED, "bob": HASHED}) as url:
        hello = f"{url}/hello"
        for _ in range(3):
            assert await ask(hello, headers=login("alice", PASSWORD)) == (200, "alice")
        assert len(tried) == 1
        assert await ask(hello, headers={"Authorization": f"Bearer {tokens[0]['token']}"}) == (200, "robot")
        assert (await ask(hello, headers=login("bob", PASSWORD)))[0] == 403
        for wrong in (("alice", "guess"), ("mallory", PASSWORD), ("", ""), ("alice", "x" * 80), ("alice", "nul\0")):
            assert (await ask(hello, headers=login(*wrong)))[0] == 401
        async with aiohttp.ClientSession() as session, session.get(hello) as answer:
            assert answer.headers["WWW-Authenticate"] == 'Bearer, Basic realm="rollback responder"'
            assert await answer.json() == {"error": "a bearer token or a password is required"}


@pytest.mark.parametrize(
    "limits", [{}, {"services": ["web"]}, {"environments": ["staging"]}, {"services": ["backend"]}]
)
async def test_a_user_is_limited_like_a_token(tmp_path: Path, limits: dict[str, list[str]]) -> None:
    users = [{"name": "alice", "scopes": ["read"], **limits}]
    tokens = [{**users[0], "token": "a-token-that-is-long-enough"}]
    async with listening(tmp_path, users, tokens, basic_auth_users={"alice": HASHED}) as url:
        for environment in ("staging", "production"):
            permitted_url = f"{url}/permitted?environment={environment}"
            own = "web" not in limits.get("services", ()) and environment in limits.get("environments", (environment,))
            for headers in (login("alice", PASSWORD), {"Authorization": f"Bearer {tokens[0]['token']}"}):
                assert await ask(permitted_url, headers=headers) == (200, str(own))


async def test_headers_are_added_and_never_weaken_a_page(tmp_path: Path) -> None:
    headers = {"X-Frame-Options": "SAMEORIGIN", "X-Content-Type-Options": "nosniff"}
    async with (
        listening(tmp_path, http_server_config={"headers": headers}) as url,
        aiohttp.ClientSession() as session,
    ):
        async with session.get(f"{url}/hello") as answer:
            assert headers.items() <= dict(answer.headers).items()
        async with session.get(f"{url}/strict") as answer:
            assert answer.headers["X-Frame-Options"] == "DENY"


# --- With a real Prometheus and the command line -----------------------------------------------------------
async def test_prometheus_and_the_command_line_can_connect(tmp_path: Path, authority: Authority) -> None:
    port = parts.free_port()
    authority.issue("client", "ops.example")
    written(tmp_path, tls_server_config={**SERVER, **VERIFIED}, basic_auth_users={"prometheus": HASHED})
    config = {
        "state": f"sqlite://{tmp_path}/state.db",
        "prometheus": {"url": "http://127.0.0.1:1"},
        "alertmanager": {"urls": ["http://127.0.0.1:1"]},
        "web": {
            "listen": f"127.0.0.1:{port}",
            "config_file": str(tmp_path / "web.yml"),
            "users": [{"name": "prometheus", "scopes": ["read"]}],
            "tokens": [{"name": "alice", "scopes": ["read", "operate"], "token": "alice-is-long-enough"}],
        },
    }
    file = tmp_path / "responder.yml"
    file.write_text(yaml.safe_dump(config))
    files = {"ca-file": authority.ca_file, "cert-file": tmp_path / "client.crt", "key-file": tmp_path / "client.key"}

    def responder(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "RESPONDER_TOKEN": "alice-is-long-enough", **environment}
        argv = [sys.executable, "-m", "responder", *command, "--config", str(file)]
        return subprocess.run(argv, capture_output=True, text=True, env=env, check=False)

    tls = trusting(authority, (files["cert-file"], files["key-file"]))
    process = await parts.Process.start(
        [sys.executable, "-m", "responder", "serve", "--config", str(file)],
        log=tmp_path / "responder.log",
        ready=lambda: _ready(f"https://127.0.0.1:{port}/-/ready", tls),
    )
    try:
        scrape = {
            "job_name": "responder",
            "scheme": "https",
            "basic_auth": {"username": "prometheus", "password": PASSWORD},
            "tls_config": {f"{name.replace('-', '_')}": str(path) for name, path in files.items()},
            "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
        }
        text = yaml.safe_dump({"global": {"scrape_interval": "1s"}, "scrape_configs": [scrape]})
        async with parts.prometheus(tmp_path, text) as prometheus:
            await parts.until(
                lambda: prometheus.query("responder_journal_up"), lambda got: bool(got) and got[0]["value"][1] == "1"
            )

        options = [word for name, path in files.items() for word in (f"--{name}", str(path))]
        result = responder("status", *options)  # the scheme https comes from the configuration
        assert result.returncode == 0, result.stderr
        named = {"RESPONDER_" + name.upper().replace("-", "_"): str(path) for name, path in files.items()}
        assert responder("status", **named).returncode == 0
        for wrong, message in (
            ([], "certificate verify failed"),
            (["--ca-file", str(authority.ca_file)], f"https://127.0.0.1:{port}: cannot connect to the responder"),
        ):
            result = responder("status", *wrong)
            assert (result.returncode, result.stdout) == (2, "")
            assert message in result.stderr and "Traceback" not in result.stderr

        # A reload applies new passwords, and reports what needs a restart.
        written(tmp_path, tls_server_config=SERVER, basic_auth_users={"prometheus": HASHED})
        os.kill(process.pid, signal.SIGHUP)
        await parts.until(lambda: _logged(process, "cannot change without a restart"))
        assert "TLS of web.config_file" in process.tail()
    finally:
        await process.terminate()


def test_files_that_the_command_line_cannot_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for _, variable, _ in TLS_FILES:
        monkeypatch.delenv(variable, raising=False)
    assert trust(None, None, None) is True
    for files, where, message in (
        ((tmp_path / "nowhere.crt", None, None), str(tmp_path / "nowhere.crt"), "cannot be used: No such file"),
        ((None, None, tmp_path / "client.key"), "--key-file", "needs --cert-file"),
    ):
        with pytest.raises(CommandError, match=message) as raised:
            trust(*files)
        assert raised.value.where == where


async def _ready(url: str, tls: ssl.SSLContext) -> bool:
    try:
        return (await ask(url, ssl=tls))[0] == 200
    except aiohttp.ClientError:
        return False


async def _logged(process: parts.Process, words: str) -> bool:
    return words in process.tail()
