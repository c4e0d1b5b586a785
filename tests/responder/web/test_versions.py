"""The status of a version on each platform, its authors, and no overwriting of unread changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from responder.rollback.version_change import VersionChange
from responder.services import planner
from tests.responder.examples import policy_set, service
from tests.responder.web.conftest import ResponderServer

CI = "https://ci.example/run/9"


async def tell(
    responder: ResponderServer, version: str, platform: str | None = None, at: str = "09:00", **more: Any
) -> Any:
    payload = {"service": "backend", "version": version, "at": f"2026-11-23T{at}:00Z", **more}
    status, body = await responder.post(
        "/api/v1/deployments", {**payload, "platform": platform} if platform else payload
    )
    assert status == 201, body
    return body["deployment"]


async def test_a_platform_is_reported_separately(responder: ResponderServer) -> None:
    await tell(responder, "3.0", "web", artifact="sha256:ab", status="good")
    deployment = await tell(responder, "3.0", "android", "12:00", artifact="versionCode=1234", provenance=CI, by="ci")
    assert (deployment["platform"], deployment["provenance"]) == ("android", CI)
    await tell(responder, "3.1", "web", "13:00", artifact="sha256:cd")
    status, web = await responder.get("/api/v1/versions/backend/web")
    assert (status, web["service"], web["platform"], web["environment"]) == (200, "backend", "web", "production")
    assert (web["runs"]["version"], web["runs"]["artifact"], web["last_good"]) == ("3.1", "sha256:cd", "3.0")
    assert [(v["version"], v["status"], v["artifact"]) for v in web["versions"]] == [
        ("3.1", "candidate", "sha256:cd"),
        ("3.0", "good", "sha256:ab"),
    ]
    android = (await responder.get("/api/v1/versions/backend/android"))[1]
    assert (android["runs"]["version"], android["runs"]["provenance"], android["last_good"]) == ("3.0", CI, None)
    assert (await responder.get("/api/v1/status"))[1]["services"][0]["version"] == "3.1"


async def test_a_repeated_report_is_recorded_once_per_platform(responder: ResponderServer) -> None:
    for platform in ("web", "android"):
        payload = {"service": "backend", "version": "3.0", "platform": platform, "id": "run-9"}
        assert [(await responder.post("/api/v1/deployments", payload))[0] for _ in range(2)] == [201, 200]
    _, again = await responder.post("/api/v1/deployments", {**payload, "version": "9"})
    assert (again["new"], again["deployment"]["version"], again["deployment"]["platform"]) == (False, "3.0", "android")


@pytest.mark.parametrize("platform", ["Android", "a b", "", "x/y", 7])
async def test_a_platform_is_a_name(responder: ResponderServer, platform: Any) -> None:
    payload = {"service": "backend", "version": "3.0", "platform": platform}
    status, body = await responder.post("/api/v1/deployments", payload)
    assert (status, body["where"]) == (400, "platform")


@pytest.mark.parametrize(
    ("path", "says"),
    [
        (
            "backend/tv",
            "no deployment of backend on platform 'tv' in production was reported; its platforms are android",
        ),
        ("backend/3.0", "3.0 is one of its versions: request /api/v1/versions/backend"),
        ("nobody/android", "no service 'nobody' is configured"),
        ("backend/android?environment=moon", "not configured in the environment 'moon'"),
    ],
)
async def test_an_unknown_platform_lists_the_known_ones(responder: ResponderServer, path: str, says: str) -> None:
    await tell(responder, "3.0", "android")
    status, body = await responder.get(f"/api/v1/versions/{path}")
    assert status == 404 and says in body["error"]


async def test_a_service_without_platforms_has_none(responder: ResponderServer) -> None:
    await tell(responder, "3.0")
    assert (await responder.get("/api/v1/versions/backend/web"))[1]["error"].endswith("it has no platforms")
    [version] = (await responder.get("/api/v1/versions/backend"))[1]["versions"]
    assert version["version"] == "3.0"


@pytest.mark.parametrize("path", ["/api/v1/versions/backend", "/api/v1/versions/backend/android"])
async def test_an_unchanged_answer_is_a_304(responder: ResponderServer, path: str) -> None:
    await tell(responder, "3.0", "android")

    async def ask(known: str | None = None) -> tuple[int, str, bytes]:
        headers = {"If-None-Match": known} if known else {}
        async with responder.client.get(path, headers=headers) as response:
            return response.status, response.headers["ETag"], await response.read()

    status, tag, body = await ask()
    assert status == 200 and tag.startswith('"')
    assert await ask(tag) == (304, tag, b"")
    assert await ask(f'"other", W/{tag}') == (304, tag, b"")
    assert await ask('"other"') == (200, tag, body)
    await responder.post("/api/v1/versions/backend/3.0", {"status": "bad"})
    status, new, _ = await ask(tag)
    assert status == 200 and new != tag


async def test_an_unread_change_is_not_overwritten(responder: ResponderServer) -> None:
    await tell(responder, "3.0", "android")
    [seen] = (await responder.get("/api/v1/versions/backend/android"))[1]["versions"]
    path = "/api/v1/versions/backend/3.0"

    async def mark(status: str, **headers: str) -> tuple[int, Any, str | None]:
        async with responder.client.post(path, json={"status": status}, headers=headers) as response:
            return response.status, await response.json(), response.headers.get("ETag")

    status, body, tag = await mark("good", **{"If-Match": f'"{seen["etag"]}"'})
    assert (status, tag) == (200, f'"{body["version"]["etag"]}"')
    status, body, _ = await mark("bad", **{"If-Match": f'"{seen["etag"]}"'})
    assert (status, body["error"]) == (412, "someone else changed it: read it again")
    [now] = (await responder.get("/api/v1/versions/backend"))[1]["versions"]
    assert (now["status"], f'"{now["etag"]}"') == ("good", tag)
    assert (await mark("bad", **{"If-Match": f"W/{tag}"}))[0] == 412
    assert (await mark("bad", **{"If-Match": "*"}))[0] == 200
    assert (await mark("retired"))[0] == 200
    missing = await responder.post("/api/v1/versions/backend/9.9", {"status": "bad"}, headers={"If-Match": '"x"'})
    assert missing[0] == 404


async def test_reports_are_shown_on_request(responder: ResponderServer) -> None:
    await tell(responder, "3.0", "android", by="ci")
    await responder.post("/api/v1/versions/backend/3.0", {"status": "bad", "reason": "leaks", "by": "alice"})
    for path in ("/api/v1/versions/backend", "/api/v1/versions/backend/android"):
        assert "marks" not in (await responder.get(path))[1]
        marks = (await responder.get(f"{path}?history=true"))[1]["marks"]
        assert [(m["status"], m["marked_by"], m["reason"]) for m in marks] == [
            ("bad", "alice", "alice: leaks"),
            ("candidate", "ci", "newly deployed"),
        ]
    status, body = await responder.get("/api/v1/versions/backend?history=maybe")
    assert (status, body["where"]) == (400, "history")


async def test_requirements_are_shown_on_request(responder: ResponderServer) -> None:
    for hour, versions in (("09", ">=1"), ("10", ">=2,<3")):
        await tell(responder, "3.0", "android", f"{hour}:00", requires={"database": versions}, by="ci")
    for path in ("/api/v1/versions/backend", "/api/v1/versions/backend/android"):
        assert "requirements" not in (await responder.get(path))[1]
        requirements = (await responder.get(f"{path}?history=true"))[1]["requirements"]
        assert [(r["version"], r["needs"], r["revision"], r["versions"], r["reported_by"]) for r in requirements] == [
            ("3.0", "database", 2, "<3,>=2", "ci"),
            ("3.0", "database", 1, ">=1", "ci"),
        ]
        assert len((await responder.get(f"{path}?history=true&limit=1"))[1]["requirements"]) == 1


async def test_a_retired_version_is_never_a_target(responder: ResponderServer) -> None:
    await responder.good_then_new()
    await responder.post("/api/v1/versions/backend/2.0", {"status": "retired", "reason": "image is gone"})
    payload = {"service": "backend", "version": "2.0", "reason": "x", "dry_run": True}
    _, body = await responder.post("/api/v1/rollbacks", payload)
    assert (body["result"], body["guard"], body["reason"]) == ("deny", "target_version", "2.0 is retired")


async def test_the_preview_knows_the_artifacts_of_a_version(
    responder: ResponderServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version, at in (("2.0", "09:00"), ("2.1", "10:00")):
        await tell(responder, version, "android", at, artifact=f"versionCode={version}", status="good")
    planned: list[VersionChange] = []

    async def plan(versions: Sequence[VersionChange], *args: Any) -> Any:
        planned.extend(versions)
        return await real_plan(versions, *args)

    real_plan = planner.plan
    monkeypatch.setattr(planner, "plan", plan)
    payload = {"service": "backend", "reason": "x", "dry_run": True}
    _, body = await responder.post("/api/v1/rollbacks", payload)
    assert "plan" in body, body
    [version] = planned
    assert version.artifacts["android"] == "versionCode=2.0"
    assert version.from_artifacts["android"] == "versionCode=2.1"


async def test_each_environment_has_its_own_versions(responder: ResponderServer) -> None:
    responder.policy_set = policy_set(services=(service(), service(environment="staging")))
    await tell(responder, "3.0", "android", environment="staging")
    assert (await responder.get("/api/v1/versions/backend/android"))[0] == 404
    assert (await responder.get("/api/v1/versions/backend/android?environment=production"))[0] == 404
    assert (await responder.get("/api/v1/versions/backend/android?environment=staging"))[0] == 200
