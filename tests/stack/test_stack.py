"""The stack rolls back a bad release and verifies the result without a human."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from typing import Any

import pytest

from tests.stack.conftest import Stack


def get(stack: Stack, port: str, path: str, token: str = "") -> Any:
    headers = {"Authorization": f"Bearer {(stack.secrets / token).read_text()}"} if token else {}
    request = urllib.request.Request(f"http://127.0.0.1:{stack.port[port]}{path}", headers=headers)
    with urllib.request.urlopen(request, timeout=5) as answer:
        text = answer.read().decode()
    return json.loads(text) if text.startswith(("{", "[")) else text


def until(ask: Any, holds: Any, within: float) -> Any:
    end = time.monotonic() + within
    while not holds(answer := ask()):
        assert time.monotonic() < end, f"not within {within:g} s; last seen: {answer!r}"
        time.sleep(0.25)
    return answer


@pytest.mark.soak  # a minute on a quiet machine of two cores
def test_a_bad_release_is_rolled_back_and_verified(stack: Stack) -> None:
    stack.docker("compose", "run", "--rm", "-T", "ship", "1.0", "--good")
    armed = "/api/v1/query?query=min(responder_armed)%2Bmin(up)"
    until(lambda: get(stack, "PROMETHEUS_PORT", armed)["data"]["result"], lambda r: r and r[0]["value"][1] == "2", 120)

    output = stack.docker.run("sh", "examples/shop/ship-bad-release")

    assert "1.1 is live in green" in output
    first, second = (
        get(stack, port, "/api/v1/executions", "operator_token")["executions"]
        for port in ("RESPONDER_A_PORT", "RESPONDER_B_PORT")
    )
    assert first == second, "both replicas report the same"
    (execution,) = first
    assert (execution["service"], execution["outcome"], execution["from_version"], execution["to_version"]) == (
        "shop",
        "succeeded",
        "1.1",
        "1.0",
    )
    assert "1.1 → 1.0" in output
    assert "Thank you" in get(stack, "SHOP_PORT", "/api/checkout")
    live = stack.docker("compose", "exec", "-T", "shop-proxy", "cat", "/srv/shop/live.conf")
    assert live.strip() == "set $live shop-blue:8080;"
    for port in ("RESPONDER_A_PORT", "RESPONDER_B_PORT"):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            get(stack, port, "/api/v1/status")
