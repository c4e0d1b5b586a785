"""Every error of a command: exit code 2, one sentence with its place and its remedy, or one object; no traceback."""

from __future__ import annotations

import json
import ssl
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.certificates import Authority
from tests.responder.cli.test_main import Run, alone, ask, run  # noqa: F401
from tests.responder.outside import serving
from tests.responder.web.conftest import SECRETS, ResponderServer

pytestmark = pytest.mark.usefixtures("alone")

NOBODY = ("--url", "http://127.0.0.1:9")
WRONG_USE: list[tuple[tuple[str, ...], str]] = [
    (("rolback",), "Did you mean 'rollback'?"),
    (("snapshots", "lst"), "Did you mean 'list'?"),
    (("status", "--servce", "x"), "Did you mean '--service'"),
    (("mark", "backend", "1", "god"), "Did you mean 'good'?"),
    (("history", "--state", "stuk"), "Did you mean 'stuck'?"),
    (("status", "extra"), "unexpected extra argument (extra)"),
    (("rollback",), "Missing argument 'SERVICE'"),
    (("rollback", "backend"), "Missing option '--reason'"),
    (("rollback", "backend", "--reason", "--dry-run"), "Write --reason=--dry-run if you mean it"),
    (("history", "--limit", "0"), "0 is not in the range 1<=x<=1000"),
    (("history", "--limit", "x"), "'x' is not a valid integer"),
    (("explain", "--limit", "1001"), "1001 is not in the range"),
    (("snapshots", "verify", "a/b", "--jobs", "0"), "0 is not in the range x>=1"),
    (("deployed", "caf\udce9", "1"), "argument 'caf\\udce9' is not UTF-8"),
    (("mark", "backend", "1", "good", "--no-rollback", "x", "--lift"), "--no-rollback and --lift exclude each other"),
    (("mark", "backend", "1"), "needs a status, --no-rollback WHY or --lift"),
    (("stop", "r1", "--all"), "the ID of a rollback and --all exclude each other"),
    (("close", "r1", "--all", "--reason", "x"), "the ID of a rollback and --all exclude each other"),
    (("history", "r1", "--service", "backend"), "the ID of a rollback and --service exclude each other"),
    (("report", "r1", "--since", "1h"), "the ID of a rollback and --since exclude each other"),
    (("report", "--plot", "x.svg"), "--plot needs the ID of a rollback"),
    (("explain", "body.json", "--last"), "FILE excludes --last and --service"),
    (("clients", "backend", "android", "--block", "3.0"), "a change needs --reason"),
]


def asking(argv: tuple[str, ...]) -> tuple[str, ...]:
    """The arguments, with a URL where nobody listens if the command takes one."""
    return argv if argv[0] in ("rolback", "snapshots") else (*argv, *NOBODY)


@pytest.mark.parametrize(("argv", "says"), WRONG_USE, ids=lambda v: " ".join(v) if isinstance(v, tuple) else "")
async def test_wrong_usage(run: Run, argv: tuple[str, ...], says: str) -> None:  # noqa: F811
    code, out, err = await run(*asking(argv))
    usage, error = err.splitlines()
    assert (code, out, usage[:16], says in error) == (2, "", "Usage: responder", True), err
    code, out, err = await run(*asking(argv), "--output=json")
    assert (code, err, list(body := json.loads(out))) == (2, "", ["error", "where", "hint"])
    assert says in body["error"]
    assert body["where"].startswith(("responder", "--"))
    assert body["hint"].startswith("see responder ")


