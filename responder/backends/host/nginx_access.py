"""Whether the serving nginx reads a given file, by its configuration dump and its running processes."""

from __future__ import annotations

import asyncio
import re
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from responder.backends.host.client import Local
from responder.backends.problems import Problem
from responder.errors import StepFailed

_HEAD = re.compile(r"^# configuration file (.+):$", re.MULTILINE)
_PROCESSES = Path("/proc")
_MASTER = "nginx: master process "


class _Settings(NamedTuple):
    """The configuration that an nginx was started with; empty for the compiled-in default."""

    config: str
    prefix: str


async def include_problems(local: Local, include: Path, test: tuple[str, ...], *, within: float) -> list[Problem]:
    """Returns problems if `test` is `nginx -t`; empty for other test commands."""
    if "-t" not in test:
        return []
    dump = tuple("-T" if word == "-t" else word for word in test)
    try:
        output = await local.output(dump, within=within)
    except StepFailed as failure:
        return [Problem(f"test {' '.join(dump)}", str(failure), "it must show the configuration of nginx")]
    return await asyncio.to_thread(_problems, include, test, _HEAD.findall(output))


def _problems(include: Path, test: tuple[str, ...], files: list[str]) -> list[Problem]:
    # Through another program such as `docker exec`, paths belong to another file system: only the name is comparable.
    own = Path(test[0]).name == "nginx"
    read = {Path(file).resolve() for file in files} if own else {Path(file).name for file in files}
    if (include.resolve() if own else include.name) not in read:
        main = files[0] if files else "its configuration"
        found = f"is not read by nginx: neither {main} nor its includes name it"
        return [Problem(f"file {include}", found, f"include {include} in the upstream block")]
    return _other_master(test) if own else []


def _other_master(test: tuple[str, ...]) -> list[Problem]:
    """If nginx runs on this host, one of its masters must use the configuration of the test."""
    running = [found for process in _PROCESSES.glob("[0-9]*") if (found := _title(process)) is not None]
    tested = _settings(test[1:])
    if tested in [_settings(tuple(title.split())) for title in running]:
        return []
    if not running and not (_PROCESSES / "1").exists():
        return []  # processes of other users are hidden from this one
    listed = ", ".join(running) or "none"
    found = f"tests {tested.config or 'the default configuration'}, but no nginx on this host runs with it: {listed}"
    fix = "use the -c and -p of the serving nginx in test and restart"
    return [Problem(f"test {' '.join(test)}", found, fix)]


def _title(process: Path) -> str | None:
    try:
        title = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:  # the process has ended
        return None
    return title.removeprefix(_MASTER) if title.startswith(_MASTER) else None


def _settings(argv: tuple[str, ...]) -> _Settings:
    options = {"-c": "", "-p": ""}
    for before, word in pairwise(argv):
        if before in options:
            options[before] = word
    return _Settings(options["-c"], options["-p"].rstrip("/"))
