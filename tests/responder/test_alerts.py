"""Every body that Alertmanager, Grafana or vmalert sends is read; any other is refused with its place."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from responder.alerts import MAX_DEPTH, NEVER, fingerprint, path_of, read_body
from responder.errors import Invalid
from tests.responder.examples import LABELS, NOW, as_bytes, sent_alert, sent_body

ALERT = sent_alert(startsAt="2026-11-23T21:59:00.123Z")


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"notification_reason": "first notification"},
        {"notification_reason": "repeat interval elapsed", "routeLabels": {"team": "shop"}},
        {"a_field_of_next_year": {"deep": [1, 2]}},
        # Grafana Alerting.
        {"version": "1", "orgId": 1, "title": "[FIRING:1]", "state": "alerting", "message": "**Firing**"},
    ],
)
def test_bodies_of_alertmanager_and_grafana_are_read(extra: dict[str, Any]) -> None:
    group = read_body(as_bytes(sent_body(ALERT, **extra)), NOW)
    assert group.receiver == "web\\.hook"
    assert group.truncated_alerts == 0
    (alert,) = group.alerts
    assert alert.name == "BackendDown"
    assert alert.labels == LABELS
    assert alert.annotations == {"summary": "no answer"}
    assert alert.starts_at == datetime(2026, 11, 23, 21, 59, 0, 123000, tzinfo=UTC)
    assert alert.ends_at == NEVER
    assert alert.fingerprint == fingerprint(LABELS)


def test_what_grafana_adds_to_an_alert_does_not_matter() -> None:
    grafana = {**ALERT, "values": {"B": 22.5}, "valueString": "[ var='B' ]", "silenceURL": "", "dashboardURL": ""}
    assert read_body(as_bytes(sent_body(grafana, version="1")), NOW).alerts[0].labels == LABELS


def test_fields_that_may_be_missing() -> None:
    least = {k: ALERT[k] for k in ("status", "labels", "startsAt", "fingerprint")}
    group = read_body(as_bytes({"version": "4", "alerts": [least]}), NOW)
    assert group.alerts[0].annotations == {}
    assert group.alerts[0].ends_at == NEVER
    assert group.truncated_alerts == 0


def test_truncated_alerts_are_told() -> None:
    assert read_body(as_bytes(sent_body(ALERT, truncatedAlerts=7)), NOW).truncated_alerts == 7


def test_times_are_compared_in_one_zone() -> None:
    group = read_body(as_bytes(sent_body({**ALERT, "startsAt": "2026-11-23T23:59:00+02:00"})), NOW)
    assert group.alerts[0].starts_at == datetime(2026, 11, 23, 21, 59, tzinfo=UTC)


@pytest.mark.parametrize(
    "when", ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00+10:00", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-10:00"]
)
def test_no_time_at_the_edges_of_the_calendar_is_a_crash(when: str) -> None:
    body = as_bytes(sent_body({**ALERT, "endsAt": when}))
    try:
        assert read_body(body, NOW).alerts[0].ends_at.tzinfo is UTC
    except Invalid as refused:
        assert refused.where == "alerts[0].endsAt"


# --- bare lists ---
def posted(**other: Any) -> dict[str, Any]:
    return {"labels": LABELS, "startsAt": "2026-11-23T21:59:00Z", "generatorURL": "http://vmalert/x", **other}


def test_the_bare_list_of_vmalert_gets_status_and_fingerprint() -> None:
    group = read_body(as_bytes([posted(endsAt="2026-11-23T22:05:00Z", annotations={"a": "b"})]), NOW)
    (alert,) = group.alerts
    assert (alert.status, alert.fingerprint, alert.annotations) == ("firing", fingerprint(LABELS), {"a": "b"})


@pytest.mark.parametrize(
    ("ends_at", "status"),
    [
        (None, "firing"),
        ("0001-01-01T00:00:00Z", "firing"),
        ("2026-11-23T22:00:01Z", "firing"),
        ("2026-11-23T22:00:00Z", "resolved"),
        ("2026-11-23T21:59:59Z", "resolved"),
    ],
)
def test_a_posted_alert_is_over_once_its_end_has_come(ends_at: str | None, status: str) -> None:
    one = posted(endsAt=ends_at) if ends_at else posted()
    assert read_body(as_bytes([one]), NOW).alerts[0].status == status


def test_a_label_with_an_empty_value_is_no_label() -> None:
    one = read_body(as_bytes([posted(labels={**LABELS, "team": ""})]), NOW).alerts[0]
    assert one.labels == LABELS
    assert one.fingerprint == fingerprint(LABELS)


def test_what_postgres_has_no_text_for_is_replaced() -> None:
    odd = {**ALERT, "labels": {**LABELS, "service": "back\0end"}, "annotations": {"reason": "a\0b"}}
    (alert,) = read_body(as_bytes(sent_body(odd)), NOW).alerts
    assert (alert.labels["service"], alert.annotations["reason"]) == ("back\ufffdend", "a\ufffdb")


def test_an_empty_list_is_no_alerts() -> None:
    assert read_body(b" \n[]", NOW).alerts == ()


# --- fingerprints ---
# The second is from prometheus/common `model/signature_test.go`.
@pytest.mark.parametrize(
    ("labels", "expected"),
    [({}, 14695981039346656037), ({"name": "garland, briggs", "fear": "love is not enough"}, 5799056148416392346)],
)
def test_the_fingerprint_is_the_one_of_prometheus(labels: dict[str, str], expected: int) -> None:
    assert fingerprint(labels) == f"{expected:016x}"


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=5)))
def test_the_order_of_labels_does_not_matter(labels: dict[str, str]) -> None:
    assert fingerprint(labels) == fingerprint(dict(reversed(labels.items())))


def test_moving_text_from_a_name_to_its_value_is_another_alert() -> None:
    assert fingerprint({"ab": "c"}) != fingerprint({"a": "bc"})


# --- refusals ---
def without(key: str) -> dict[str, Any]:
    return {k: v for k, v in ALERT.items() if k != key}


@pytest.mark.parametrize(
    ("body", "where", "says"),
    [
        (sent_body(ALERT, version="5"), "version", "not Alertmanager's webhook version 4"),
        (sent_body(ALERT, version=4), "version", "not Alertmanager's webhook version 4"),
        ({"alerts": []}, "version", "not Alertmanager's webhook version 4"),
        ({"version": "4"}, "alerts", "required"),
        ({"version": "4", "alerts": {}}, "alerts", "array"),
        ("text", "body", "object"),
        (None, "body", "object"),
        (sent_body(ALERT, without("labels")), "alerts[1].labels", "required"),
        (sent_body(without("status")), "alerts[0].status", "required"),
        (sent_body({**ALERT, "status": "suppressed"}), "alerts[0].status", "firing"),
        (sent_body(without("startsAt")), "alerts[0].startsAt", "required"),
        (sent_body({**ALERT, "startsAt": "2026-11-23T22:00:00"}), "alerts[0].startsAt", "time zone"),
        (sent_body({**ALERT, "startsAt": "yesterday"}), "alerts[0].startsAt", "datetime"),
        (sent_body(without("fingerprint")), "alerts[0].fingerprint", "required"),
        (sent_body({**ALERT, "fingerprint": "xyz"}), "alerts[0].fingerprint", "match"),
        (sent_body({**ALERT, "labels": {"a": 5}}), "alerts[0].labels.a", "string"),
        (sent_body({**ALERT, "labels": {"a": None}}), "alerts[0].labels.a", "string"),
        (sent_body({**ALERT, "labels": {"a": "x" * 1025}}), "alerts[0].labels.a", "1024"),
        (sent_body({**ALERT, "labels": {f"l{i}": "" for i in range(65)}}), "alerts[0].labels", "64"),
        (sent_body({**ALERT, "annotations": {"a": "x" * 16385}}), "alerts[0].annotations.a", "16384"),
        (sent_body(ALERT, truncatedAlerts=-1), "truncatedAlerts", "greater"),
        ({"version": "4", "alerts": [ALERT] * 2001}, "alerts", "2000"),
        ([posted(startsAt="now")], "[0].startsAt", "datetime"),
        ([posted()] * 2001, "body", "2000"),
        ([5], "[0]", "object"),
    ],
)
def test_nonsense_is_refused_with_its_place(body: Any, where: str, says: str) -> None:
    with pytest.raises(Invalid, match=says) as refused:
        read_body(as_bytes(body), NOW)
    assert refused.value.where == where


def test_a_label_name_that_is_too_long_or_empty_is_refused() -> None:
    for name in ("", "n" * 129):
        with pytest.raises(Invalid) as refused:
            read_body(as_bytes(sent_body({**ALERT, "labels": {name: "x"}})), NOW)
        assert refused.value.where.startswith("alerts[0].labels")


@pytest.mark.parametrize(
    "body", [b"", b"   ", b"{", b"nonsense", b"\xff\xfe", b'{"version": "4", "alerts": []} x', b"[1,]"]
)
def test_what_is_not_json_is_refused(body: bytes) -> None:
    with pytest.raises(Invalid, match="Invalid JSON") as refused:
        read_body(body, NOW)
    assert refused.value.where == "body"


@pytest.mark.parametrize(
    "body",
    [b"[" * 100_000, b'{"a":' * 100_000, b'{"version":"4","alerts":[],"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"],
)
def test_deep_nesting_is_refused_and_quickly(body: bytes) -> None:
    began = time.perf_counter()
    with pytest.raises(Invalid) as refused:
        read_body(body, NOW)
    assert refused.value.where == "body"
    assert time.perf_counter() - began < 0.5


@pytest.mark.parametrize(("levels", "fine"), [(MAX_DEPTH - 1, True), (MAX_DEPTH, False)])
def test_the_limit_of_nesting(levels: int, fine: bool) -> None:
    deep: Any = 0
    for _ in range(levels):
        deep = [deep]
    body = as_bytes(sent_body(ALERT, more=deep))
    if fine:
        read_body(body, NOW)
    else:
        with pytest.raises(Invalid, match="nested deeper than 8 levels"):
            read_body(body, NOW)


@pytest.mark.parametrize("text", ["[[[[[[[[[[[[", '\\"{{{{{{{{{{{{', "}}}}]]]]", '"', "\\", "\n\u2028", "☃" * 5])
def test_brackets_and_quotes_inside_text_are_text(text: str) -> None:
    body = as_bytes(sent_body({**ALERT, "annotations": {"summary": text}}))
    assert read_body(body, NOW).alerts[0].annotations == {"summary": text}


@given(
    st.recursive(
        st.none() | st.booleans() | st.text(max_size=5), lambda x: st.lists(x) | st.dictionaries(st.text(max_size=3), x)
    )
)
def test_any_json_is_read_or_refused(value: Any) -> None:
    try:
        read_body(json.dumps(value).encode(), NOW)
    except Invalid as refused:
        assert refused.where


def test_a_place_is_written_as_people_write_it() -> None:
    assert path_of(("alerts", 3, "labels")) == "alerts[3].labels"
    assert path_of((0, "labels")) == "[0].labels"
    assert path_of(()) == ""


def test_two_thousand_alerts_are_read_within_reason() -> None:
    body = as_bytes({"version": "4", "alerts": [ALERT] * 2000})
    began = time.perf_counter()
    assert len(read_body(body, NOW + timedelta(days=1)).alerts) == 2000
    assert time.perf_counter() - began < 2
