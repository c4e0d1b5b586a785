"""Shipped documentation as HTML: Markdown whose links lead to the pages of this server."""

from __future__ import annotations

import posixpath
import re
from functools import cache
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from responder import assets

if TYPE_CHECKING:
    from markdown_it.token import Token

RUNBOOKS = "docs/runbooks/"


def path_of(name: str) -> str | None:
    """The path of the page about an asset, without the leading slash; None if it has no page."""
    if name.startswith(RUNBOOKS):
        return "runbooks/" + Path(name).stem
    if name.startswith("docs/"):
        return name.removesuffix(".md")
    return f"docs/{name}" if re.fullmatch(r"alert_rules/[^/]+\.yml", name) else None


@cache
def documents() -> dict[str, tuple[str, Path]]:
    """Name and file of the asset behind each page, by the path of the page."""
    return {path: (name, file) for name, file in assets.files() if (path := path_of(name))}


@cache
def html_of(path: str) -> str:
    """The content of a page. Raises KeyError if there is none."""
    name, file = documents()[path]
    text = file.read_text()
    if file.suffix != ".md":
        return f"<h1>{escape(file.name)}</h1><pre>{escape(text)}</pre>"
    from markdown_it import MarkdownIt  # slow to import

    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(re.sub(r"\A<!--.*?-->", "", text, flags=re.DOTALL))
    for before, token in pairwise(tokens):
        if before.type == "heading_open":
            before.attrSet("id", _anchor(token.content))
        if token.type == "inline":
            token.children = _linked(token.children or [], name, path)
    return str(markdown.renderer.render(tokens, markdown.options, {}))


def _linked(tokens: list[Token], name: str, path: str) -> list[Token]:
    """The tokens with links to pages of this server. Links to what it does not serve become text."""
    kept: list[Token] = []
    dead = False
    for token in tokens:
        if token.type == "link_open":
            link = _link(str(token.attrGet("href")), name, path)
            dead = link is None
            token.attrSet("href", link or "")
        if not (dead and token.type in ("link_open", "link_close")):
            kept.append(token)
    return kept


def _link(link: str, name: str, path: str) -> str | None:
    file, hash_sign, anchor = link.partition("#")
    if not file or "://" in file:
        return link
    target = path_of(posixpath.normpath(posixpath.join(posixpath.dirname(name), file)))
    if target not in documents():
        return None
    return posixpath.relpath(target, posixpath.dirname(path)) + hash_sign + anchor


def _anchor(heading: str) -> str:
    """The anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
