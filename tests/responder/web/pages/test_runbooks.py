"""The runbooks and the documentation as pages: complete, without dead links, readable without a token."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from responder.web.pages.documents import documents, html_of
from tests.responder.examples import alert
from tests.responder.web.conftest import ResponderServer
from tests.responder.web.links.test_approval import held, link_of
from tests.responder.web.links.test_approval import page as fetch

ALERTS = sorted(file.stem for file in (Path(__file__).parents[4] / "docs" / "runbooks").glob("*.md"))


class Page(HTMLParser):
    """Links and anchors of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.anchors |= {str(found["id"])} if "id" in found else set()
        if tag == "a":
            self.links.append(str(found["href"]))


async def test_anyone_may_read_them(guarded_responder: ResponderServer) -> None:
    for path in ("/runbooks", "/runbooks/", *(f"/runbooks/{name}" for name in ALERTS[:3]), "/docs/reference/guards"):
        status, text = await fetch(guarded_responder, "GET", path)
        assert (status, "<h1" in text) == (200, True), path
        assert '<meta name=viewport content="width=device-width' in text


@pytest.mark.parametrize("path", ["/runbooks", "/runbooks/"])
async def test_the_index_leads_to_every_runbook(guarded_responder: ResponderServer, path: str) -> None:
    _, text = await fetch(guarded_responder, "GET", path)
    links = {posixpath.normpath(posixpath.join(posixpath.dirname(path), link)) for link in Page(text).links}
    assert links == {f"/runbooks/{name}" for name in ALERTS}


@pytest.mark.parametrize(
    "path",
    ["/runbooks/NoSuchAlert", "/runbooks/..%2F..%2Fsecret", "/docs/LICENSE", "/docs/systemd/x"],
)
async def test_an_unknown_page_names_the_index(guarded_responder: ResponderServer, path: str) -> None:
    status, answer = await guarded_responder.get(path)
    assert (status, "/runbooks/" in answer["error"]) == (404, True)


def _broken_links() -> Iterator[str]:
    pages = {path: Page(html_of(path)) for path in documents()}
    for path, page in pages.items():
        for link in page.links:
            target, _, anchor = link.partition("#")
            there = posixpath.normpath(posixpath.join(posixpath.dirname(path), target)) if target else path
            if "://" not in target and (there not in pages or (anchor and anchor not in pages[there].anchors)):
                yield f"{path}: {link}"


def test_every_link_of_every_page_works() -> None:
    assert list(_broken_links()) == []
    assert "steer-with-amtool#stop-everything" in html_of("runbooks/HighErrorRate")


def test_text_of_a_document_is_not_html(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "x.md"
    file.write_text("# <script>a</script>\n[x](javascript:alert(1)) <img src=x> `<b>`\n\n| a |\n|---|\n| <i> |\n")
    monkeypatch.setitem(documents(), "docs/x", ("docs/x.md", file))
    assert not re.search('<(script|img|b|i)>|javascript:[^)]*"', html_of("docs/x"))


@pytest.mark.parametrize(
    ("annotation", "link"),
    [
        ({}, "../runbooks/HighErrorRate"),
        ({"runbook_url": "http://localhost:9095/runbooks/HighErrorRate"}, "../runbooks/HighErrorRate"),
        ({"runbook_url": "https://wiki.example/errors"}, "https://wiki.example/errors"),
        ({"runbook_url": "javascript:alert(1)"}, "../runbooks/HighErrorRate"),
    ],
)
async def test_the_approval_page_leads_to_the_runbook(
    guarded_responder: ResponderServer, annotation: dict[str, str], link: str
) -> None:
    fired = alert({"alertname": "HighErrorRate"}, annotations={"summary": "<b>5%", **annotation})
    execution_id = await held(guarded_responder, alerts=(fired,))
    _, text = await fetch(guarded_responder, "GET", await link_of(guarded_responder, execution_id))
    assert Page(text).links == [link]
    assert "&lt;b&gt;5%" in text


async def test_an_alert_without_runbook_has_no_link(guarded_responder: ResponderServer) -> None:
    execution_id = await held(guarded_responder, alerts=(alert({"alertname": "Ours<1>"}),))
    _, text = await fetch(guarded_responder, "GET", await link_of(guarded_responder, execution_id))
    assert ("Ours&lt;1&gt;" in text, Page(text).links) == (True, [])
