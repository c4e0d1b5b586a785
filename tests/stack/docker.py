"""The `docker` command and the real Compose against a private engine."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[2]


def compose_program() -> Path:
    """Compose itself: the command of its package always exits 0."""
    spec = importlib.util.find_spec("compose")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).with_name("docker-compose")


def config(**environment: str) -> dict[str, Any]:
    """The configuration that Compose renders from docker-compose.yml, with every profile, without an engine."""
    argv = [str(compose_program()), "--profile", "*", "config", "--format", "json"]
    done = subprocess.run(
        argv, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


class Docker:
    """`docker` and `docker compose` for one engine. A failure is an AssertionError with the output."""

    def __init__(self, host: str, home: Path, *files: Path, directory: Path = ROOT, **environment: str) -> None:
        """`directory`: where commands run. Another one than this repository has its own files of Compose."""
        plugins = home / "cli-plugins"
        plugins.mkdir(exist_ok=True)
        (plugins / "docker-compose").symlink_to(compose_program())
        self._environment = {
            **os.environ,
            "DOCKER_HOST": host,
            "DOCKER_CONFIG": str(home),
            "DOCKER_BUILDKIT": "0",  # the classic builder: this engine has no other
            **environment,
        }
        self.directory = directory
        if directory == ROOT:
            here = (ROOT / "docker-compose.yml", *files)
            self._environment["COMPOSE_FILE"] = os.pathsep.join(str(file) for file in here)

    def __call__(self, *words: str, text: str = "", stdin: IO[bytes] | None = None) -> str:
        return self.run("docker", *words, text=text, stdin=stdin)

    def run(self, *argv: str, text: str = "", stdin: IO[bytes] | None = None) -> str:
        """A command that uses this engine, such as a script of the repository."""
        given: dict[str, Any] = {"stdin": stdin} if stdin else {"input": text.encode()}
        done = subprocess.run(
            argv, cwd=self.directory, env=self._environment, capture_output=True, check=False, **given
        )
        output, errors = (stream.decode(errors="replace") for stream in (done.stdout, done.stderr))
        assert done.returncode == 0, f"{' '.join(argv)}: {done.returncode}\n{output}\n{errors}"
        return output
