"""What was once written into a journal can be read for ever: fields of steps and events are added, never taken away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from responder.backends.registries import AnyResource
from responder.rollback.events import Event

FILE = Path(__file__).parent / "journaled.golden"


def fields() -> set[str]:
    """`Model.field` of all that can stand in an event."""
    models = TypeAdapter(Event).json_schema()["$defs"]
    return {f"{name}.{field}" for name, model in models.items() for field in model.get("properties", ())}


def test_no_field_is_taken_away() -> None:
    """Run this file to note new ones down. Who wants to rename one reads the old name in a validator."""
    known = set(FILE.read_text().split())
    assert known - fields() == set(), "older journals have these"
    assert fields() - known == set(), f"python {FILE.with_name(Path(__file__).name)}"


def test_replicas_as_they_were_told_at_first() -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(AnyResource)
    old = {"resource": "replicas", "namespace": "shop", "deployment": "backend-green"}
    assert adapter.validate_python({**old, "ready": True}).unready == 0
    assert adapter.validate_python({**old, "ready": False}).unready > 10_000


if __name__ == "__main__":
    FILE.write_text("".join(f"{field}\n" for field in sorted(fields())))
