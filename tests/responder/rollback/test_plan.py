"""A plan knows its own way back, and its hash holds for exactly this plan."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from responder.rollback.plan import Change, Gate, Mitigation, Plan, ServicePlan, revert_steps
from tests.responder.examples import change, gate, plan, release, version_change

FIRST, SECOND = change("a", "b"), change("1", "2", resource=release("/srv/other"))


def test_the_way_back_is_the_changes_in_reverse_each_inverted() -> None:
    assert revert_steps((FIRST, gate(), SECOND)) == (SECOND.inverse(), FIRST.inverse())
    assert FIRST.inverse() == change("b", "a", reverting=True)


def test_turning_twice_is_not_turning() -> None:
    assert FIRST.inverse().inverse() == FIRST


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        ((), ()),
        ((gate(),), ()),
        ((change("a", "b", one_way=True),), ()),
        ((FIRST, change("x", "y", one_way=True)), (FIRST.inverse(),)),
    ],
)
def test_what_has_no_way_back_needs_none(taken: tuple[Change | Gate, ...], expected: tuple[Change, ...]) -> None:
    assert revert_steps(taken) == expected


def test_the_same_plan_has_the_same_hash_also_once_it_was_stored() -> None:
    original = plan()
    stored = Plan.model_validate_json(original.model_dump_json())
    assert stored == original
    assert stored.hash == original.hash
    assert len(original.hash) == 12
    assert int(original.hash, 16) >= 0


@pytest.mark.parametrize(
    "other",
    [
        plan(change(to="1.9"), gate(otherwise="freeze")),
        plan(change(), gate(otherwise="revert")),
        plan(change(), gate(otherwise="freeze", hold_for=1.0)),
        plan(gate(otherwise="freeze"), change()),
        plan(change(resource=release("/srv/other")), gate(otherwise="freeze")),
        plan().model_copy(update={"parts": (ServicePlan(version=version_change(environment="staging"), steps=1),)}),
        plan().model_copy(update={"parts": (ServicePlan(version=version_change(), steps=2),)}),
    ],
)
def test_another_plan_has_another_hash(other: Plan) -> None:
    assert other.hash != plan().hash


def test_steps_say_what_they_do() -> None:
    assert str(change()) == "current release of /srv/backend: 2.1 → 2.0"
    assert str(gate(hold_for=120.0, within=600.0)) == "backend is healthy for 2m, within 10m"
    assert str(gate(within=60.0)) == "backend is healthy, within 1m"


@pytest.mark.parametrize(
    "text",
    [
        '{"kind": "change", "resource": {"resource": "no_such"}, "before": 1, "after": 2}',
        '{"kind": "jump"}',
        '{"kind": "gate", "name": "x", "checks": []}',
        '{"kind": "change", "resource": {"resource": "pointer_file", "file": "/x"}, "before": 1, "after": 2, "x": 1}',
    ],
)
def test_a_stored_step_that_makes_no_sense_is_refused(text: str) -> None:
    stored = {**plan().model_dump(mode="json"), "steps": [json.loads(text)]}
    with pytest.raises(ValidationError, match=r"steps\.0"):
        Plan.model_validate_json(json.dumps(stored))


def test_a_mitigation_in_words() -> None:
    mitigation = Mitigation(
        platform="android", blocked_versions=("2",), min_version="1", flags={"a": False}, remains="publish 3"
    )
    assert str(mitigation) == "android (2 blocked; at least 1; a off): publish 3"
    assert str(Mitigation(platform="ios", remains="publish 3")) == "ios: publish 3"