async def test_usage_of_the_command_is_shown(run: Run) -> None:  # noqa: F811
    assert (await run("mark", "--lft")).err.startswith("Usage: responder mark [OPTIONS] SERVICE VERSION")
    assert json.loads((await run("history", "--limit", "0", "--output", "json")).out)["where"] == "--limit"
    assert "Did you mean 'json'?" in (await run("status", "--output", "jso")).err
    assert "Did you mean 'fish'?" in (await run("completion", "fsh")).err


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("//x", "expected http://HOST:PORT"),
        ("", "expected http://HOST:PORT"),
        ("host:9095", "expected http://HOST:PORT"),
        ("http://", "expected http://HOST:PORT"),
        ("http://127.0.0.1:0", "expected http://HOST:PORT"),
        ("ftp://host", "expected http://HOST:PORT"),
        ("http://user:pw@host", "must not contain a user or password: use --token-file"),
        ("http://user@host", "must not contain a user or password: use --token-file"),
        ("http://host:99999", "Port out of range"),
        ("http://host:x", "Port could not be cast"),
        ("http://[::1", "Invalid IPv6 URL"),
        ("http://host/?a=b", "must not contain a query"),
        ("http://host/#a", "must not contain a query"),
        ("http://a b", "must not contain a query, a fragment or spaces"),
        ("http://a\n", "must not contain a query, a fragment or spaces"),
    ],
)
async def test_a_url_that_is_none(run: Run, url: str, says: str, tmp_path: Path, monkeypatch: Any) -> None:  # noqa: F811
    (tmp_path / "token").write_text("a token")
    code, out, err = await run("status", "--url", url, "--token-file", "token")
    assert (code, out, err.startswith("--url: "), says in err, "pw" in err) == (2, "", True, True, False)
    monkeypatch.setenv("RESPONDER_URL", url or " ")
    assert json.loads((await run("status", "--output", "json")).out)["where"] == "RESPONDER_URL"


@pytest.mark.parametrize("command", [("status",), ("stop", "--all"), ("watch",), ("deployed", "backend", "1")])
@pytest.mark.parametrize(
    "content", [None, b"web: {listen: 'caf\xe9:1'}\n", b"web: [", b"- 1\n", b"web: 1\n", b"\0", "directory"]
)
async def test_an_unreadable_configuration_never_leads_to_another_responder(
    run: Run,  # noqa: F811
    command: tuple[str, ...],
    content: bytes | str | None,
    tmp_path: Path,
) -> None:
    file = tmp_path / "mine.yml"
    if isinstance(content, bytes):
        file.write_bytes(content)
        file.with_name("responder.yml").write_bytes(content)  # also as the default
        assert (await run(*command)).err.startswith("responder.yml: cannot be read")
    elif content:
        file.mkdir()
    code, out, _ = await run(*command, "--config", str(file), "--output", "json")
    body = json.loads(out)
    assert (code, body["where"], "set the address with --url" in body["hint"]) == (2, str(file), True)


@pytest.mark.parametrize(
    ("argv", "where"),
    [
        (("status", "--token-file", "none"), "--token-file"),
        (("status", "--ca-file", "none"), "none"),
        (("status", "--key-file", "none"), "--key-file"),
        (("explain", "none.json"), "none.json"),
        (("status",), NOBODY[1]),
    ],
)
async def test_errors_name_their_place(run: Run, argv: tuple[str, ...], where: str) -> None:  # noqa: F811
    code, out, err = await run(*argv, *NOBODY, "--output", "json")
    assert (code, err, json.loads(out)["where"]) == (2, "", where)


LOCAL = [
    ("notify", "slack"),
    ("schema", "shop"),
    ("preserved", "list", "shop"),
    ("snapshots", "list"),
    ("serve",),
]


@pytest.mark.parametrize("argv", LOCAL, ids=" ".join)
async def test_a_command_without_its_configuration(run: Run, argv: tuple[str, ...]) -> None:  # noqa: F811
    code, out, err = await run(*argv, "--output", "json")
    assert (code, err, json.loads(out)["where"]) == (2, "", "responder.yml")


