"""The HTML page around every content."""

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
    ":root{color-scheme:light dark}"
    "body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:2rem auto;padding:0 1rem;overflow-wrap:anywhere}"
    "dt{opacity:.7}dd{margin:0 0 .5rem}label{display:block;margin:.75rem 0}input,button{font:inherit;padding:.5rem}"
    "input:not([type=checkbox]){display:block;box-sizing:border-box;width:100%}button{padding:.5rem 1rem}"
    "pre,table{display:block;overflow-x:auto}pre,code{background:#8882}pre{padding:.75rem}pre code{background:none}"
    "table{border-collapse:collapse;overflow-wrap:break-word}"
    "th,td{border:1px solid #8886;padding:.25rem .5rem;text-align:left}"
)


def page(title: str, body: str, status: int = 200, *, heading: bool = True) -> web.Response:
    """A page. `title` is text, `body` is HTML; without `heading`, it contains its own."""
    top = f"<h1>{escape(title)}</h1>" if heading else ""
    text = f"<!doctype html>{_HEAD}<title>{escape(title)}</title><style>{_STYLE}</style>"
    return web.Response(text=f"{text}{top}{body}", content_type="text/html", status=status, headers=_HEADERS)
