"""Marks all but the first cases of slow tests as soak: they run real migrations or Compose for seconds each."""

from __future__ import annotations

from collections import Counter

import pytest

MOST = {
    "test_alembic_online.py::test_alembic_runs_what_its_sql_does_not_show": 1,
    "test_alembic_branches.py::test_branches_with_roots_of_their_own": 1,
    "test_alembic_branches.py::test_one_branch_of_two": 1,
    "test_alembic_branches.py::test_unusual_ids": 1,
    "test_alembic_online.py::test_ids_with_dots": 1,
    "test_alembic_dependencies.py::test_heads_are_recorded_as_alembic_does": 1,
    "test_alembic_dependencies.py::test_reverting_records_the_heads_again": 1,
    "test_django_squashes.py::test_a_downgrade_records_as_django_does": 1,
    "test_django_squashes.py::test_reverting_restores_the_same_records": 1,
    "test_django_state.py::test_a_downgrade_equals_that_of_django": 1,
    "test_names.py::test_the_downgrade_equals_that_of_the_tool": 4,
    "test_kills.py::test_any_killed_process_leaves_a_consistent_store": 6,
    "test_names.py::test_reverting_restores_everything": 2,
    "test_impossible_ways.py::test_a_refused_downgrade_changes_nothing": 4,
    "test_triggers.py::test_a_revert_restores_values_past_a_trigger": 4,
    "test_compose_settings.py::test_a_rollback_changes_only_the_version": 8,
}
"""Cases in every suite, by test."""


def mark_the_rest(items: list[pytest.Item]) -> None:
    """Marks the cases beyond these numbers, in the order of the parameters."""
    seen: Counter[str] = Counter()
    for item in items:
        test = item.nodeid.partition("[")[0].rpartition("/")[2]
        seen[test] += 1
        if seen[test] > MOST.get(test, seen[test]):
            item.add_marker(pytest.mark.soak)
