"""Every body that Alertmanager, Grafana or vmalert sends is read; any other is refused with its path."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from responder.backends.alertmanager.alerts import NEVER, Alert, UndatedAlert, fingerprint
from responder.backends.alertmanager.webhook import (
    CUT,
    MAX_ALERTS,
    MAX_ANNOTATION,
    MAX_ANNOTATIONS,
    MAX_DEPTH,
    MAX_LABELS,
    MAX_URL,
    MAX_VALUE,
    read_body,
)
from responder.errors import Invalid
from tests import parts
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


def test_additional_fields_of_grafana_are_ignored() -> None:
    grafana = {**ALERT, "values": {"B": 22.5}, "valueString": "[ var='B' ]", "silenceURL": "", "dashboardURL": ""}
    assert read_body(as_bytes(sent_body(grafana, version="1")), NOW).alerts[0].labels == LABELS


def test_optional_fields_can_be_missing() -> None:
    least = {k: ALERT[k] for k in ("status", "labels", "startsAt", "fingerprint")}
    group = read_body(as_bytes({"version": "4", "alerts": [least]}), NOW)
    assert group.alerts[0].annotations == {}
    assert group.alerts[0].ends_at == NEVER
    assert group.truncated_alerts == 0


def test_truncated_alerts_are_reported() -> None:
    assert read_body(as_bytes(sent_body(ALERT, truncatedAlerts=7)), NOW).truncated_alerts == 7


def test_times_are_converted_to_utc() -> None:
    group = read_body(as_bytes(sent_body({**ALERT, "startsAt": "2026-11-23T23:59:00+02:00"})), NOW)
    assert group.alerts[0].starts_at == datetime(2026, 11, 23, 21, 59, tzinfo=UTC)


@pytest.mark.parametrize(
    "when", ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00+10:00", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-10:00"]
)
def test_times_at_the_edges_of_the_calendar_do_not_crash(when: str) -> None:
    body = as_bytes(sent_body({**ALERT, "endsAt": when}))
    group = read_body(body, NOW)
    assert [alert.ends_at.tzinfo for alert in group.alerts] + [refusal.where for refusal in group.refused] in (
        [UTC],
        ["alerts[0].endsAt"],
    )


# --- bare lists ---
def posted(**other: Any) -> dict[str, Any]:
    return {"labels": LABELS, "startsAt": "2026-11-23T21:59:00Z", "generatorURL": "http://vmalert/x", **other}


def test_a_list_of_vmalert_gets_status_and_fingerprint() -> None:
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
def test_a_posted_alert_is_resolved_after_its_end(ends_at: str | None, status: str) -> None:
    item = posted(endsAt=ends_at) if ends_at else posted()
    assert read_body(as_bytes([item]), NOW).alerts[0].status == status


def test_a_label_with_an_empty_value_is_dropped() -> None:
    alert = read_body(as_bytes([posted(labels={**LABELS, "team": ""})]), NOW).alerts[0]
    assert alert.labels == LABELS
    assert alert.fingerprint == fingerprint(LABELS)


def test_characters_that_postgres_cannot_store_are_replaced() -> None:
    odd = {**ALERT, "labels": {**LABELS, "service": "back\0end"}, "annotations": {"reason": "a\0b"}}
    (alert,) = read_body(as_bytes(sent_body(odd)), NOW).alerts
    assert (alert.labels["service"], alert.annotations["reason"]) == ("back\ufffdend", "a\ufffdb")


@pytest.mark.parametrize("when", [None, "", "0001-01-01T00:00:00Z", "absent"])
@pytest.mark.parametrize("shape", [lambda item: [item], lambda item: sent_body(item)])
def test_an_alert_without_a_start_starts_now_and_is_undated(shape: Any, when: str | None) -> None:
    item = {**ALERT, "startsAt": when}
    if when == "absent":
        del item["startsAt"]
    (alert,) = read_body(as_bytes(shape(item)), NOW).alerts
    assert (alert.starts_at, type(alert)) == (NOW, UndatedAlert)


@pytest.mark.parametrize("sent", [None, "", "absent"])
def test_a_missing_fingerprint_is_computed(sent: str | None) -> None:
    item = {**ALERT, "fingerprint": sent}
    if sent == "absent":
        del item["fingerprint"]
    assert read_body(as_bytes(sent_body(item)), NOW).alerts[0].fingerprint == fingerprint(LABELS)


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("2026-11-23T21:59:00Z", datetime(2026, 11, 23, 21, 59, tzinfo=UTC)),
        ("2026-11-23T21:59:00.123456789Z", datetime(2026, 11, 23, 21, 59, 0, 123456, tzinfo=UTC)),
        ("2026-11-23T21:59:00,5+02:00", datetime(2026, 11, 23, 19, 59, 0, 500000, tzinfo=UTC)),
        ("2026-11-23T21:59:00-0330", datetime(2026, 11, 24, 1, 29, tzinfo=UTC)),
        ("2026-11-23t21:59:00z", datetime(2026, 11, 23, 21, 59, tzinfo=UTC)),
        ("2026-11-23T21:59:00", datetime(2026, 11, 23, 21, 59, tzinfo=UTC)),
        ("2026-11-23T21:59", datetime(2026, 11, 23, 21, 59, tzinfo=UTC)),
    ],
)
def test_times_are_read_as_alertmanager_reads_them(when: str, expected: datetime) -> None:
    (alert,) = read_body(as_bytes([posted(startsAt=when)]), NOW).alerts
    assert (alert.starts_at, type(alert)) == (expected, Alert)


def test_an_empty_list_has_no_alerts() -> None:
    assert read_body(b" \n[]", NOW).alerts == ()


# --- fingerprints ---
# The second is from prometheus/common `model/signature_test.go`.
@pytest.mark.parametrize(
    ("labels", "expected"),
    [({}, 14695981039346656037), ({"name": "garland, briggs", "fear": "love is not enough"}, 5799056148416392346)],
)
def test_the_fingerprint_equals_that_of_prometheus(labels: dict[str, str], expected: int) -> None:
    assert fingerprint(labels) == f"{expected:016x}"


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=5)))
def test_the_order_of_labels_does_not_matter(labels: dict[str, str]) -> None:
    assert fingerprint(labels) == fingerprint(dict(reversed(labels.items())))


def test_moving_text_from_a_label_name_to_its_value_changes_the_fingerprint() -> None:
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
        (sent_body(ALERT, truncatedAlerts=-1), "truncatedAlerts", "greater"),
        (sent_body(ALERT, truncatedAlerts="2"), "truncatedAlerts", "whole number"),
        ([5], "[0]", "object"),
        ({"version": "4", "alerts": ["x", None]}, "alerts[0]", "object"),
    ],
)
def test_an_invalid_body_is_refused_with_its_path(body: Any, where: str, says: str) -> None:
    with pytest.raises(Invalid, match=says) as refused:
        read_body(as_bytes(body), NOW)
    assert refused.value.where == where


ODD = [
    (5, "", "object"),
    (None, "", "object"),
    ([], "", "object"),
    (without("labels"), ".labels", "required"),
    ({**ALERT, "labels": None}, ".labels", "required"),
    ({**ALERT, "labels": {}}, ".labels", "at least one label"),
    ({**ALERT, "labels": {"a": ""}}, ".labels", "at least one label"),
    ({**ALERT, "labels": {"a": 5}}, ".labels.a", "string, not a number"),
    ({**ALERT, "labels": {"a": True}}, ".labels.a", "string, not a boolean"),
    ({**ALERT, "labels": {"a": "x" * (MAX_VALUE + 1)}}, ".labels.a", "1025 characters, at most 1024"),
    ({**ALERT, "labels": {f"l{i}": "" for i in range(MAX_LABELS + 1)}}, ".labels", "65 labels, at most 64"),
    ({**ALERT, "labels": {"": "x"}}, ".labels.", "label name"),
    ({**ALERT, "labels": {"n" * 129: "x"}}, ".labels." + "n" * 53 + CUT, "label name"),
    ({**ALERT, "labels": {"a\0": "x"}}, ".labels.a\ufffd", "label name"),
    (without("status"), ".status", "required"),
    ({**ALERT, "status": "suppressed"}, ".status", "firing or resolved"),
    ({**ALERT, "status": ["firing"]}, ".status", "firing or resolved"),
    ({**ALERT, "startsAt": "2026-11-23T22:00:00"}, ".startsAt", "time zone"),
    ({**ALERT, "startsAt": "yesterday"}, ".startsAt", "datetime"),
    ({**ALERT, "startsAt": 1764000000}, ".startsAt", "string, not a number"),
    ({**ALERT, "startsAt": "2026-02-30T22:00:00Z"}, ".startsAt", "datetime"),
    ({**ALERT, "startsAt": "٢٠٢٦-11-23T22:00:00Z"}, ".startsAt", "datetime"),
    ({**ALERT, "endsAt": "9999-12-31T23:59:59-10:00"}, ".endsAt", "calendar"),
    ({**ALERT, "fingerprint": "xyz"}, ".fingerprint", "hexadecimal"),
    ({**ALERT, "fingerprint": 7}, ".fingerprint", "hexadecimal"),
    ({**ALERT, "annotations": ["x"]}, ".annotations", "object, not an array"),
    ({**ALERT, "annotations": {"a": 5}}, ".annotations.a", "string, not a number"),
    ({**ALERT, "generatorURL": 5}, ".generatorURL", "string, not a number"),
]


@pytest.mark.parametrize(("odd", "where", "says"), ODD)
def test_an_error_in_one_alert_refuses_only_that_alert(odd: Any, where: str, says: str) -> None:
    group = read_body(as_bytes(sent_body(ALERT, odd, sent_alert({"alertname": "Other"}))), NOW)
    assert [alert.name for alert in group.alerts] == ["BackendDown", "Other"]
    (refused,) = group.refused
    assert refused.where == f"alerts[1]{where}"
    assert says in refused.reason


def test_an_error_in_a_list_refuses_only_that_alert() -> None:
    group = read_body(as_bytes([posted(startsAt="now"), posted(), posted(endsAt="2026-11-20T00:00:00Z")]), NOW)
    assert len(group.alerts) == 1
    assert [(refusal.where, refusal.reason) for refusal in group.refused] == [
        ("[0].startsAt", "is not a datetime such as 2026-11-23T22:00:00Z: now"),
        ("[2].startsAt", "is after endsAt"),
    ]


def test_a_refused_alert_keeps_its_identifying_labels() -> None:
    odd = {**ALERT, "labels": {**LABELS, "severity": "critical", "long": "x" * 1100}}
    (refused,) = read_body(as_bytes(sent_body(odd)), NOW).refused
    assert refused.labels == {**LABELS, "severity": "critical"}


def test_invalid_utf_8_affects_only_its_own_text() -> None:
    body = as_bytes(sent_body({**ALERT, "labels": {**LABELS, "team": "TEAM", "zone": "\ud800x"}}, ALERT))
    group = read_body(body.replace(b"TEAM", b"caf\xe9"), NOW)
    assert [alert.labels.get("team") for alert in group.alerts] == ["caf\ufffd", None]
    assert group.alerts[0].labels["zone"] == "\ufffdx"
    assert group.refused == ()


@pytest.mark.parametrize("body", [b'{"version": "4", "alerts": [], "x": NaN}', b"[Infinity]", b'{"a": 1' + b"0" * 5000])
def test_python_extensions_of_json_are_refused(body: bytes) -> None:
    with pytest.raises(Invalid, match="Invalid JSON"):
        read_body(body, NOW)


# --- text that identifies nothing is cut ---
@pytest.mark.parametrize("length", [MAX_ANNOTATION, MAX_ANNOTATION + 1, 17_000, 100_000])
def test_a_long_annotation_is_cut_with_a_marker(length: int) -> None:
    (alert,) = read_body(as_bytes(sent_body({**ALERT, "annotations": {"summary": "x" * length}})), NOW).alerts
    text = alert.annotations["summary"]
    assert len(text) == min(length, MAX_ANNOTATION)
    assert text.endswith(CUT) == (length > MAX_ANNOTATION)


def test_a_long_generator_url_is_cut_with_a_marker() -> None:
    (alert,) = read_body(as_bytes(sent_body({**ALERT, "generatorURL": "http://p/" + "x" * 9000})), NOW).alerts
    assert (len(alert.generator_url), alert.generator_url.endswith(CUT)) == (MAX_URL, True)


def test_important_annotations_are_kept_first() -> None:
    many = {f"a{n}": "x" for n in range(100)} | {"summary": "no answer", "reason": "because", "n" * 200: "long"}
    (alert,) = read_body(as_bytes(sent_body({**ALERT, "annotations": many})), NOW).alerts
    assert len(alert.annotations) == MAX_ANNOTATIONS
    assert (alert.annotations["summary"], alert.annotations["reason"]) == ("no answer", "because")
    assert alert.annotations[CUT] == "40 more annotations were left out"


def test_only_the_first_alerts_up_to_the_limit_are_read() -> None:
    for body, where in (({"version": "4", "alerts": [ALERT] * 2003}, "alerts[2000]"), ([posted()] * 2003, "[2000]")):
        group = read_body(as_bytes(body), NOW)
        assert (len(group.alerts), group.truncated_alerts) == (MAX_ALERTS, 3)
        assert [(refusal.where, refusal.reason) for refusal in group.refused] == [
            (where, "3 alerts beyond the limit of 2000 were not read")
        ]


@pytest.mark.parametrize(
    "body", [b"", b"   ", b"{", b"nonsense", b"\xff\xfe", b'{"version": "4", "alerts": []} x', b"[1,]"]
)
def test_invalid_json_is_refused(body: bytes) -> None:
    with pytest.raises(Invalid, match="Invalid JSON") as refused:
        read_body(body, NOW)
    assert refused.value.where == "body"


@pytest.mark.parametrize(
    "body",
    [b"[" * 100_000, b'{"a":' * 100_000, b'{"version":"4","alerts":[],"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"],
)
def test_deep_nesting_is_refused_in_linear_time(body: bytes) -> None:
    began = time.thread_time()
    with pytest.raises(Invalid) as refused:
        read_body(body, NOW)
    assert refused.value.where == "body"
    assert time.thread_time() - began < 0.5


@pytest.mark.parametrize(("levels", "fine"), [(MAX_DEPTH - 1, True), (MAX_DEPTH, False)])
def test_nesting_up_to_the_limit_is_read(levels: int, fine: bool) -> None:
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
def test_brackets_and_quotes_inside_strings_do_not_nest(text: str) -> None:
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


def test_two_thousand_alerts_are_read_quickly() -> None:
    body = as_bytes({"version": "4", "alerts": [ALERT] * 2000})
    began = time.thread_time()
    assert len(read_body(body, NOW + timedelta(days=1)).alerts) == 2000
    assert time.thread_time() - began < 2


# --- against the real Alertmanager ---
async def test_alerts_that_alertmanager_accepts_are_accepted_unchanged(tmp_path: Path) -> None:
    """Each variant is posted to both, and has the same fingerprint in both."""
    text = {"newline": "a\nb", "control": "\x01", "nul": "a\0b", "accents": "Zoë ☃ \U0001d4b3", "half": "a\ud800b"}
    variants: list[dict[str, Any]] = [
        {"labels": {"alertname": "Text", "case": name, "value": value}}
        for name, value in (*text.items(), ("empty", ""), ("null", None))
    ]
    cases: list[dict[str, Any]] = [
        {},
        {"startsAt": None},
        {"startsAt": "2026-11-23T21:59:00"},
        {"startsAt": "2026-11-23T21:59"},
        {"startsAt": "2026-11-23T21:59:00.123456789Z"},
        {"startsAt": "2026-11-23T21:59:00.5+02:00"},
        {"startsAt": "2026-11-23T21:59:00,5Z"},
        {"startsAt": "1969-01-01T00:00:00Z"},
        {"startsAt": "0001-01-01T00:00:00Z"},
        {"annotations": None},
        {"annotations": {"a": None}},
        {"annotations": {"a": "x" * 20_000}},
        {"generatorURL": None},
        {"generatorURL": ""},
        {"generatorURL": "http://p/" + "x" * 9000},
        {"status": "resolved", "fingerprint": "ff", "unknown": [1]},
    ]
    variants += [{"labels": {"alertname": "Fields", "case": str(n)}, **fields} for n, fields in enumerate(cases)]
    async with (
        parts.alertmanager(tmp_path, "route: {receiver: x}\nreceivers: [{name: x}]\n") as real,
        aiohttp.ClientSession(real.url) as session,
    ):
        for variant in variants:
            async with session.post("/api/v2/alerts", json=[variant]) as response:
                assert response.status == 200, (variant, await response.text())
        async with session.get("/api/v2/alerts") as response:
            theirs = {item["fingerprint"]: item for item in await response.json()}
    ours = {alert.fingerprint: alert for alert in read_body(as_bytes(variants), datetime.now(UTC)).alerts}
    assert len(ours) == len(variants)
    assert ours.keys() == theirs.keys()
    for known_as, alert in ours.items():
        began = datetime.fromisoformat(theirs[known_as]["startsAt"])
        assert isinstance(alert, UndatedAlert) or abs(alert.starts_at - began) < timedelta(milliseconds=1)
