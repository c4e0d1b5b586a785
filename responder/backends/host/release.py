"""Releases on a server: a link or file that names the live one, and a command that activates it."""

from __future__ import annotations

import json
from abc import abstractmethod
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from foundation.durations import Duration
from responder.backends.host.client import Local
from responder.backends.host.release_directory import ReleaseDirectory
from responder.backends.host.restart import restart_problems
from responder.backends.problems import Problem, joined
from responder.backends.resource import Resource
from responder.errors import Drift, StepFailed, Unavailable


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError(f"{path} must be an absolute path")
    return path


def _plain_name(text: str) -> str:
    if text in ("", ".", "..") or "/" in text or "\0" in text:
        raise ValueError(f"{text!r} is not a plain file name")
    return text


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
PlainName = Annotated[str, AfterValidator(_plain_name)]
Argv = Annotated[tuple[str, ...], Field(min_length=1)]


class _Pointer(Resource[Local, str | None]):
    """A pointer and the command that restarts the service.

    Both cannot happen atomically. A note beside the pointer is written before the change and removed after the
    command, so that after a crash in between the command is known to be missing.
    """

    _is_link: ClassVar[bool] = False

    restart: Argv | None = Field(default=None, description="Command that restarts the service")
    restart_within: Duration = Field(default=60.0, gt=0, description="Deadline of the restart")

    @property
    def timeout(self) -> float:
        return self.restart_within + 10.0

    @property
    @abstractmethod
    def _pointer(self) -> Path: ...

    @abstractmethod
    async def _point(self, local: Local, value: str) -> None: ...

    @abstractmethod
    async def _target_problems(self, local: Local, value: str) -> list[Problem]:
        """Why the pointer cannot be set to this value."""

    @abstractmethod
    async def _pointer_problems(self, local: Local) -> list[Problem]:
        """The problems of the current pointer."""

    async def _move_problems(self, local: Local) -> list[Problem]:
        """Why the pointer cannot be moved, or the service cannot be restarted."""
        found = await local.replacement_problems(self._pointer, link=self._is_link)
        if self.restart and not found:  # the note is a file, beside a pointer that may be a link
            found += await local.replacement_problems(self._note)
        if self.restart:
            found += await local.program_problems(self.restart, self._pointer.parent)
        return found

    async def check_access(self, local: Local) -> list[Problem]:
        found = [*await self._pointer_problems(local), *await self._move_problems(local)]
        if self.restart and not found:
            found += await restart_problems(local, self.restart, self._pointer.parent)
        return found

    async def preflight(self, local: Local, value: str | None) -> tuple[str, ...]:
        if problems := [*await self._target_problems(local, str(value)), *await self._move_problems(local)]:
            raise StepFailed(joined(problems))
        return ()

    @property
    def _note(self) -> Path:
        return self._pointer.with_name(f".{self._pointer.name}.not-followed-yet")

    async def write(self, local: Local, value: str | None, *, expected: str | None) -> None:
        if not isinstance(value, str):
            raise StepFailed(f"{self} cannot be set to {value!r}")
        self.must_be(found := await self.read(local), expected, value)
        if found != value and (problems := await self._target_problems(local, value)):
            raise StepFailed(joined(problems))  # before the note, because with it a revert would restart the service
        noted = self.restart is not None and await local.text(self._note) is None
        if noted:  # an older note stays: to replace it needs space
            await local.write_text(self._note, json.dumps({"was": expected, "to": value}), private=True)
        try:
            if found != value:
                self.must_be(await self.read(local), expected, value)
                await self._point(local, value)
        except (Drift, Unavailable):
            if noted and await self.read(local) != value:
                await local.remove(self._note)  # nothing was switched, so that a revert restarts nothing
            raise
        if self.restart:
            await local.run(self.restart, within=self.restart_within, cwd=self._pointer.parent)
            await local.remove(self._note)

    @property
    def nothing_follows(self) -> str:
        """The note for people if no command restarts the service."""
        return f"no `restart` for the {self}: a running process serves the old version until it is restarted"

    async def converged(self, local: Local, value: str | None) -> bool:
        return await self.read(local) == value and await local.text(self._note) is None


class CurrentRelease(_Pointer):
    """The release that the `current` link of a directory points to, as with Capistrano."""

    _is_link: ClassVar[bool] = True

    resource: Literal["current_release"] = "current_release"
    root: AbsolutePath = Field(description="Directory with the releases and the link")
    link: PlainName = Field(default="current", description="Name of the link")
    releases: PlainName = Field(default="releases", description="Directory with one directory per version")

    @property
    def _pointer(self) -> Path:
        return self.root / self.link

    async def read(self, local: Local) -> str | None:
        return await local.look(self._directory.live)  # not a release: reported as drift with its full path

    async def _point(self, local: Local, value: str) -> None:
        await local.switch_link(self._pointer, self._directory.home / _plain_name(value))

    async def _target_problems(self, local: Local, value: str) -> list[Problem]:
        return await local.look(self._directory.target_problems, str(self), _plain_name(value))

    async def preflight(self, local: Local, value: str | None) -> tuple[str, ...]:
        await super().preflight(local, value)
        return await local.look(self._directory.notes, str(value))

    async def _pointer_problems(self, local: Local) -> list[Problem]:
        return await local.look(self._directory.problems)

    @property
    def _directory(self) -> ReleaseDirectory:
        return ReleaseDirectory(self._pointer, self.root / self.releases, self.root)

    def __str__(self) -> str:
        return f"{self.link} release of {self.root}"


class PointerFile(_Pointer):
    """A small file that names the live version or color."""

    resource: Literal["pointer_file"] = "pointer_file"
    file: AbsolutePath = Field(description="File with the name of the live version or color only")

    @property
    def _pointer(self) -> Path:
        return self.file

    async def read(self, local: Local) -> str | None:
        return await local.text(self.file)

    async def _point(self, local: Local, value: str) -> None:
        await local.write_text(self.file, value)

    async def _target_problems(self, local: Local, value: str) -> list[Problem]:
        return []  # any word can be written

    async def _pointer_problems(self, local: Local) -> list[Problem]:
        if await local.text(self.file):
            return []
        found = "does not exist" if await local.content(self.file) is None else "is empty"
        return [Problem(f"file {self.file}", found, "write the name of the live version or color into it")]

    def __str__(self) -> str:
        return f"pointer in {self.file}"
