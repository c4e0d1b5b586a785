"""The real Docker Compose with one project per test, on one engine."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.engine import Engine
from tests.stack.docker import compose_program


class Compose:
    """A project in a directory; call it with the words of a command. Failures raise AssertionError with the output."""

    def __init__(self, engine: Engine, directory: Path, services: dict[str, Any], **more: Any) -> None:
        self.engine, self.directory, self.file = engine, directory, directory / "compose.yaml"
        self.spec: dict[str, Any] = {"name": "shop", "services": services, **more}
        self.write()

    def write(self) -> None:
        """Writes the file again after the test has changed its content."""
        self.file.write_text(yaml.safe_dump(self.spec))

    def __call__(self, *words: str, **environment: str) -> str:
        argv = [str(compose_program()), *words]
        env = {**os.environ, "DOCKER_HOST": self.engine.url, **environment}
        done = subprocess.run(argv, cwd=self.directory, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr
