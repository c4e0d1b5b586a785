"""Label and field selectors, as the API server understands them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tests.apiserver.answers import Failed

Object = dict[str, Any]


def selected(item: Object, query: dict[str, str]) -> bool:
    terms = [term.partition("=") for term in query.get("fieldSelector", "").split(",") if term]
    return matches(item, query.get("labelSelector", "")) and all(_at(item, name) == value for name, _, value in terms)


def _at(found: Object, path: str) -> Any:
    for part in path.split("."):
        found = found.get(part, {})
    return found


_TERM = re.compile(r"\s*(!?)([\w./-]+)\s*(?:(==|=|!=)\s*([\w.-]*)|(in|notin)\s*\(([^()]*)\))?\s*(?:,|$)")


def _terms(selector: str) -> Iterator[tuple[str, str, str, set[str]]]:
    at = 0
    while at < len(selector):
        found = _TERM.match(selector, at)
        if found is None:
            shown = re.sub(r"^[^=!<>()]*[=!<>]*", "", selector[at:])[:1]
            raise Failed(400, f"unable to parse requirement: found '{shown}', expected: identifier")
        no, key, equals, value, among, values = found.groups()
        yield (
            no,
            key,
            equals or among or "",
            {value or ""} if equals else {v.strip() for v in (values or "").split(",")},
        )
        at = found.end()


def matches(found: Object, selector: str) -> bool:
    """Label selectors: equality, inequality, sets and existence."""
    labels = found["metadata"].get("labels") or {}
    for no, key, how, values in _terms(selector):
        among = labels.get(key) in values if how else key in labels
        if among == (bool(no) or how in ("!=", "notin")):
            return False
    return True


_FIELDS = {
    "pods": ("status.phase", "spec.nodeName", "spec.restartPolicy", "status.podIP"),
    "apps/replicasets": ("status.replicas",), "secrets": ("type",),
    "events": (*(f"involvedObject.{key}" for key in ("name", "kind", "namespace", "uid")), "reason", "type"),
}  # fmt: skip


def check_selectors(resource: str, query: dict[str, str]) -> None:
    """Raises `Failed` for a selector that the server does not understand."""
    for _ in _terms(query.get("labelSelector", "")):
        pass
    known = ("metadata.name", "metadata.namespace", *_FIELDS.get(resource, ()))
    for term in filter(None, query.get("fieldSelector", "").split(",")):
        field = re.split("!?=", term)[0]
        if field not in known:
            shown = ", ".join(f'"{name}"' for name in known[:2])
            raise Failed(400, f'"{field}" is not a known field selector: only {shown}')
