"""Whether the serving nginx reads a given file and is the one that is reloaded. Changes nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from responder.backends.host.client import Local
from responder.backends.problems import Problem
from responder.errors import StepFailed, Unavailable

_HEAD = re.compile(r"^# configuration file (.+):$", re.MULTILINE)
_PROCESSES = Path("/proc")
_MASTER = "nginx: master process "
_SAME_HOST = ("sudo", "doas")


class _Command(NamedTuple):
    """A call of nginx, with the program that starts it elsewhere or as another user, such as `docker exec proxy`."""

    wrapper: tuple[str, ...]
    options: tuple[str, ...]

    @classmethod
    def of(cls, argv: tuple[str, ...]) -> _Command | None:
        """None for a command that does not name nginx. A container or a directory may have that name too."""
        named = [
            at
            for at, word in enumerate(argv)
            if Path(word).name == "nginx" and argv[at - 1 : at] not in (("-c",), ("-p",))
        ]
        return cls(argv[: named[-1]], argv[named[-1] + 1 :]) if named else None

    @property
    def here(self) -> bool:
        """Whether its paths are those of this host."""
        return not self.wrapper or Path(self.wrapper[0]).name in _SAME_HOST

    @property
    def settings(self) -> _Settings:
        return _settings(self.options)

    def same_nginx(self, other: _Command) -> bool:
        """Whether both commands reach the same nginx. The last word of a wrapper elsewhere is the container."""
        ends = [("", "") if command.here else (command.wrapper[0], command.wrapper[-1]) for command in (self, other)]
        return ends[0] == ends[1] and self.settings == other.settings


class _Settings(NamedTuple):
    """The configuration that an nginx was started with; empty for the compiled-in default."""

    config: str
    prefix: str


class _Master(NamedTuple):
    """A running master process of this host, not of a container."""

    pid: int
    title: str


async def include_problems(
    local: Local, include: Path, test: tuple[str, ...], restart: tuple[str, ...] | None, *, within: float
) -> list[Problem]:
    """Returns problems if `test` is `nginx -t`; empty for other test commands."""
    command = _Command.of(test)
    if command is None or "-t" not in command.options:
        return []
    options = tuple("-T" if word == "-t" else word for word in command.options)
    dump = (*test[: len(test) - len(options)], *options)
    try:
        output = await local.output(dump, within=within)
    except (StepFailed, Unavailable) as failure:
        return [Problem(f"test {' '.join(dump)}", str(failure), "it must show the configuration of nginx")]
    files = _HEAD.split(output)[1:]
    read = dict(zip(files[::2], files[1::2], strict=True))
    if found := await asyncio.to_thread(_unread, include, command, read):
        return found
    if not command.here:
        found = await _mounted_alone(local, include, command, list(read), within=within)
    return found or await asyncio.to_thread(_other_nginx, test, command, restart)


def _unread(include: Path, command: _Command, read: dict[str, str]) -> list[Problem]:
    """Whether the configuration lacks the file. In another file system only names and contents can be compared."""
    if command.here:
        contents = [text for file, text in read.items() if Path(file).resolve() == include.resolve()]
    else:
        contents = [text for file, text in read.items() if Path(file).name == include.name]
    if not contents:
        main = next(iter(read), "its configuration")
        found = f"is not read by nginx: neither {main} nor its includes name it"
        return [Problem(f"file {include}", found, f"include {include} in the upstream block")]
    if include.read_text().strip() not in [text.strip() for text in contents]:
        found = f"is not the file that nginx reads: {' '.join(command.wrapper)} nginx has other content under that name"
        return [Problem(f"file {include}", found, f"mount the directory {include.parent} in the container of nginx")]
    return []


async def _mounted_alone(
    local: Local, include: Path, command: _Command, files: list[str], *, within: float
) -> list[Problem]:
    """Whether the container of nginx mounts only the file: it would keep the old one after a rename."""
    try:
        mounts = await local.output((*command.wrapper, "cat", "/proc/self/mountinfo"), within=within)
    except (StepFailed, Unavailable):  # an image without `cat`, or another wrapper
        return []
    points = {line.split()[4] for line in mounts.splitlines() if len(line.split()) > 4}
    if alone := [file for file in files if Path(file).name == include.name and file in points]:
        found = f"is mounted alone as {alone[0]}, so nginx would not see the file that replaces it"
        return [Problem(f"file {include}", found, f"mount the directory {include.parent} instead")]
    return []


def _other_nginx(test: tuple[str, ...], command: _Command, restart: tuple[str, ...] | None) -> list[Problem]:
    """Whether the nginx that is tested is not the one that runs, or not the one that is reloaded."""
    running = _masters() if command.here else []
    serving = [master for master in running if _settings(tuple(master.title.split())) == command.settings]
    # Processes of other users may be hidden.
    if command.here and not serving and (running or (_PROCESSES / "1").exists()):
        listed = ", ".join(master.title for master in running) or "none"
        tested = command.settings.config or "the default configuration"
        found = f"tests {tested}, but no nginx on this host runs with it: {listed}"
        fix = "use the -c and -p of the serving nginx in test and restart, or `docker exec` if it runs in a container"
        return [Problem(f"test {' '.join(test)}", found, fix)]
    reload = _Command.of(restart) if restart else None
    if reload is None or "-s" not in reload.options:
        return []
    what = f"restart {' '.join(restart or ())}"
    if not reload.same_nginx(command):
        found = f"reloads another nginx than {' '.join(test)} tests"
        return [Problem(what, found, "use the same -c and -p in test and restart")]
    if not reload.wrapper and (foreign := [master.pid for master in serving if not _may_signal(master.pid)]):
        found = f"nginx (process {foreign[0]}) belongs to another user, which this one cannot signal"
        return [Problem(what, found, "let sudo or systemctl reload it")]
    return []


def _may_signal(process: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        try:
            os.kill(process, 0)
        except PermissionError:
            return False
    return True


def _masters() -> list[_Master]:
    depth = _namespaces(_PROCESSES / "self")
    found = []
    for process in _PROCESSES.glob("[0-9]*"):
        title = _title(process)
        if title is not None and _namespaces(process) == depth:
            found.append(_Master(int(process.name), title))
    return found


def _namespaces(process: Path) -> int:
    """The number of PID namespaces that a process is in; a process in a container has more."""
    with contextlib.suppress(OSError):
        for line in (process / "status").read_text().splitlines():
            if line.startswith("NSpid:"):
                return len(line.split()) - 1
    return 0


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
