"""Alert bodies that senders post: the webhook of Alertmanager and Grafana, and the list format of Prometheus."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any, NoReturn

from foundation.configuration.yaml_document import path_text
from responder.backends.alertmanager.alerts import (
    NEVER,
    Alert,
    AlertGroup,
    RefusedAlert,
    UndatedAlert,
    aware,
    fingerprint,
)
from responder.config.text import readable, without_surrogates
from responder.errors import Invalid

# The limits of one body; docs/limits.md lists them.
MAX_ALERTS = 2000
MAX_LABELS = 64
MAX_NAME = 128
MAX_VALUE = 1024
MAX_ANNOTATIONS = 64
MAX_ANNOTATION = 16384
MAX_URL = 8192
MAX_DEPTH = 8
"""Levels of nesting. Alertmanager's own bodies have four."""

CUT = "… [cut]"
"""The end of a text that was cut at its limit."""

_TIME = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2})(?::(\d{2})(?:[.,](\d+))?)?(?:([Zz])|([+-]\d{2}):?(\d{2}))?", re.ASCII
)
_FINGERPRINT = re.compile(r"[0-9a-f]{16}")
_SHOWN_FIRST = ("summary", "description", "reason")  # annotations that messages and forced rollbacks use


class _Refused(Exception):
    """The error in one alert, with its path."""

    def __init__(self, reason: str, *path: int | str) -> None:
        super().__init__(reason)
        self.path = path


def _too_deep(value: Any, levels: int = MAX_DEPTH) -> bool:
    """Whether a JSON value nests deeper than so many levels."""
    if not isinstance(value, dict | list):
        return False
    items = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_too_deep(item, levels - 1) for item in items)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")


def _parsed(body: bytes) -> Any:
    """The JSON value of a body. Invalid UTF-8 and lone surrogates affect only the text that contains them."""
    try:
        data = json.loads(body.decode(errors="replace"), parse_constant=_no_number)
    except RecursionError:
        raise Invalid(f"nested deeper than {MAX_DEPTH} levels", "body") from None
    except ValueError as e:
        raise Invalid(f"Invalid JSON: {e}"[:200], "body") from None
    if _too_deep(data):
        raise Invalid(f"nested deeper than {MAX_DEPTH} levels", "body")
    return data


def read_body(body: bytes, now: datetime) -> AlertGroup:
    """Returns the alerts of a request body. Raises Invalid if the body as a whole is not usable.

    A JSON object is the webhook of Alertmanager or Grafana. A list is what Prometheus and vmalert post to an
    Alertmanager, so both can also post here directly. An error in one alert refuses only that alert.
    """
    data = _parsed(body)
    if isinstance(data, list):
        return _group(data, (), now)
    if not isinstance(data, dict):
        raise Invalid(f"a JSON object or a list of alerts was expected, not {_kind(data)}", "body")
    version = data.get("version")
    if version not in ("4", "1"):  # "1" is Grafana Alerting's, which has the same fields
        raise Invalid(f"this is not Alertmanager's webhook version 4: got {version!r:.80}", "version")
    if not isinstance(data.get("alerts"), list):
        raise Invalid(f"required: an array of alerts, not {_kind(data.get('alerts'))}", "alerts")
    truncated = data.get("truncatedAlerts") or 0
    if isinstance(truncated, bool) or not isinstance(truncated, int) or truncated < 0:
        raise Invalid(f"must be a whole number greater than or equal to 0, not {truncated!r:.40}", "truncatedAlerts")
    receiver = data.get("receiver")
    group = _group(data["alerts"], ("alerts",), now)
    fields = {"receiver": readable(receiver) if isinstance(receiver, str) else ""}
    return group.model_copy(update={**fields, "truncated_alerts": group.truncated_alerts + truncated})


def _group(items: list[Any], at: tuple[str, ...], now: datetime) -> AlertGroup:
    if items and not any(isinstance(item, dict) for item in items):
        raise Invalid(f"an alert is a JSON object, not {_kind(items[0])}", path_text((*at, 0)))
    alerts, refused = [], []
    for index, item in enumerate(items[:MAX_ALERTS]):
        try:
            alerts.append(_alert(item, now, posted=not at))
        except _Refused as e:
            refused.append(
                RefusedAlert(
                    where=path_text((*at, index, *(_shown(p) if isinstance(p, str) else p for p in e.path))),
                    reason=str(e),
                    labels=_labels_of(item),
                    resolved=isinstance(item, dict) and item.get("status") == "resolved",
                )
            )
    if beyond := len(items[MAX_ALERTS:]):
        reason = f"{beyond} alerts beyond the limit of {MAX_ALERTS} were not read"
        refused.append(RefusedAlert(where=path_text((*at, MAX_ALERTS)), reason=reason))
    return AlertGroup(alerts=tuple(alerts), refused=tuple(refused), truncated_alerts=beyond)


