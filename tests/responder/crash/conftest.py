"""Every drill runs on both databases."""

import pytest

from tests.journals import journal, postgres_server, state  # noqa: F401


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What a strategy does outside is the same on both: the many drills in a cluster are run on Postgres by hand."""
    for item in items:
        if "[postgres-kubernetes" in item.nodeid and "undisturbed" not in item.nodeid:
            item.add_marker(pytest.mark.soak)
