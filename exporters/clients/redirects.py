"""Redirects: credentials are never sent to another origin, and https never becomes http."""

from __future__ import annotations

from aiohttp.http import RawResponseMessage
from yarl import URL

from exporters.errors import Failed

MOST_REDIRECTS = 10
REDIRECTS = {301, 302, 303, 307, 308}


def redirected(
    response: RawResponseMessage, method: str, url: URL, sent: dict[str, str], body: bytes | None
) -> tuple[str, URL, dict[str, str], bytes | None]:
    """Returns method, URL, headers and body of the next request. Raises Failed, reason `redirect`."""
    try:
        target = url.join(URL(response.headers["Location"]))
        same_origin = target.origin() == url.origin()
    except ValueError as error:
        raise Failed("the redirect has a Location that is not a URL", reason="redirect") from error
    if target.scheme not in ("http", "https") or (url.scheme == "https" and target.scheme == "http"):
        raise Failed(f"the redirect leads from {url.scheme} to {target.scheme}", reason="redirect")
    if (response.code == 303 and method != "HEAD") or (response.code in (301, 302) and method == "POST"):
        method, body = "GET", None
    # Credentials are for the configured origin only, and any header may be one.
    return method, target, sent if same_origin else {}, body if same_origin else None
