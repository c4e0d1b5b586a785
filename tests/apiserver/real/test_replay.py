"""The stand-in gives the answers of a real control plane: `answers.json`, made by `record.py`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.apiserver import Cluster, Image
from tests.apiserver.real.record import RECORDED, Api, Object
from tests.apiserver.real.requests import all_requests

_CASES: list[Object] = json.loads(RECORDED.read_text())["cases"]
_STEPS = 50
_OTHER_WORDS = ("list: bad continue", "patch: wrong type, strategic")
"""Only status and reason are equal: the message quotes a Go value."""


def differences(real: Any, ours: Any, path: str = "") -> Iterator[str]:
    if isinstance(real, dict) and isinstance(ours, dict):
        for key in sorted({*real, *ours}):
            yield from differences(real.get(key, "(none)"), ours.get(key, "(none)"), f"{path}.{key}")
    elif isinstance(real, list) and isinstance(ours, list) and len(real) == len(ours):
        for n, (a, b) in enumerate(zip(real, ours, strict=True)):
            yield from differences(a, b, f"{path}[{n}]")
    elif real != ours:
        yield f"{path}: real {json.dumps(real)[:400]}, ours {json.dumps(ours)[:400]}"


class _Everything(set[tuple[str, str]]):
    def __contains__(self, _: object) -> bool:
        return True


async def _replayed(config: Path) -> dict[str, Object]:
    now = 0.0
    cluster = Cluster(clock=lambda: now, token="none")
    cluster.images["shop:pull_fails"] = Image(starts="pull_fails")
    answers = {}
    async with cluster.up() as url:
        config.write_text(json.dumps(cluster.kubeconfig(url)))
        api = Api(config)
        for case in _CASES:
            for _ in range(_STEPS if case.get("seconds") or case.get("idle") else 0):
                now += case.get("seconds", 10.0) / _STEPS
                cluster.catch_up()
            cluster.forbidden = _Everything() if "Impersonate-User" in case.get("headers", {}) else set()
            answers[case["name"]] = await api.ask(case)
        await api.close()
    return answers


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Object]:
    return asyncio.run(_replayed(tmp_path_factory.mktemp("replayed") / "config"))


@pytest.mark.parametrize("case", _CASES, ids=lambda case: case["name"])
def test_the_answer_is_that_of_a_real_server(case: Object, replayed: dict[str, Object]) -> None:
    real, ours = case["answered"], replayed[case["name"]]
    if case["name"] in _OTHER_WORDS:
        real, ours = ({"status": each["status"], "reason": each["body"]["reason"]} for each in (real, ours))
    assert list(differences(real, ours)) == []


def test_every_request_was_recorded() -> None:
    assert [{k: v for k, v in case.items() if k != "answered"} for case in _CASES] == all_requests()