def _alert(item: Any, now: datetime, *, posted: bool) -> Alert:
    """One alert. `posted`: in the format that Prometheus posts to Alertmanager, without a status."""
    if not isinstance(item, dict):
        raise _Refused(f"an alert is a JSON object, not {_kind(item)}")
    labels = _labels(item.get("labels"))
    starts_at, ends_at = (_time(item.get(key), key, local=posted) for key in ("startsAt", "endsAt"))
    if posted:
        status: Any = "resolved" if ends_at is not None and ends_at <= now else "firing"
        if starts_at and ends_at and starts_at > ends_at:
            raise _Refused("is after endsAt", "startsAt")
    else:
        status = item.get("status")
    if status not in ("firing", "resolved"):
        raise _Refused(f"required: firing or resolved, not {_shown(status)}", "status")
    alert_fingerprint = item.get("fingerprint") or ""
    if posted or not alert_fingerprint:
        alert_fingerprint = fingerprint(labels)
    elif not isinstance(alert_fingerprint, str) or not _FINGERPRINT.fullmatch(alert_fingerprint):
        raise _Refused(f"must be 16 hexadecimal digits, not {_shown(alert_fingerprint)}", "fingerprint")
    return (Alert if starts_at else UndatedAlert)(
        status=status,
        labels={name: readable(value) for name, value in labels.items()},
        annotations=_annotations(item.get("annotations")),
        starts_at=starts_at or now,
        ends_at=ends_at or NEVER,
        generator_url=_cut(_text(item.get("generatorURL"), "generatorURL"), MAX_URL),
        fingerprint=alert_fingerprint,
    )


def _labels(value: Any) -> dict[str, str]:
    """The identifying labels. As in Alertmanager, a label with an empty value does not exist."""
    if not isinstance(value, dict):
        raise _Refused(f"required: an object, not {_kind(value)}", "labels")
    if len(value) > MAX_LABELS:
        raise _Refused(f"{len(value)} labels, at most {MAX_LABELS} are read", "labels")
    labels = {}
    for name, raw in value.items():
        if not 1 <= len(name) <= MAX_NAME or readable(name) != name:
            raise _Refused(f"a label name must have 1 to {MAX_NAME} characters of text", "labels", name)
        text = without_surrogates(_text(raw, "labels", name))
        if len(text) > MAX_VALUE:
            raise _Refused(f"{len(text)} characters, at most {MAX_VALUE} are read", "labels", name)
        if text:
            labels[name] = text
    if not labels:
        raise _Refused("an alert needs at least one label", "labels")
    return labels


def _labels_of(item: Any) -> dict[str, str]:
    """The labels that identify a refused alert to people."""
    labels = item.get("labels") if isinstance(item, dict) else None
    labels = labels if isinstance(labels, dict) else {}
    pairs = ((name, labels.get(name)) for name in ("alertname", "service", "environment", "severity"))
    return {name: _cut(readable(value), 200) for name, value in pairs if isinstance(value, str) and value}


def _annotations(value: Any) -> dict[str, str]:
    """Annotations do not identify an alert, so a long text or a long list is cut, with a marker."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _Refused(f"must be an object, not {_kind(value)}", "annotations")
    annotations = {
        _cut(readable(n), MAX_NAME): _cut(readable(_text(v, "annotations", n)), MAX_ANNOTATION)
        for n, v in value.items()
    }
    if len(annotations) <= MAX_ANNOTATIONS:
        return annotations
    kept = _first(annotations, MAX_ANNOTATIONS - 1)
    return {**kept, CUT: f"{len(annotations) - len(kept)} more annotations were left out"}


def _first(annotations: dict[str, str], most: int) -> dict[str, str]:
    names: Iterable[str] = sorted(
        annotations, key=lambda name: name not in _SHOWN_FIRST
    )  # stable: otherwise in the order of the body
    return {name: annotations[name] for name in list(names)[:most]}


def _text(value: Any, *path: str) -> str:
    if value is None:  # Go reads null as an empty string
        return ""
    if not isinstance(value, str):
        raise _Refused(f"must be a string, not {_kind(value)}", *path)
    return value


def _time(value: Any, key: str, *, local: bool) -> datetime | None:
    """The time; None if it is missing or Go's zero time. `local`: a time without a zone is UTC, else an error."""
    text = _text(value, key)
    found = _TIME.fullmatch(text)
    if not text:
        return None
    if not found:
        raise _Refused(f"is not a datetime such as 2026-11-23T22:00:00Z: {_shown(text)}", key)
    day, minute, second, fraction, utc, hours, minutes = found.groups()
    if not utc and not hours and not local:
        raise _Refused("a timestamp needs a time zone", key)
    zone = f"{hours}:{minutes}" if hours else "+00:00"
    try:
        when = aware(datetime.fromisoformat(f"{day}T{minute}:{second or '00'}.{(fraction or '0')[:6]:0<6}{zone}"))
    except ValueError as e:
        raise _Refused(f"is not a datetime: {e}", key) from None
    return None if when.year == 1 else when


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - len(CUT)] + CUT


def _shown(value: Any) -> str:
    """An invalid value, shortened for an error message."""
    text = readable(value) if isinstance(value, str) else json.dumps(value)
    return _cut("".join(c if c.isprintable() else "\ufffd" for c in text), 60)


def _kind(value: Any) -> str:
    for kind, name in ((bool, "a boolean"), (int | float, "a number"), (str, "a string"), (list, "an array")):
        if isinstance(value, kind):
            return name
    return "nothing" if value is None else "an object"
