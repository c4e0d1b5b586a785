"""Redacts secrets before evidence is written anywhere. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import re2

GONE = b"[redacted]"

_NAMES = "passw(?:or)?d|passphrase|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credentials?"

USUAL: tuple[str, ...] = (
    # The entire header: the scheme does not show where the secret starts.
    r"(?i)\b(?:proxy-)?authorization\\*[\"']?\s*[:=]\s*\\*[\"']?([^\r\n\"'\\]+)",
    r"(?i)\b(?:set-)?cookie\\*[\"']?\s*[:=]\s*\\*[\"']?([^\r\n\"'\\]+)",
    r"(?i)\bbearer\s+([A-Za-z0-9._~+/=-]{8,})",
    rf"(?i)(?:{_NAMES})[\w.-]*\\*[\"']?\s*[:=]\s*(?:\\*\"([^\"\\\r\n]+)|\\*'([^'\\\r\n]+)|([^\s\"'\\,;&)}}\]]+))",
    r"\b[A-Za-z][A-Za-z0-9+.-]*://[^\s:/@\"']*:([^\s@/\"']+)@",
    r"\b((?:AKIA|ASIA)[A-Z0-9]{16})\b",
    r"\b(eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*)",
    r"\b(gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{20,}|xox[abeprs]-[A-Za-z0-9-]{10,})",
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----([\s\S]+?)(?:-----END |\z)",
)
"""Headers, passwords by name, passwords in URLs, and keys by format."""


def problem_of(pattern: str) -> str:
    """The problem of a regular expression; empty if it is valid."""
    try:
        found = _compiled(pattern)
    except (re2.error, UnicodeEncodeError):
        return f"{pattern!r} is not a valid RE2 regular expression"
    return f"{pattern!r} matches the empty text" if found.search(b"") else ""


class Redactor:
    """Redacts the groups of each match, or the entire match if the pattern has no groups."""

    def __init__(self, more: Iterable[str] = ()) -> None:
        self._patterns = [_compiled(pattern) for pattern in (*USUAL, *more)]

    def clean(self, text: bytes) -> tuple[bytes, int]:
        """The text without secrets, and how many were redacted."""
        count = 0
        for pattern in self._patterns:
            parts, end = [], 0
            for match in pattern.finditer(text):
                for group in range(1, pattern.groups + 1) if pattern.groups else (0,):
                    start, stop = match.span(group)
                    if start < end or start == stop or match.group(group) == GONE:
                        continue
                    parts += [text[end:start], GONE]
                    end, count = stop, count + 1
            if parts:
                text = b"".join((*parts, text[end:]))
        return text, count


def _compiled(pattern: str) -> re2._Regexp:
    options = re2.Options()
    options.log_errors = False
    return re2.compile(pattern.encode(), options)
