"""A plan knows its own way back, and its hash holds for exactly this plan."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from responder.plan import Gate, Mitigation, Move, Plan, back
from tests.responder.examples import gate, move, plan, release

FIRST, SECOND = move("a", "b"), move("1", "2", lever=release("/srv/other"))


def test_the_way_back_is_the_moves_in_reverse_each_turned_round() -> None:
    assert back((FIRST, gate(), SECOND)) == (SECOND.turned(), FIRST.turned())
    assert FIRST.turned() == move("b", "a", back=True)


def test_turning_twice_is_not_turning() -> None:
    assert FIRST.turned().turned() == FIRST


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        ((), ()),
        ((gate(),), ()),
        ((move("a", "b", one_way=True),), ()),
        ((FIRST, move("x", "y", one_way=True)), (FIRST.turned(),)),
    ],
)
def test_what_has_no_way_back_needs_none(taken: tuple[Move | Gate, ...], expected: tuple[Move, ...]) -> None:
    assert back(taken) == expected


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
        plan(move(to="1.9"), gate(otherwise="freeze")),
        plan(move(), gate(otherwise="turn_back")),
        plan(move(), gate(otherwise="freeze", hold_for=1.0)),
        plan(gate(otherwise="freeze"), move()),
        plan(move(lever=release("/srv/other")), gate(otherwise="freeze")),
        plan().model_copy(update={"environment": "staging"}),
    ],
)
def test_another_plan_has_another_hash(other: Plan) -> None:
    assert other.hash != plan().hash


def test_steps_say_what_they_do() -> None:
    assert str(move()) == "current release of /srv/backend: 2.1 → 2.0"
    assert str(gate(hold_for=120.0, within=600.0)) == "backend is healthy for 2m, within 10m"
    assert str(gate(within=60.0)) == "backend is healthy, within 1m"


@pytest.mark.parametrize(
    "text",
    [
        '{"kind": "move", "lever": {"lever": "no_such"}, "was": 1, "to": 2}',
        '{"kind": "jump"}',
        '{"kind": "gate", "name": "x", "checks": []}',
        '{"kind": "move", "lever": {"lever": "current_release", "root": "/x"}, "was": 1, "to": 2, "extra": 1}',
    ],
)
def test_a_stored_step_that_makes_no_sense_is_refused(text: str) -> None:
    whole = f'{{"service":"s","environment":"e","strategy":"x","from_version":"1","to_version":"2","steps":[{text}]}}'
    with pytest.raises(ValidationError):
        Plan.model_validate_json(whole)


def test_a_mitigation_in_words() -> None:
    mitigation = Mitigation(
        platform="android", blocked_versions=("2",), min_version="1", flags={"a": False}, remains="publish 3"
    )
    assert str(mitigation) == "android (2 blocked; at least 1; a off): publish 3"
    assert str(Mitigation(platform="ios", remains="publish 3")) == "ios: publish 3"
