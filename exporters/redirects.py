"""Where a redirect leads and what may be sent there: never our credentials to another origin, never down from https."""

from __future__ import annotations

import aiohttp
from yarl import URL

from exporters.errors import Failed

MOST_REDIRECTS = 10
REDIRECTS = {301, 302, 303, 307, 308}


def redirected(
    response: aiohttp.ClientResponse, method: str, url: URL, sent: dict[str, str], body: bytes | None
) -> tuple[str, URL, dict[str, str], bytes | None]:
    """Method, URL, headers and body of the next request. Failed, reason `redirect`, if it must not be made."""
    try:
        target = url.join(URL(response.headers["Location"]))
        stranger = target.origin() != url.origin()
    except ValueError as error:
        raise Failed("the redirect leads to something that is not a URL", reason="redirect") from error
    if target.scheme not in ("http", "https") or (url.scheme == "https" and target.scheme == "http"):
        raise Failed(f"the redirect leads from {url.scheme} to {target.scheme}", reason="redirect")
    if (response.status == 303 and method != "HEAD") or (response.status in (301, 302) and method == "POST"):
        method, body = "GET", None
    # Credentials are for the origin that they were configured for; any header may be one.
    return method, target, {} if stranger else sent, None if stranger else body
