"""A plan knows how to revert itself, and its hash identifies exactly this plan."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from responder.rollback.plan import Change, Gate, Mitigation, Plan, ServicePlan, revert_steps
from tests.responder.examples import change, gate, plan, release, version_change

FIRST, SECOND = change("a", "b"), change("1", "2", resource=release("/srv/other"))


def test_a_revert_is_the_inverse_changes_in_reverse_order() -> None:
    assert revert_steps((FIRST, gate(), SECOND)) == (SECOND.inverse(), FIRST.inverse())
    assert FIRST.inverse() == change("b", "a", reverting=True)


def test_a_revert_does_not_require_that_the_bad_version_is_healthy() -> None:
    watched = change("a", "b", meanwhile=gate().checks)
    assert watched.inverse().meanwhile == ()


def test_inverting_twice_gives_the_original() -> None:
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
def test_gates_and_one_way_changes_are_not_reverted(
    taken: tuple[Change | Gate, ...], expected: tuple[Change, ...]
) -> None:
    assert revert_steps(taken) == expected


def test_a_stored_plan_keeps_its_hash() -> None:
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


@pytest.mark.parametrize(
    "reported",
    [
        {"artifacts": {"": "repo@sha256:1"}},
        {"from_artifacts": {"": "repo@sha256:2"}},
        {"platform_versions": {"android": "2.0"}},
    ],
)
def test_the_hash_leaves_out_reported_artifacts_and_notes(reported: dict[str, Any]) -> None:
    part = ServicePlan(version=version_change(**reported), steps=1)
    other = plan().model_copy(update={"parts": (part,), "notes": ("a note",)})
    assert other.hash == plan().hash


def test_steps_describe_themselves() -> None:
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
def test_an_invalid_stored_step_is_rejected(text: str) -> None:
    stored = {**plan().model_dump(mode="json"), "steps": [json.loads(text)]}
    with pytest.raises(ValidationError, match=r"steps\.0"):
        Plan.model_validate_json(json.dumps(stored))


def test_the_text_of_a_mitigation() -> None:
    mitigation = Mitigation(
        platform="android", blocked_versions=("2",), min_version="1", flags={"a": False, "b": True}, remains="publish 3"
    )
    assert str(mitigation) == "android (2 blocked; at least 1; a off; b on): publish 3"
    assert str(Mitigation(platform="ios", remains="publish 3")) == "ios: publish 3"


def test_the_defaults_of_a_step() -> None:
    step, check = change(), gate()
    assert (step.one_way, step.irreversible, step.meanwhile, step.reverting) == (False, "", (), False)
    assert (step.every, check.every) == (0.5, 1.0)
    assert (check.hold_for, check.within, check.otherwise) == (0.0, 60.0, "revert")
    mitigation = Mitigation(platform="ios", remains="publish 3")
    assert (mitigation.service, mitigation.min_version, mitigation.flags) == ("", "", {})


@pytest.mark.parametrize("make", [change, gate])
def test_the_pause_of_a_step_is_positive(make: Callable[..., Change | Gate]) -> None:
    assert make(every=0.001).every == 0.001
    for every in (0.0, -1.0):
        with pytest.raises(ValidationError, match="greater than 0"):
            make(every=every)


def test_a_plan_is_for_at_least_one_service() -> None:
    with pytest.raises(ValidationError, match="at least 1 item"):
        Plan(parts=(), steps=())
