"""The HTML page around what a link shows."""

from __future__ import annotations

from html import escape

from aiohttp import web

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with no-referrer, browsers send the form with `Origin: null`
}
_HEAD = '<meta charset=utf-8><meta name=viewport content="width=device-width,initial-scale=1">'  # for phones
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:2rem auto;padding:0 1rem;overflow-wrap:anywhere}"
    "dt{color:#666}dd{margin:0 0 .5rem}label{display:block;margin:.75rem 0}input,button{font:inherit;padding:.5rem}"
    "input:not([type=checkbox]){display:block;box-sizing:border-box;width:100%}button{padding:.5rem 1rem}"
)


def page(title: str, body: str, status: int = 200) -> web.Response:
    """A page with a heading. `title` is text, `body` is HTML."""
    text = f"<!doctype html>{_HEAD}<title>{escape(title)}</title><style>{_STYLE}</style>"
    return web.Response(
        text=f"{text}<h1>{escape(title)}</h1>{body}", content_type="text/html", status=status, headers=_HEADERS
    )
