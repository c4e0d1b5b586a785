"""Masks known secrets in text before it is shown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from urllib.parse import quote, unquote, urlsplit, urlunsplit

MASK = "***"
SHORTEST = 3  # masking every "a" of a text would garble it and reveal the password
USERINFO = re.compile(r"(?<=://)([^/@\s:]*):[^/@\s]*@")
LONGEST = 4096  # masking a megabyte would delay every other probe
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


class Redactor:
    """Masks known secrets, also percent-encoded or decoded, and any `user:password@` in a URL."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = {form for secret in secrets for form in _forms(secret)}
        usable = sorted((secret for secret in known if len(secret) >= SHORTEST), key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, usable))) if usable else None
        self._longest = len(usable[0]) if usable else 0

    def __call__(self, text: str) -> str:
        """Returns the text without secrets, on one line, cut at LONGEST. A target cannot use it to forge a log line."""
        if len(text) > LONGEST:
            text = text[: self._safe_cut(text)]
        if self._known is not None:
            text = self._known.sub(MASK, text)
        return UNPRINTABLE.sub(" ", USERINFO.sub(rf"\1:{MASK}@", text)).strip()

    def _safe_cut(self, text: str) -> int:
        """Returns where to cut without splitting a secret: half of one would not be recognized."""
        near = self._known.finditer(text, LONGEST - self._longest, LONGEST + self._longest) if self._known else ()
        return next((found.start() for found in near if found.start() < LONGEST < found.end()), LONGEST)


def _forms(secret: str) -> tuple[str, ...]:
    # Reasons quote values with repr() or as JSON.
    return secret, quote(secret, safe=""), unquote(secret), repr(secret)[1:-1], json.dumps(secret)[1:-1]


def shown_url(url: str) -> str:
    """Returns the URL without password, query values and fragment."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    user = parts.netloc.rpartition("@")[0].partition(":")[0]
    query = "&".join(f"{item.partition('=')[0]}={MASK}" for item in parts.query.split("&")) if parts.query else ""
    return urlunsplit((parts.scheme, f"{user}@{host}" if user else host, parts.path, query, ""))
