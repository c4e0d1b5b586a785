"""Every drill runs on both databases, as far as time allows."""

import pytest

from tests.journals import journal, state  # noqa: F401
from tests.responder.rollback.crash import databases, docker

_QUICK = ("undisturbed", "failing_gate_at_every_gate", "drift", "cannot_be_done", "test_laws.py")
"""Drills of a few runs each."""

_APPS = ("frontend_android", "frontend_ios", "frontend_desktop", "frontend_apps")
_TELLING = ("at_every_call[sqlite-frontend_android_full", "at_every_call[sqlite-frontend_ios", "fence_holds")
"""The drills of apps in every suite, besides the quick ones: stores answer slowly, so each run is long."""

_CLUSTERS = ("kubernetes_daemonset", "kubernetes_paused", "kubernetes_autoscaled")
_EVERYWHERE = ("crash_at_every_call[", "crash_at_some_calls", "second_worker", "on_the_way_back")
_SHOWN = ("test_a_crash_at_every_call[sqlite-kubernetes_paused]", "_way_back[sqlite-kubernetes_paused]")
"""The drills of these clusters in every suite: the most complex ones."""

_LONG = (
    *(
        f"{drill}[sqlite-docker_{strategy}]"
        for strategy in ("blue_green", "rolling")
        for drill in (
            "test_a_failing_gate_at_every_gate",
            "test_drift_at_every_resource_freezes",
            "test_a_revert_leaves_nothing_behind",
        )
    ),
    *(
        f"test_a_crash_at_every_call[{stage}]"
        for stage in (
            "sqlite-kubernetes_rolling",
            "sqlite-kubernetes_blue_green",
            "sqlite-kubernetes_immediate",
            "sqlite-kubernetes_partitioned",
            "sqlite-frontend_copied",
            "sqlite-docker_immediate",
            "sqlite-frontend_origin_path",
            "sqlite-frontend_key",
            "postgres-together",
            "postgres-blue_green",
        )
    ),
    *(f"test_a_second_worker_at_every_call[sqlite-kubernetes_{way}]" for way in ("rolling", "blue_green")),
    *(
        f"test_a_crash_at_some_calls_and_again_in_the_resumed_run[postgres-{stage}]"
        for stage in ("together", "blue_green")
    ),
    "test_a_crash_at_some_calls_and_again_in_the_resumed_run[sqlite-kubernetes_rolling]",
    "test_a_failing_gate_and_a_crash_at_every_call_of_the_revert[sqlite-kubernetes_autoscaled]",
)
"""They take minutes together. A crash at some calls of the same stages is in every suite."""

_DOCKER = "test_the_fence_holds_without_the_guard[sqlite-docker_immediate]"
"""The takeovers on a real engine in every suite. A crash at every call takes minutes."""

_STOPPED = ("[sqlite-immediate]", "[sqlite-kubernetes_paused]")
"""Late stops with a crash during the revert, in every suite."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Strategies act identically on both: run the drills of clusters and sites on PostgreSQL by hand.

    A real engine or database takes a second for each run: of its drills only those that tell most are in every suite.
    """
    for item in items:
        if "tests/responder/rollback/crash" not in str(item.path):
            continue
        quick = any(word in item.nodeid for word in _QUICK)
        far = any(f"[postgres-{where}" in item.nodeid for where in ("kubernetes", "frontend"))
        long = any(f"-{app}" in item.nodeid for app in _APPS) and not quick
        cluster = any(f"-{name}]" in item.nodeid for name in _CLUSTERS)
        if (
            item.nodeid.endswith(_LONG)
            or (cluster and any(word in item.nodeid for word in _EVERYWHERE) and not item.nodeid.endswith(_SHOWN))
            or ("late_stop" in item.name and not item.nodeid.endswith(_STOPPED))
            or (long and not any(name in item.nodeid for name in _TELLING))
            or (far and "undisturbed" not in item.nodeid)
            or (
                ("-docker" in item.nodeid or "-database" in item.nodeid)
                and (
                    "[postgres" in item.nodeid
                    or ("-database" in item.nodeid and "failing_gate" in item.name)
                    or not (quick or item.name == _DOCKER)
                )
            )
        ):
            item.add_marker(pytest.mark.soak)


@pytest.fixture(autouse=True)
def engine_of_the_stage(request: pytest.FixtureRequest) -> None:
    if "docker" in request.node.name:
        docker.ENGINES[:] = [request.getfixturevalue("whole_engine")]


@pytest.fixture(autouse=True)
async def database_of_the_stage(request: pytest.FixtureRequest) -> None:
    if "database" in request.node.name and not databases.DSNS:
        databases.DSNS.append(await request.getfixturevalue("postgres_server").database("drills"))
