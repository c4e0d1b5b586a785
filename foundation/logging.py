"""Log lines with fields, as text or JSON. External text cannot forge a second line."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal


def set_up(style: Literal["console", "json"], level: str) -> None:
    """Sends all logs to standard error, which systemd, Docker and Kubernetes collect."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if style == "json" else ConsoleLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def say(log: logging.Logger, event: str, /, *, level: int = logging.INFO, error: bool = False, **fields: Any) -> None:
    """Logs one line: a fixed phrase, and its values as fields. `error` adds the traceback of the current exception."""
    if log.isEnabledFor(level):
        log.log(level, event, extra={"fields": fields}, exc_info=error)


class ConsoleLines(logging.Formatter):
    """Lines for people: time, level, event, then the fields as `name=value`."""

    def format(self, record: logging.LogRecord) -> str:
        """See Formatter.format."""
        at = datetime.fromtimestamp(record.created, UTC)
        fields = " ".join(f"{name}={_clean(value)}" for name, value in _fields(record).items() if value is not None)
        line = f"{at:%H:%M:%S}.{int(record.msecs):03d} {record.levelname:<7} {_clean_message(record)} {fields}".rstrip()
        if record.exc_info:  # indented, so that its text cannot look like a log line
            trace = self.formatException(record.exc_info).splitlines()
            line += "".join(f"\n    {_printable(text)}" for text in trace)
        return line


class JsonLines(logging.Formatter):
    """One JSON object per line: the fields, `at`, `level`, `event`, and `exception` with a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """See Formatter.format."""
        fields: dict[str, Any] = {
            **_fields(record),
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": _clean_message(record),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return getattr(record, "fields", {})


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def _clean(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    text = _printable(text[:2000])
    return json.dumps(text, ensure_ascii=False) if " " in text or '"' in text or not text else text


def _clean_message(record: logging.LogRecord) -> str:
    return "".join(c if c.isprintable() else " " for c in record.getMessage())
