"""Every journaled model stays readable: fields of steps and events are added, never removed."""

from __future__ import annotations

from pathlib import Path

from pydantic import TypeAdapter

from responder.rollback.events import Event

FILE = Path(__file__).parent / "journaled.golden"


def fields() -> set[str]:
    """`Model.field` for everything that an event can contain."""
    models = TypeAdapter(Event).json_schema()["$defs"]
    return {f"{name}.{field}" for name, model in models.items() for field in model.get("properties", ())}


def test_no_field_is_removed() -> None:
    """Run this file to record new fields. To rename a field, accept the old name in a validator."""
    known = set(FILE.read_text().split())
    assert known - fields() == set(), "older journals contain these fields"
    assert fields() - known == set(), f"python {FILE.with_name(Path(__file__).name)}"


if __name__ == "__main__":
    FILE.write_text("".join(f"{field}\n" for field in sorted(fields())))
