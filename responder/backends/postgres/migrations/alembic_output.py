"""Reads what Alembic prints: the rendered SQL, and the error of a migration that refuses its downgrade."""

from __future__ import annotations

import re
from pathlib import Path

_FRAME = re.compile(r'^ *File "([^"]+)", line \d+, in \S+\n +(\S.*)$', re.M)


def refusal(output: str) -> str:
    """The exception of a migration that refuses its downgrade. Empty if it only lacks a connection."""
    error = output.splitlines()[-1] if output else ""
    frames = _FRAME.findall(output)
    if not frames:
        return error if "NotImplemented" in error else ""
    file, source = frames[-1]
    raises = re.match(r"(raise|assert)\b", source) and "site-packages" not in file
    if not raises and not error.startswith("NotImplemented"):
        return ""
    try:
        text = Path(file).read_text()
    except (OSError, UnicodeDecodeError):  # the tool ran in a container
        text = ""
    return "" if re.search(r"offline|as_sql", text) else error


def sections(output: str, direction: str) -> list[tuple[str, list[str], str]]:
    """The rendered script, split at Alembic's comments: revision on the left, revisions on the right, SQL.

    A downgrade has the downgraded revision on the left; an upgrade has the new revision on the right.
    """
    logged = rf"(?:^(?!--).*\bRunning {direction} .* -> .*\n)?"  # by an env.py that logs to stdout
    found = list(re.finditer(rf"{logged}^-- Running {direction} (.*?) -> (.*?)\s*$", output, re.M))
    ends = [marker.start() for marker in found[1:]] + [len(output)]
    parts = []
    for marker, end in zip(found, ends, strict=True):
        left, right = marker[1].strip(), [part.strip() for part in marker[2].split(",") if part.strip()]
        parts.append((left, right, output[marker.end() : end]))
    if parts:  # env.py may print text after the last statement
        left, right, sql = parts[-1]
        before, committed, _ = sql.rpartition("\nCOMMIT;")
        parts[-1] = (left, right, before if committed else sql)
    return parts
