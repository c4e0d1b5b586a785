"""The channel that a new setup sends notifications to."""

from __future__ import annotations

import socket
from typing import Any, NamedTuple

from foundation.configuration.suggestions import meant
from responder.errors import Invalid

KINDS = ("slack", "webhook", "email", "console")
EXPECTED = "expected slack:URL, webhook:URL, email:ADDRESS or console"


class NewChannel(NamedTuple):
    """A key of `notify` with its settings, and its secrets by file name."""

    kind: str
    settings: dict[str, Any]
    secrets: dict[str, str]


def channel_of(text: str, tokens: str, secret: str) -> NewChannel:
    """The channel that a text such as `slack:https://hooks.slack.com/…` names. Raises Invalid.

    Addresses with a password in them become files in the directory `tokens`; `secret` signs webhooks.
    """
    kind, _, target = text.partition(":")
    if kind not in KINDS:
        raise Invalid(f"--channel {kind}: {EXPECTED}{meant(kind, KINDS)}")
    if kind == "console":
        return NewChannel("console", {}, {})
    if not target or (kind != "email" and not target.startswith(("http://", "https://"))):
        raise Invalid(f"--channel {text}: {EXPECTED}")
    if kind == "slack":
        return NewChannel(kind, {"webhook_url_file": f"{tokens}/slack.url"}, {"slack.url": target})
    if kind == "webhook":
        files = {"url_file": f"{tokens}/webhook.url", "secret_file": f"{tokens}/webhook.secret"}
        return NewChannel(kind, files, {"webhook.url": target, "webhook.secret": secret})
    if "@" not in target:
        raise Invalid(f"--channel {text}: expected an address such as email:oncall@example.com")
    sender = f"rollback-responder@{socket.gethostname()}"
    return NewChannel(kind, {"host": "127.0.0.1", "port": 25, "security": "none", "from": sender, "to": [target]}, {})
