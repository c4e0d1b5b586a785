"""One line an event, for people or for machines; nothing that a sender wrote can forge a second line."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return getattr(record, "fields", {})


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def _clean(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    text = _printable(text[:2000])
    return json.dumps(text, ensure_ascii=False) if " " in text or '"' in text or not text else text


class _Console(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC)
        fields = " ".join(f"{name}={_clean(value)}" for name, value in _fields(record).items() if value is not None)
        line = f"{at:%H:%M:%S}.{int(record.msecs):03d} {record.levelname:<7} {_clean_message(record)} {fields}".rstrip()
        if record.exc_info:
            # Indented, so that no text in it can pass for a line of ours.
            line += "".join(
                f"\n    {_printable(trace)}" for trace in self.formatException(record.exc_info).splitlines()
            )
        return line


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            **_fields(record),
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": _clean_message(record),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str)


def _clean_message(record: logging.LogRecord) -> str:
    return "".join(c if c.isprintable() else " " for c in record.getMessage())


def set_up(style: Literal["console", "json"], level: str) -> None:
    """Logs go to standard error; whoever runs us (systemd, Docker, Kubernetes) keeps them."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if style == "json" else _Console())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("aiohttp.access").setLevel("WARNING")
    logging.getLogger("asyncpg").setLevel("ERROR")  # that PostgreSQL is away we say ourselves, in one line


def say(log: logging.Logger, event: str, /, *, level: int = logging.INFO, error: bool = False, **fields: Any) -> None:
    """One line: what happened, and its facts as fields."""
    if log.isEnabledFor(level):
        log.log(level, event, extra={"fields": fields}, exc_info=error)
