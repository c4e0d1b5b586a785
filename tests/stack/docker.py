"""The `docker` command and the real Compose against one engine of our own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[2]


def compose_program() -> Path:
    """Compose itself: the command that its package installs exits 0 whatever happens."""
    spec = importlib.util.find_spec("compose")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).with_name("docker-compose")


def config(**environment: str) -> dict[str, Any]:
    """What Compose makes of docker-compose.yml, with every profile. No engine is asked."""
    argv = [str(compose_program()), "--profile", "*", "config", "--format", "json"]
    done = subprocess.run(
        argv, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


class Docker:
    """`docker` and `docker compose`, for one engine. What fails is an AssertionError with all that was said."""

    def __init__(self, host: str, *, files: tuple[Path, ...] = (), environment: dict[str, str] | None = None) -> None:
        # The classic builder: this engine has no other.
        self._environment = {**os.environ, "DOCKER_HOST": host, "DOCKER_BUILDKIT": "0", **(environment or {})}
        self._files = [f"--file={file}" for file in files]

    def __call__(self, *words: str, text: str | None = None, stdin: IO[bytes] | None = None) -> str:
        return self._run(["docker", *words], text, stdin)

    def compose(self, *words: str) -> str:
        return self._run([str(compose_program()), *self._files, *words], "", None)

    def _run(self, argv: list[str], text: str | None, stdin: IO[bytes] | None) -> str:
        given: dict[str, Any] = {"stdin": stdin} if stdin else {"input": (text or "").encode()}
        done = subprocess.run(argv, cwd=ROOT, env=self._environment, capture_output=True, check=False, **given)
        said = done.stdout.decode(errors="replace")
        assert done.returncode == 0, (
            f"{' '.join(argv)}: {done.returncode}\n{said}\n{done.stderr.decode(errors='replace')}"
        )
        return said
