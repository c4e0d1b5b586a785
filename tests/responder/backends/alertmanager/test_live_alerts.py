"""Answers of Alertmanager are read alert by alert, whatever white space is between them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from responder.backends.alertmanager.live_alerts import LiveAlert, LiveAlerts, State, read_alerts


def raw(fingerprint: str = "1" * 16, state: State = "active", **more: Any) -> dict[str, Any]:
    status = {"state": state, "silencedBy": [], "inhibitedBy": []}
    return {"fingerprint": fingerprint, "labels": {"service": "backend"}, "status": status, **more}


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_every_alert_is_read(count: int, indent: int | None) -> None:
    body = json.dumps([raw(f"{n:016x}") for n in range(count)], indent=indent)
    assert [alert.fingerprint for alert in read_alerts(f" {body}\n".encode())] == [f"{n:016x}" for n in range(count)]


def test_the_start_is_in_utc() -> None:
    (alert,) = read_alerts(json.dumps([raw(startsAt="2026-11-30T10:00:00.123456789+02:00")]).encode())
    assert alert.starts_at == datetime(2026, 11, 30, 8, 0, 0, 123456, tzinfo=UTC)


@pytest.mark.parametrize("body", ["", "[", "[1", "{}", "[{}]", '"[]"', "[1 2]", "[1,]", "\udcff"])
def test_anything_else_is_refused(body: str) -> None:
    with pytest.raises(ValueError):
        read_alerts(body.encode(errors="surrogateescape"))


def test_an_alert_that_one_of_several_peers_suppresses_is_suppressed() -> None:
    states: tuple[State, ...] = ("active", "suppressed", "active")
    (alert,) = LiveAlerts(LiveAlert("1", state, {}) for state in states)
    assert alert.state == "suppressed"


def test_what_is_derived_is_kept_for_one_source() -> None:
    alerts, sources = LiveAlerts([]), [object(), object()]
    made = [alerts.derived(source, lambda _: object()) for source in (*sources, sources[1], sources[0])]
    assert made[1] is made[2]
    assert len(set(map(id, made))) == 3
