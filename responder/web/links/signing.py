"""Signed links: one approves one plan while it awaits approval, the other stops one rollback for a day.

The link is the permission: its holder can do this one thing and nothing else. The keys are derived from the tokens
with the scope, so that every replica makes and accepts the same links, and a changed token revokes them.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime, timedelta
from urllib.parse import quote, urlencode

from responder.rollback.execution import Execution
from responder.web.access.settings import Scope, WebSettings

_STOP_WITHIN = timedelta(days=1)


class Links:
    """Creates and verifies links. There are none if no token has the scope that they need."""

    def __init__(self, settings: WebSettings) -> None:
        self._key = _key(settings, "approve", "approval link")
        self._stop_key = _key(settings, "operate", "stop link")
        self._base = settings.url

    def approve_link(self, execution: Execution) -> str | None:
        """The approval link; None unless a plan awaits approval that is reversible (approving others needs a login)."""
        plan = execution.plan
        if self._key is None or execution.state != "awaiting_approval" or not plan or plan.irreversible:
            return None
        query = {"plan": plan.hash, "signature": _sign(self._key, execution.id, plan.hash)}
        return f"{self._base}/approve/{quote(execution.id)}?{urlencode(query)}"

    def stop_link(self, execution: Execution) -> str | None:
        """The stop link, valid for a day; None if the rollback can no longer be stopped."""
        if self._stop_key is None or execution.state not in ("accepted", "awaiting_approval", "running"):
            return None
        ends = str(int((execution.accepted.at + _STOP_WITHIN).timestamp()))
        query = {"until": ends, "signature": _sign(self._stop_key, execution.id, ends)}
        return f"{self._base}/stop/{quote(execution.id)}?{urlencode(query)}"

    def both(self, execution: Execution) -> tuple[str, str]:
        """The approval link and the stop link, for a notification; empty if there is none."""
        return self.approve_link(execution) or "", self.stop_link(execution) or ""

    def allows(self, execution_id: str, plan: str, signature: str) -> bool:
        return _signed(self._key, signature, execution_id, plan)

    def allows_stop(self, execution_id: str, until: str, signature: str, now: datetime) -> bool:
        return _signed(self._stop_key, signature, execution_id, until) and now.timestamp() < int(until)


def _key(settings: WebSettings, scope: Scope, purpose: str) -> bytes | None:
    # A secret in the key can sign for every service, so tokens with limits are left out.
    secrets = sorted(token.secret for token in settings.tokens if scope in token.scopes and not token.limited)
    return hashlib.sha256("\0".join([purpose, *secrets]).encode()).digest() if secrets else None


def _sign(key: bytes, *parts: str) -> str:
    return hmac.new(key, "\0".join(parts).encode(errors="surrogateescape"), hashlib.sha256).hexdigest()


def _signed(key: bytes | None, signature: str, *parts: str) -> bool:
    if key is None:
        return False
    return hmac.compare_digest(_sign(key, *parts).encode(), signature.encode(errors="surrogateescape"))