WRONG_NAMES: list[tuple[str, ...]] = [
    ("status", "--service", "nobody"),
    ("status", "--environment", "moon"),
    ("history", "--since", "yesterday"),
    ("history", "--before", "none"),
    ("history", "none"),
    ("report", "--since", "yesterday"),
    ("report", "none"),
    ("watch", "none"),
    ("evidence", "none"),
    ("approve", "none"),
    ("stop", "none"),
    ("close", "none", "--reason", "x"),
    ("deployed", "nobody", "1"),
    ("mark", "nobody", "1", "good"),
    ("versions", "nobody"),
    ("clients", "nobody", "android"),
    ("rollback", "nobody", "--reason", "x", "--dry-run"),
    ("versions", ".."),
    ("versions", "../../metrics"),
    ("clients", "backend", "../../../metrics"),
    ("mark", "backend", "..", "good"),
    ("mark", "backend", "a/../../x", "good"),
]


async def test_a_wrong_name_or_value_exits_2(ask: Run) -> None:  # noqa: F811
    for argv in WRONG_NAMES:
        code, out, err = await ask(*argv)
        assert (code, out, len(err.splitlines())) == (2, "", 1), (argv, out, err)
        code, out, err = await ask(*argv, "--output", "json")
        assert (code, err, list(json.loads(out))) == (2, "", ["error", "where", "hint"]), argv


async def test_the_most_similar_service_or_environment_is_suggested(ask: Run) -> None:  # noqa: F811
    for argv, suggestion in (
        (("status", "--service", "bakend"), "backend"),
        (("report", "--environment", "prodution"), "production"),
        (("versions", "bakend"), "backend"),
        (("deployed", "bakend", "1"), "backend"),
        (("deployed", "backend", "1", "--environment", "prodction"), "production"),
        (("mark", "bakend", "1", "good"), "backend"),
        (("rollback", "bakend", "--reason", "x"), "backend"),
    ):
        code, _, err = await ask(*argv)
        assert (code, err.endswith(f"; did you mean {suggestion}?\n")) == (2, True), (argv, err)


async def test_a_name_stays_one_segment_of_the_path(run: Run) -> None:  # noqa: F811
    segments = ["../../metrics", "a b", "%2e%2e", "é", "x?y#z"]
    paths = []

    async def record(request: web.Request) -> web.Response:
        paths.append(request.match_info["rest"])
        return web.json_response({"versions": []}, headers={"X-Responder": "rollback-responder"})

    async with serving(**{"api/v1/versions/{rest}": record}) as url:
        for segment in segments:
            assert (await run("versions", segment, "--url", url)).code == 0
    assert paths == segments


async def test_a_wrong_token_is_named_as_wrong(
    run: Run,  # noqa: F811
    guarded_responder: ResponderServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = ("--url", str(guarded_responder.client.make_url("")), "--output", "json")
    for token, error in (("", "a bearer token is required"), ("nobody's", "the bearer token is wrong")):
        monkeypatch.setenv("RESPONDER_TOKEN", token)
        for command in (("status",), ("watch",), ("stop", "--all"), ("watch", "r1")):
            code, out, _ = await run(*command, *url)
            assert (code, json.loads(out)["error"]) == (2, error)
    monkeypatch.setenv("RESPONDER_TOKEN", SECRETS["read"])
    code, out, _ = await run("stop", "--all", *url)
    assert (code, json.loads(out)["error"]) == (2, "read-only lacks scope operate")


async def test_an_untrusted_certificate_is_named(run: Run, tmp_path: Path) -> None:  # noqa: F811
    authority = Authority(tmp_path)
    certificate = authority.issue("127.0.0.1", "127.0.0.1")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    runner = web.AppRunner(web.Application())
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        port = runner.addresses[0][1]
        code, out, _ = await run("status", "--url", f"https://127.0.0.1:{port}", "--output", "json")
    finally:
        await runner.cleanup()
    body = json.loads(out)
    assert (code, "certificate verify failed" in body["error"], "--ca-file" in body["hint"]) == (2, True, True)
