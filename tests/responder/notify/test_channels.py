"""Each channel against a strict peer: messages, updates, and escaping of labels."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import hmac
import json
import ssl
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from responder.notify import ChannelSettings, NotDelivered, Notification, Notify
from responder.notify.channels.email import Email
from responder.notify.channels.github import escape as markdown
from responder.notify.channels.slack import escape as mrkdwn
from responder.notify.templates import Text
from tests.responder.examples import alert
from tests.responder.notify.conftest import (
    APPROVED,
    CANCELLED,
    DONE,
    HALTED,
    HEALTHY,
    HELD,
    PLANNED,
    SECOND,
    STARTED,
    STUCK,
    SUCCEEDED,
    critical,
    notification,
)  # fmt: skip
from tests.responder.notify.peers import TOKEN, Github, Grafana, Mail, Peer, Sink, Slack, certificate

EVIL = "<!channel> <@U1> & *x* `y` [z](http://evil) <script>alert(1)</script> @alice #12\r\nBcc: eve@evil.test"
HOSTILE = critical(
    reason=EVIL,
    from_version=EVIL,
    alerts=(alert({"alertname": EVIL, "severity": "critical"}, annotations={"summary": EVIL}),),
)


@pytest.fixture
async def slack() -> AsyncIterator[Slack]:
    async with Slack().up() as up:
        yield up


@pytest.fixture
async def github() -> AsyncIterator[Github]:
    async with Github().up() as up:
        yield up


@pytest.fixture
async def grafana() -> AsyncIterator[Grafana]:
    async with Grafana().up() as up:
        yield up


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    async with Sink().up() as up:
        yield up


def settings(kind: str, **given: Any) -> ChannelSettings:
    made: ChannelSettings = getattr(Notify.model_validate({kind: given}), kind)[0]
    return made


def of(peer: Peer, **other: Any) -> ChannelSettings:
    """The configuration of each peer."""
    match peer:
        case Slack():
            fields = {"token": TOKEN, "channel": "#ops", "api_url": f"{peer.url}/api", "timeout": 1.0}
            return settings("slack", **{**fields, **other})
        case Github():
            fields = {"repository": "shop/backend", "token": TOKEN, "api_url": f"{peer.url}/api/v3", "timeout": 1.0}
            return settings("github", **{**fields, **other})
        case Grafana():
            return settings("grafana", **{"url": f"{peer.url}/grafana/", "token": TOKEN, "timeout": 1.0, **other})
    return settings("webhook", url=f"{peer.url}/hook", secret="0123456789abcdef", timeout=1.0, **other)


class OpenChannel:
    """A channel and its peer."""

    def __init__(self, made: ChannelSettings) -> None:
        self.channel, self.reference = made.open(), ""

    async def __aenter__(self) -> OpenChannel:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.channel.close()

    async def deliver(self, *notifications: Notification, retry: bool = False) -> None:
        for item in notifications:
            try:
                self.reference = await self.channel.deliver(item, self.reference, retry=retry)
            except NotDelivered as e:
                self.reference = self.reference if e.reference is None else e.reference
                raise


GOOD = (notification(), notification(PLANNED, STARTED), notification(PLANNED, STARTED, DONE, SECOND))
ALL = (*GOOD, notification(PLANNED, STARTED, DONE, SECOND, HEALTHY, SUCCEEDED))


# Slack


async def test_slack_updates_one_message_in_place(slack: Slack) -> None:
    async with OpenChannel(of(slack)) as opened:
        await opened.deliver(*ALL)
    (message,) = slack.threads
    text = json.dumps(message, ensure_ascii=False)
    assert message["text"] == "Rolled back: backend in production 2.1 → 2.0"
    assert ":white_check_mark: current release of /srv/backend: 2.1 → 2.0" in text
    assert "after 30s: up is 1" in text
    assert [m["text"] for m in slack.messages.values() if "thread_ts" in m] == [
        "*Rolled back: backend in production 2.1 → 2.0*\nafter 30s: up is 1"
    ], "the end rings a bell, which a changed message does not"


async def test_slack_mentions_a_human_once_with_buttons(slack: Slack) -> None:
    held = notification(
        PLANNED, HELD, approve_url="https://r.test/approve/e-1?x=1&y=2", stop_url="https://r.test/stop/e-1"
    )
    async with OpenChannel(of(slack, mention="<!subteam^S1>")) as opened:
        await opened.deliver(notification())
        slack.trouble = ["late"]  # updated, and the answer was lost
        with pytest.raises(NotDelivered, match="did not answer"):
            await opened.deliver(held)
        await opened.deliver(held, retry=True)
        called = [m for m in slack.messages.values() if "thread_ts" in m]
        assert len(called) == 1
        assert called[0]["reply_broadcast"] is True
        assert called[0]["text"].startswith("<!subteam^S1> *Rollback needs approval")
        (buttons,) = [b for b in slack.threads[0]["attachments"][0]["blocks"] if b["type"] == "actions"]
        assert [(b["type"], b["url"]) for b in buttons["elements"]] == [
            ("button", "https://r.test/approve/e-1?x=1&y=2"),
            ("button", "https://r.test/stop/e-1"),
        ]
        await opened.deliver(notification(PLANNED, HELD, APPROVED))
    assert "actions" not in [b["type"] for b in slack.threads[0]["attachments"][0]["blocks"]]


async def test_slack_mentions_a_human_however_long_the_reason(slack: Slack) -> None:
    held = notification(PLANNED, HELD.model_copy(update={"reason": "&" * 1000}))
    async with OpenChannel(of(slack, mention="<!subteam^S1>")) as opened:
        await opened.deliver(held)
    assert slack.threads[0]["attachments"][0]["blocks"][0]["text"]["text"].startswith("<!subteam^S1> *Rollback needs")


async def test_deleted_messages_are_created_again(slack: Slack, grafana: Grafana, github: Github) -> None:
    async with (
        OpenChannel(of(slack)) as chat,
        OpenChannel(of(grafana)) as dashboard,
        OpenChannel(of(github)) as tracker,
    ):
        for opened in (chat, dashboard, tracker):
            await opened.deliver(ALL[1])
        slack.messages.clear()
        grafana.annotations.clear()
        github.issues.clear()
        for opened in (chat, dashboard, tracker):
            await opened.deliver(ALL[3], retry=True)
    assert [(issue["number"], issue["state"]) for issue in github.issues.values()] == [(42, "closed")]
    assert [message["text"][:11] for message in slack.threads] == ["Rolled back"]
    assert [annotation["text"][:14] for annotation in grafana.annotations.values()] == ["<b>Rolled back"]


async def test_slack_by_webhook_has_no_updates(slack: Slack) -> None:
    made = settings("slack", webhook_url=f"{slack.url}/hook/secret-path")
    assert "progress" not in made.selected_stages
    async with OpenChannel(made) as opened:
        await opened.deliver(notification(), notification(PLANNED, STARTED))
    assert len(slack.messages) == 2


@pytest.mark.parametrize("error", ["invalid_auth", "channel_not_found", "ratelimited", "invalid_blocks"])
async def test_slack_rejects_with_200(slack: Slack, error: str) -> None:
    slack.broken = error
    async with OpenChannel(of(slack)) as opened:
        with pytest.raises(NotDelivered, match=f"Slack rejected chat.postMessage: {error}"):
            await opened.deliver(notification())
        with pytest.raises(NotDelivered, match=f"auth.test: {error}"):
            await opened.channel.check_access()


async def test_slack_takes_long_plans(slack: Slack) -> None:
    many = notification(PLANNED, STARTED)
    steps = tuple(many.steps[0].model_copy(update={"title": f"step {n} " + "x" * 250}) for n in range(100))
    async with OpenChannel(of(slack)) as opened:
        await opened.deliver(many.model_copy(update={"steps": steps}))
    text = json.dumps(slack.threads[0])
    assert "step 99" in text, "people need the last ones"


@pytest.mark.parametrize(
    ("value", "escaped"),
    [
        ("<!here>", "&lt;!here&gt;"),
        ("<!channel>", "&lt;!channel&gt;"),
        ("<@U012AB3CD>", "&lt;@U012AB3CD&gt;"),
        ("<https://evil.test|click>", "&lt;https://evil.test|click&gt;"),
        ("a & b &lt;", "a &amp; b &amp;lt;"),
        ("a\x00\u202eb", "a  b"),
    ],
)
def test_slack_escapes(value: str, escaped: str) -> None:
    assert mrkdwn(value) == escaped


async def test_slack_shows_hostile_labels_as_text(slack: Slack) -> None:
    async with OpenChannel(of(slack, templates={"text": "{{ title }} {{ alerts[0].labels.alertname }}"})) as opened:
        await opened.deliver(notification(begun=HOSTILE))
    async with OpenChannel(of(slack)) as opened:
        await opened.deliver(notification(begun=HOSTILE))
    for message in slack.messages.values():
        text = json.dumps(message)
        assert "<!" not in text
        assert "<@" not in text
        assert "<script" not in text
        assert '"verbatim": false' not in text
        assert (message["parse"], message["link_names"]) == ("none", False)


# webhook


async def test_a_webhook_is_signed_and_its_retries_have_one_id(sink: Sink) -> None:
    sink.trouble = [web.Response(status=503)]
    async with OpenChannel(of(sink)) as opened:
        with pytest.raises(NotDelivered, match="answered 503"):
            await opened.deliver(notification())
        await opened.deliver(notification(), notification(PLANNED, STARTED))
    assert [h["X-Responder-Delivery"] for h, _ in sink.taken] == ["e-1/0", "e-1/2"]
    for headers, raw in sink.taken:
        signed = headers["X-Responder-Timestamp"].encode() + b"." + raw
        right = hmac.new(b"0123456789abcdef", signed, hashlib.sha256).hexdigest()
        assert headers["X-Responder-Signature"] == f"sha256={right}"
    body = json.loads(sink.taken[1][1])
    fields = {k: body[k] for k in ("version", "stage", "service", "from_version", "to_version", "severity", "urgent")}
    assert fields == {
        "version": 1, "stage": "started", "service": "backend", "from_version": "2.1", "to_version": "2.0",
        "severity": "critical", "urgent": False,
    }  # fmt: skip
    assert [step["state"] for step in body["steps"]] == ["running", "pending"]
    assert [result["guard"] for result in body["guard_results"]] == ["cooldown"]


async def test_a_webhook_without_a_secret_is_not_signed(sink: Sink) -> None:
    async with OpenChannel(settings("webhook", url=f"{sink.url}/hook", timeout=1.0)) as opened:
        await opened.deliver(notification())
    ((headers, _),) = sink.taken
    assert headers["X-Responder-Delivery"] == "e-1/0"
    assert "X-Responder-Signature" not in headers


async def test_a_webhook_body_from_a_template_stays_json(sink: Sink) -> None:
    shape = {"summary": "{{ title }}", "routing": ["{{ severity }}", 7], "why": "{{ reason }}", "fixed": True}
    async with OpenChannel(of(sink, templates={"body": shape})) as opened:
        await opened.deliver(notification(begun=HOSTILE))
    body = json.loads(sink.taken[0][1])
    assert (body["routing"], body["why"], body["fixed"]) == (["critical", 7], EVIL, True)


# e-mail


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return certificate(tmp_path_factory.mktemp("smtp"))


@pytest.fixture
def mail_by(files: tuple[Path, Path]) -> Callable[..., Any]:
    def make(mail: Mail, **other: Any) -> ChannelSettings:
        given = {
            "host": "127.0.0.1", "port": mail.port, "security": mail.security, "ca_file": files[0], "timeout": 3.0,
            "username": "rollbacks", "password": TOKEN, "from": "rollbacks@shop.test", "to": ["oncall@shop.test"],
        }  # fmt: skip
        return settings("email", **{**given, **other})

    return make


@pytest.fixture(params=["starttls", "tls"])
async def mail(request: pytest.FixtureRequest, files: tuple[Path, Path]) -> AsyncIterator[Mail]:
    async with Mail(request.param, files).up() as up:
        yield up


async def test_mail_of_one_execution_is_one_thread(mail: Mail, mail_by: Callable[..., Any]) -> None:
    held = notification(PLANNED, HELD, approve_url="https://r.test/approve?a=1&b=2")
    async with OpenChannel(mail_by(mail)) as opened:
        await opened.channel.check_access()
        await opened.deliver(held, ALL[-1], ALL[-1])
    (first, *later) = [message for _, message in mail.got]
    assert first["Subject"] == "Rollback of backend in production: 2.1 → 2.0"
    assert [m["Subject"] for m in later] == [f"Re: {first['Subject']}"] * 2
    assert {m["In-Reply-To"] for m in later} == {m["References"] for m in later} == {first["Message-ID"]}
    assert later[0]["Message-ID"] == later[1]["Message-ID"] != first["Message-ID"], "the same message, delivered twice"
    assert first["Auto-Submitted"] == "auto-generated"
    text = first.get_body(("plain",))
    html = first.get_body(("html",))
    assert text is not None and html is not None
    assert "https://r.test/approve?a=1&b=2" in text.get_content()
    assert 'href="https://r.test/approve?a=1&amp;b=2"' in html.get_content()
    assert f"responder approve e-1 --plan {PLANNED.plan.hash}" in text.get_content()


async def test_mail_cannot_be_forged_by_a_label(mail: Mail, mail_by: Callable[..., Any]) -> None:
    hostile = notification(begun=HOSTILE)
    templates = {"subject": "{{ reason }}", "text": "{{ reason }}", "html": "<p>{{ reason }}</p>"}
    for how in ({}, {"templates": templates}):
        async with OpenChannel(mail_by(mail, **how)) as opened:
            await opened.deliver(hostile)
    for to, message in mail.got:
        assert to == ["oncall@shop.test"]
        assert message["Bcc"] is None
        html = message.get_body(("html",))
        assert html is not None
        assert "<script>" not in html.get_content()
        assert "&lt;script&gt;" in html.get_content()
    assert "Bcc: eve@evil.test" in mail.got[1][1]["Subject"], "in one line with the rest of the subject"


async def test_mail_is_retried_only_for_rejected_recipients(mail: Mail, mail_by: Callable[..., Any]) -> None:
    both = ["oncall@shop.test", "boss@shop.test"]
    mail.refuses = {"boss@shop.test"}
    async with OpenChannel(mail_by(mail, to=both)) as opened:
        with pytest.raises(NotDelivered, match=r"boss@shop.test: 550 5.1.1 no such user"):
            await opened.deliver(GOOD[0])
        mail.refuses = set()
        await opened.deliver(GOOD[0], ALL[-1], retry=True)
    assert [to for to, _ in mail.got] == [["oncall@shop.test"], ["boss@shop.test"], both]


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"password": "wrong-password"}, "answered 535"),
        ({"ca_file": None}, "CERTIFICATE_VERIFY_FAILED"),
        ({"port": 1}, "127.0.0.1"),
    ],
)
async def test_undelivered_mail_has_a_reason(
    mail: Mail, mail_by: Callable[..., Any], other: dict[str, Any], why: str
) -> None:
    async with OpenChannel(mail_by(mail, **other)) as opened:
        with pytest.raises(NotDelivered, match=why) as failed:
            await opened.deliver(GOOD[0])
        assert TOKEN not in str(failed.value)
        with pytest.raises(NotDelivered, match=why):
            await opened.channel.check_access()
    assert mail.got == []


async def test_greylisted_mail_is_retried(mail: Mail, mail_by: Callable[..., Any]) -> None:
    mail.trouble = ["451 4.7.1 greylisted"]
    async with OpenChannel(mail_by(mail)) as opened:
        with pytest.raises(NotDelivered, match=r"answered 451: 4.7.1 greylisted"):
            await opened.deliver(GOOD[0])
        await opened.deliver(GOOD[0])
    assert len(mail.got) == 1


async def test_accepted_mail_is_not_sent_again_if_quit_hangs(mail: Mail, mail_by: Callable[..., Any]) -> None:
    mail.hangs_at_the_end = True
    async with OpenChannel(mail_by(mail)) as opened, asyncio.timeout(2.0):  # of the 3 s allowed for a message
        await opened.channel.check_access()
        await opened.deliver(GOOD[0])
    mail.hangs_at_the_end = False
    assert len(mail.got) == 1


async def test_loading_system_certificates_does_not_block_the_loop(
    mail: Mail, mail_by: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, where = ssl.create_default_context, list[bool]()

    def watched(*args: Any, **how: Any) -> ssl.SSLContext:
        where.append(threading.current_thread() is threading.main_thread())
        return made(*args, **how)

    settings = mail_by(mail)
    monkeypatch.setattr(ssl, "create_default_context", watched)
    async with OpenChannel(settings) as opened:
        await opened.deliver(GOOD[0])
        await opened.deliver(GOOD[0])
    assert where == [False], "once, and not on the loop"


async def test_mail_is_never_sent_unencrypted(files: tuple[Path, Path], mail_by: Callable[..., Any]) -> None:
    async with Mail("none", files).up() as mail:  # it offers no STARTTLS
        mail.security = "starttls"
        async with OpenChannel(mail_by(mail)) as opened:
            with pytest.raises(NotDelivered, match="STARTTLS"):
                await opened.deliver(GOOD[0])
    assert mail.got == []


# GitHub


async def test_github_leaves_the_issue_open_if_an_app_must_be_published_again(github: Github) -> None:
    remains = ("android (2.1 blocked): publish 2.2, built from 2.0",)
    mitigated = ALL[-1].model_copy(update={"stage": "mitigated", "outcome": "mitigated", "remains": remains})
    async with OpenChannel(of(github)) as opened:
        await opened.deliver(*GOOD[:2])
        await opened.deliver(mitigated)
    (issue,) = github.issues.values()
    assert (issue["state"], issue["labels"]) == ("open", ["rollback", "republish"])
    assert r"### What remains" in issue["body"]
    assert r"- [ ] android \(2.1 blocked\): publish 2.2, built from 2.0" in issue["body"]


async def test_github_closes_the_issue_when_the_service_has_recovered(github: Github) -> None:
    async with OpenChannel(of(github)) as opened:
        await opened.channel.check_access()
        await opened.deliver(*GOOD[:2])
        (issue,) = github.issues.values()
        assert (issue["state"], issue["labels"]) == ("open", ["rollback"])
        await opened.deliver(ALL[-1])
    (issue,) = github.issues.values()
    assert (issue["state"], issue["state_reason"]) == ("closed", "completed")
    assert issue["title"] == "Rollback of backend in production: 2.1 → 2.0"
    for part in ("Guard results", "no cooldown is active", "Plan", "BackendDown", "closed as succeeded"):
        assert part in issue["body"]
    assert [text.splitlines()[0] for _, text in github.comments] == [
        "**Rolling back: backend in production 2.1 → 2.0**",
        "**Rolled back: backend in production 2.1 → 2.0**",
    ]


async def test_every_channel_includes_the_notes_of_the_plan(
    slack: Slack, github: Github, sink: Sink, mail: Mail, mail_by: Callable[..., Any]
) -> None:
    note = "no restart: a process that runs keeps serving the old version"
    noted = PLANNED.model_copy(update={"plan": PLANNED.plan.model_copy(update={"notes": (note,)})})
    ended = notification(noted, STARTED, DONE, SECOND, HEALTHY, SUCCEEDED)
    for made in (of(slack), of(github), of(sink), mail_by(mail)):
        async with OpenChannel(made) as opened:
            await opened.deliver(GOOD[1], ended)
    (issue,) = github.issues.values()
    mail_text = mail.got[-1][1].get_body(("plain",))
    assert mail_text
    everything = [json.dumps(slack.threads), issue["body"], sink.taken[-1][1].decode(), mail_text.get_content()]
    assert [note in text for text in everything] == [True] * 4


@pytest.mark.parametrize(
    "notification",
    [notification(PLANNED, STARTED, HALTED), notification(PLANNED, STUCK), notification(PLANNED, *CANCELLED)],
)
async def test_github_leaves_the_issue_open_if_the_service_has_not_recovered(
    github: Github, notification: Notification
) -> None:
    async with OpenChannel(of(github)) as opened:
        await opened.deliver(GOOD[0], notification)
    assert [issue["state"] for issue in github.issues.values()] == ["open"]


async def test_github_opens_no_second_issue_after_a_crash(github: Github) -> None:
    for again in (False, True):
        github.trouble = [] if again else ["", "late"]  # the second request, which creates it, is never answered
        async with OpenChannel(of(github)) as opened:
            if again:
                await opened.deliver(GOOD[0], retry=True)
            else:
                with pytest.raises(NotDelivered, match="did not answer"):
                    await opened.deliver(GOOD[0])
    assert len(github.issues) == 1
    async with OpenChannel(of(github)) as opened:
        opened.reference = '{"issue": 41}'
        github.trouble = ["", web.Response(status=502)]  # commented, but not recorded
        with pytest.raises(NotDelivered, match="502"):
            await opened.deliver(GOOD[1])
        await opened.deliver(GOOD[1], retry=True)
    assert len(github.comments) == 1


async def test_github_deployment_has_the_status_of_the_rollback(github: Github) -> None:
    async with OpenChannel(of(github, deployments=True, deployment_ref="v{version}")) as opened:
        await opened.deliver(*ALL)
    assert github.deployments[7] | {} == {
        "id": 7, "ref": "v2.0", "task": "rollback", "environment": "production", "auto_merge": False,
        "required_contexts": [], "payload": {"execution": "e-1"},
        "description": "Rollback of backend in production: 2.1 → 2.0",
    }  # fmt: skip
    assert github.statuses == [(7, "queued"), (7, "in_progress"), (7, "success")]


async def test_github_needs_no_tag_for_the_issue(github: Github) -> None:
    async with OpenChannel(of(github, deployments=True)) as opened:  # the tag "2.0" does not exist
        await opened.deliver(*ALL)
    assert ([issue["state"] for issue in github.issues.values()], github.statuses) == (["closed"], [])
    assert len(github.did("POST", "/api/v3/repos/shop/backend/deployments")) == 1


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (403, {"Retry-After": "60"}, 60),
        (429, {"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0),
        (403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "99999999999"}, 3600),
        (429, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "nan"}, None),
        (429, {"Retry-After": f"Wed, 21 Oct {'9' * 20} 07:28:00 GMT"}, None),
        (429, {"Retry-After": "-5"}, None),
        (403, {}, None),
    ],
)
async def test_github_rate_limits_are_respected(
    github: Github, status: int, headers: dict[str, str], seconds: float | None
) -> None:
    github.trouble = [web.json_response({"message": "slow down"}, status=status, headers=headers)]
    async with OpenChannel(of(github)) as opened:
        with pytest.raises(NotDelivered, match=f"answered {status}: slow down") as failed:
            await opened.deliver(GOOD[0])
    assert failed.value.retry_after == seconds


@pytest.mark.parametrize(
    ("value", "escaped"),
    [
        ("[z](http://evil)", "\\[z\\]\\(http://\u200bevil\\)"),
        ("@alice", "@\u200balice"),
        ("fixes #12", "fixes #\u200b12"),
        ("**bold** `code` <b>", "\\*\\*bold\\*\\* \\`code\\` \\<b\\>"),
        ("a | b", "a \\| b"),
        ("<!-- rollback-responder: e-2 -->", "\\<\\!\\-\\- rollback\\-responder: e\\-2 \\-\\-\\>"),
        ("www.evil.test", "www.\u200bevil.test"),
        ("a\nb", "a b"),
    ],
)
def test_github_escapes(value: str, escaped: str) -> None:
    assert markdown(value) == escaped


async def test_github_shows_hostile_labels_as_text(github: Github) -> None:
    async with OpenChannel(of(github, templates={"title": "{{ reason }}"})) as opened:
        await opened.deliver(notification(begun=HOSTILE))
    (issue,) = github.issues.values()
    assert "\n" not in issue["title"]
    body = issue["body"].replace("\\<", "").replace("\\`", "")
    for harm in ("](http", "<script", "@alice", "`y", "y`"):
        assert harm not in body


# Grafana


async def test_grafana_has_one_region_by_its_tags(grafana: Grafana) -> None:
    async with OpenChannel(of(grafana, dashboard="uid-1", tags=["rollback", "shop"])) as opened:
        await opened.channel.check_access()
        await opened.deliver(ALL[1], ALL[3])
    (annotation,) = grafana.annotations.values()
    assert annotation["dashboardUID"] == "uid-1"
    assert annotation["tags"] == ["rollback", "shop", "exec:e-1", "backend", "production", "succeeded"]
    assert annotation["timeEnd"] - annotation["time"] == 29_000
    assert "Rolled back" in annotation["text"]


async def test_grafana_is_annotated_once_also_after_a_crash(grafana: Grafana) -> None:
    grafana.trouble = ["", "late"]
    async with OpenChannel(of(grafana)) as opened:
        with pytest.raises(NotDelivered):
            await opened.deliver(ALL[1])
        await opened.deliver(ALL[1], retry=True)
        await opened.deliver(notification(PLANNED, STARTED, begun=HOSTILE))
    (annotation,) = grafana.annotations.values()
    assert "<script" not in annotation["text"]


# all


class Dripping(Github):
    """A GitHub that sends chunked answers without a length."""

    async def answer(self, request: web.Request, raw: bytes, body: Any) -> web.StreamResponse:
        whole = await super().answer(request, raw, body)
        assert isinstance(whole, web.Response) and isinstance(whole.body, bytes)
        response = web.StreamResponse(status=whole.status, headers={"Content-Type": "application/json"})
        await response.prepare(request)
        for start in range(0, len(whole.body), max(len(whole.body) // 3, 1)):
            await response.write(whole.body[start : start + max(len(whole.body) // 3, 1)])
            await asyncio.sleep(0.02)
        return response


async def test_a_chunked_response_is_read_completely() -> None:
    async with Dripping().up() as github, OpenChannel(of(github)) as opened:
        github.trouble = ["", "late"]  # a crash after the issue is created, before its number is known
        with pytest.raises(NotDelivered, match="did not answer"):
            await opened.deliver(GOOD[0])
        await opened.deliver(GOOD[0], retry=True)
    assert len(github.issues) == 1
    assert json.loads(opened.reference)["issue"] == 41


class Endless(Github):
    """Answers endlessly, or with a small body that unpacks to a huge one."""

    def __init__(self, *, packed: bool) -> None:
        super().__init__()
        self.packed = gzip.compress(b" " * (64 << 20), 1) if packed else b""

    async def answer(self, request: web.Request, raw: bytes, body: Any) -> web.StreamResponse:
        if self.packed:
            return web.Response(body=self.packed, headers={"Content-Encoding": "gzip"})
        response = web.StreamResponse(headers={"Content-Length": str(1 << 40)})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b" " * (1 << 20))
        return response


@pytest.mark.parametrize("packed", [False, True])
async def test_an_endless_response_is_not_held_in_memory(packed: bool) -> None:
    async with Endless(packed=packed).up() as peer, OpenChannel(of(peer, timeout=10.0)) as opened:
        tracemalloc.start()
        try:
            with pytest.raises(NotDelivered, match="more than 16 MiB"):
                await opened.deliver(GOOD[0])
            assert tracemalloc.get_traced_memory()[1] < 64 << 20
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("template", ["{{ 'x' * 10000000 }}", "{{ [title] * 9999999 }}", "{{ 9 ** 9999999 }}"])
def test_a_template_cannot_fill_the_memory(template: str) -> None:
    assert Text(template, None).of(GOOD[0], "default text") == "default text"
    assert Text("{{ 2 * 3.5 }}", None).of(GOOD[0], "default text") == "7.0"


async def test_a_long_error_page_does_not_block_the_loop(sink: Sink) -> None:
    sink.trouble = [web.Response(status=500, text="<p>" * (5 << 20))]
    async with OpenChannel(of(sink).model_copy(update={"timeout": 10.0})) as opened:
        began = time.thread_time()
        with pytest.raises(NotDelivered, match=r"answered 500: <p><p>.*…"):
            await opened.deliver(GOOD[0])
    assert time.thread_time() - began < 0.4, "seconds that the loop worked for it; it was 0.7"


class Unending(Sink):
    """Accepts a request, answers, and never ends the body."""

    async def answer(self, request: web.Request, raw: bytes, body: Any) -> web.StreamResponse:
        await super().answer(request, raw, body)
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"taken")
        await self._over.wait()
        return response


@pytest.mark.parametrize("by", ["webhook", "slack"])
async def test_an_endless_response_causes_no_second_delivery(by: str) -> None:
    async with Unending().up() as sink:
        made = of(sink) if by == "webhook" else settings("slack", webhook_url=f"{sink.url}/hook", timeout=1.0)
        async with OpenChannel(made) as opened:
            await opened.deliver(GOOD[0])
    assert len(sink.taken) == 1


@pytest.mark.parametrize("kind", [Github, Grafana])
async def test_an_html_response_causes_no_second_delivery(kind: type[Github] | type[Grafana]) -> None:
    async with kind().up() as peer, OpenChannel(of(peer)) as opened:
        peer.trouble = [web.Response(text="<html>log in, please</html>", content_type="text/html")]
        with pytest.raises(NotDelivered, match="expected a list"):
            await opened.deliver(ALL[1], retry=True)
    assert [method for method, _, _ in peer.requests] == ["GET"]


@pytest.mark.parametrize("kind", ["slack", "github", "grafana"])
async def test_a_wrong_token_is_reported_without_it(kind: str) -> None:
    peer = {"slack": Slack, "github": Github, "grafana": Grafana}[kind]()
    async with peer.up(), OpenChannel(of(peer, token="another-token-than-it-knows")) as opened:
        with pytest.raises(NotDelivered) as failed:
            await opened.channel.check_access()
    assert "another-token" not in str(failed.value)


async def test_the_console_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "responder.notifications")
    async with OpenChannel(settings("console")) as opened:
        await opened.deliver(notification(begun=HOSTILE))
    (record,) = caplog.records
    assert "\n" not in record.getMessage()
    assert record.getMessage().startswith("Rollback accepted: backend in production")


def test_a_message_of_mail_is_the_same_each_time(mail_by: Callable[..., Any], files: tuple[Path, Path]) -> None:
    channel = mail_by(Mail("tls", files), port=1).open()
    assert isinstance(channel, Email)
    once, twice = (channel.message(GOOD[0], "") for _ in range(2))
    assert once["Message-ID"] == twice["Message-ID"] == "<e-1@shop.test>"
    assert once["Date"] == twice["Date"]
