"""Errors in channels and templates are reported at startup, with their path."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from foundation import registry
from responder.app.loading import parse
from responder.app.settings import Config
from responder.errors import ConfigError
from responder.notify import Channel, ChannelSettings, Notify
from responder.notify.notification import VARIABLES
from responder.notify.routing import channels_model
from tests.responder.notify.conftest import PLANNED, STARTED, notification

BASE = """
state: sqlite:////tmp/state.db
prometheus: {url: http://localhost:9090}
alertmanager: {urls: [http://localhost:9093]}
services:
  - name: backend
    environment: production
    rollback: {strategy: immediate, release: {root: /srv/backend}}
    health_checks: [{http: "http://localhost/health"}]
policies:
  - {name: p, match: ['a="b"'], roll_back: [backend], notify: [slack]}
  - {name: only, match: ['c="d"'], notify: [slack]}
"""
SLACK = {"token": "${T}", "channel": "#ops"}
AUTOESCAPE = "{% autoescape false %}{{ title }}{% endautoescape %}"
MAIL = {"host": "mail.test", "from": "a@b.test", "to": ["c@d.test"]}
HOOK = {"url": "http://localhost/hook", "secret": "0123456789abcdef"}


def read(notify: Mapping[str, Any], base: str = BASE) -> Config:
    return parse(base + yaml.safe_dump({"notify": notify}), "r.yml", {"T": "xoxb-1", "EMPTY": ""})


def mistakes(notify: Mapping[str, Any], base: str = BASE) -> str:
    with pytest.raises(ConfigError) as failed:
        read(notify, base)
    return "\n".join(failed.value.mistakes)


@pytest.mark.parametrize(
    ("notify", "mistake"),
    [
        ({"slack": {**SLACK, "webhook_url": "https://x"}}, "notify.slack: needs either token (or token_file)"),
        ({"slack": {"token": "${T}"}}, "notify.slack: channel is missing"),
        (
            {"slack": {"webhook_url": "https://x", "channel": "#ops"}},
            "channel is only for a token: a webhook has its own",
        ),
        ({"slack": {"webhook_url": "hooks.slack.com"}}, "webhook_url is not a URL"),
        ({"slack": {**SLACK, "token": "${EMPTY}"}}, "token is empty"),
        ({"slack": {"token_file": "/nowhere/token", "channel": "#ops"}}, "/nowhere/token cannot be read"),
        ({"slack": {**SLACK, "mention": "<!channel>"}}, "notify.slack.mention"),
        ({"slack": {**SLACK, "chanel": "#x"}}, "notify.slack.chanel: unknown key (did you mean channel?)"),
        (
            {"slack": {**SLACK, "severities": ["critcal"]}},
            "notify.slack.severities[0]: critcal is not in notify.severities (did you mean critical?)",
        ),
        ({"slack": {**SLACK, "stages": ["stuk"]}}, "notify.slack.stages[0]"),
        ({"slack": {**SLACK, "stages": ["stuck"]}}, "policies[1].notify[0]: channel slack does not deliver alerts"),
        (
            {"slack": [{**SLACK, "name": "slack"}, {**SLACK, "name": "slack"}]},
            "notify.slack[1].name: slack is the name",
        ),
        (
            {"slack": [{**SLACK, "name": "slak"}]},
            "policies[0].notify[0]: no channel slack is configured (did you mean sl",
        ),
        ({"slack": SLACK, "escalate": {"after": "10m", "to": ["emial"]}}, "notify.escalate.to[0]: no channel emial"),
        ({"slack": SLACK, "escalate": {"after": "10m", "for": ["lunch"], "to": ["slack"]}}, "notify.escalate.for[0]"),
        (
            {"slack": {**SLACK, "templates": {"text": "{{ title"}}},
            "notify.slack.templates.text: not a template: line 1",
        ),
        (
            {"slack": {**SLACK, "templates": {"text": "{{ titel }}"}}},
            "unknown variable titel in a template (did you mean title?)",
        ),
        ({"slack": {**SLACK, "templates": {"text": "{{ title | safe }}"}}}, "line 1: No filter named 'safe'"),
        (
            {"slack": SLACK, "email": {**MAIL, "templates": {"html": AUTOESCAPE}}},
            "notify.email.templates.html: escaping cannot be switched off",
        ),
        (
            {"slack": SLACK, "email": {**MAIL, "templates": {"text": "{% include '/etc/passwd' %}"}}},
            "cannot load another",
        ),
        (
            {"slack": SLACK, "email": {**MAIL, "security": "none"}},
            "notify.email.security: none is only for a server on a loop",
        ),
        ({"slack": SLACK, "email": {**MAIL, "to": ["a@b.test\r\nBcc: e@f.test"]}}, "notify.email.to[0]: "),
        ({"slack": SLACK, "email": {**MAIL, "to": []}}, "notify.email.to"),
        ({"slack": SLACK, "email": {**MAIL, "username": "me"}}, "needs exactly one of password, password_file"),
        ({"slack": SLACK, "email": {**MAIL, "password": "x"}}, "a password needs a username"),
        ({"slack": SLACK, "email": {**MAIL, "ca_file": "/etc/hostname"}}, "holds no certificates"),
        ({"slack": SLACK, "webhook": {**HOOK, "secret": "short"}}, "secret is too short: at least 16 characters"),
        ({"slack": SLACK, "webhook": {**HOOK, "secret_file": "/x"}}, "needs exactly one of secret, secret_file"),
        (
            {"slack": SLACK, "webhook": {**HOOK, "templates": {"body": {"a": [{"b": "{{ x }}"}]}}}},
            "notify.webhook.templates.body: a: [0]: b: unknown variable x in a template",
        ),
        ({"slack": SLACK, "github": {"repository": "shop", "token": "t"}}, "notify.github.repository"),
        ({"slack": SLACK, "grafana": {"url": "http://g", "token": "t"}, "give_up_after": "1s"}, "notify.give_up_after"),
        ({"teams": {}, "slack": SLACK}, "notify.teams: unknown key"),
    ],
)
def test_an_error_has_its_path(notify: dict[str, Any], mistake: str) -> None:
    found = mistakes(notify)
    assert mistake in found
    assert "xoxb-1" not in found


def test_a_policy_needs_an_action() -> None:
    base = BASE.replace(", notify: [slack]}\n  - {name: only", "}\n  - {name: only").replace(", notify: [slack]", "")
    assert "has no effect: set one of roll_back, preserve_logs, notify" in mistakes({"slack": SLACK}, base)


def test_a_key_takes_one_channel_or_several() -> None:
    single = read({"slack": SLACK}).notify
    assert list(single.channels) == ["slack"]
    several = read(
        {"slack": [{**SLACK, "name": "slack"}, {**SLACK, "name": "oncall", "severities": ["critical"]}]}
    ).notify
    assert several.channels_for("stuck", "critical", None) == ("slack", "oncall")
    assert several.channels_for("stuck", "warning", None) == ("slack",)
    assert several.channels_for("stuck", "catastrophe", None) == ("slack", "oncall"), "an unknown severity is delivered"
    assert several.channels_for("stuck", "", None) == ("slack", "oncall")
    assert several.channels_for("stuck", "critical", ("oncall",)) == ("oncall",)
    assert several.channels_for("denied", "critical", None) == ()


class Pager(ChannelSettings):
    """Pages people."""

    team: str

    def open(self) -> Channel:
        raise NotImplementedError


def test_a_channel_of_another_distribution_has_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("pager", f"{__name__}:Pager", "rollback_responder.channels")
    monkeypatch.setitem(sys.modules, __name__, sys.modules[Pager.__module__])
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    channels = channels_model(registry.Registry("channel", group="rollback_responder.channels", builtin={}))
    (pager,) = channels.model_validate({"pager": {"team": "shop"}}).pager  # type: ignore[attr-defined]
    assert (type(pager).__name__, pager.name, pager.team) == ("Pager", "pager", "shop")
    with pytest.raises(ValidationError, match=r"pager\.0\.team"):
        channels.model_validate({"pager": {}})


def test_secrets_do_not_show() -> None:
    config = read({"slack": SLACK, "webhook": HOOK})
    assert "xoxb-1" not in f"{config!r} {config.model_dump_json()}"
    assert "0123456789abcdef" not in f"{config!r} {config.model_dump_json()}"


def test_a_secret_in_a_file_is_read_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("xoxb-file\n")
    (slack,) = read({"slack": {"token_file": str(tmp_path / "token"), "channel": "C1"}}).notify.slack
    assert slack.credential == "xoxb-file"


@pytest.mark.parametrize(
    "template",
    [
        "{{ title.__class__.__mro__ }}",
        "{{ ''.__class__ }}",
        "{{ steps.append(1) }}",
        "{{ range(10000000) | length }}",
        "{{ alerts[7].name }}",
        "{{ 1 / 0 }}",
    ],
)
async def test_a_failing_template_delivers_the_default_text(template: str) -> None:
    notify = Notify.model_validate({"email": {**MAIL, "templates": {"text": template}}})
    channel = notify.email[0].open()
    message = channel.message(notification(PLANNED, STARTED), "")
    text = message.get_body(("plain",))
    assert text is not None
    assert "Rolling back: backend in production 2.1 → 2.0" in text.get_content()
    assert "class" not in text.get_content()


def test_every_variable_can_be_named() -> None:
    template = "".join(f"{{{{ {name} }}}}" for name in sorted(VARIABLES))
    notify = Notify.model_validate({"email": {**MAIL, "templates": {"text": template}}})
    text = notify.email[0].open().message(notification(PLANNED, STARTED), "").get_body(("plain",))
    assert text is not None
    assert "2026-11-23 22:00:00 UTC" in text.get_content()
