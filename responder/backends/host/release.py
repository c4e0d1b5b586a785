"""Releases on a server: a link or file that names the live one, and a command that activates it."""

from __future__ import annotations

import json
from abc import abstractmethod
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from foundation.durations import Duration
from responder.backends.host.client import Local
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
        target = await local.link_target(self._pointer)
        if target is not None and await local.same_directory(target.parent, self._home):
            return target.name
        return None if target is None else str(target)  # not a release: reported as drift with its full path

    async def _point(self, local: Local, value: str) -> None:
        await local.switch_link(self._pointer, self.root / self.releases / _plain_name(value))

    async def _target_problems(self, local: Local, value: str) -> list[Problem]:
        release = self._home / _plain_name(value)
        if not await local.is_directory(release):
            found = f"release {value} does not exist in {self._home}"
            return [Problem(str(self), found, "keep every release until a newer one is known good")]
        live = await local.link_target(self._pointer)
        if live is not None and live.name != value:
            keep = f"deploy {value} again into a directory of its own"
            if await local.same_directory(release, live):
                return [Problem(f"release {value}", f"is the same directory as {live.name}, {release.resolve()}", keep)]
            if await local.is_empty(release) and await local.is_empty(live) is False:
                return [Problem(f"release {value}", f"is empty, unlike {live.name}", keep)]
        fix = "restore the shared file or directory"
        return [
            Problem(str(release / name), f"links to {target}, which is missing", fix)
            for name, target in (await self._broken(local, release, live)).items()
            if target.is_relative_to(self.root.resolve())
        ]

    @staticmethod
    async def _broken(local: Local, release: Path, live: Path | None) -> dict[str, Path]:
        """Links of a release to something missing outside of it, except those that the live release has as well."""
        broken = await local.broken_links(release)
        also = await local.broken_links(live) if broken and live is not None else {}
        return {name: target for name, target in broken.items() if also.get(name) != target}

    async def preflight(self, local: Local, value: str | None) -> tuple[str, ...]:
        await super().preflight(local, value)
        release, live = self._home / str(value), await local.link_target(self._pointer)
        if live is None or live.name == value:
            return ()
        broken = await self._broken(local, release, live)
        notes = [f"{release / name} links to {target}, which is missing" for name, target in broken.items()]
        return (*notes, *await local.stricter(release, live))

    @property
    def _home(self) -> Path:
        return self.root / self.releases

    async def _pointer_problems(self, local: Local) -> list[Problem]:
        home, fix = self._home, "deploy a release there, and link to it"
        if not await local.is_directory(home):
            return [Problem(f"directory {home}", "does not exist", "create it, or correct root and releases")]
        if not await local.directories(home):
            return [Problem(f"directory {home}", "contains no release", fix)]
        target = await local.link_target(self._pointer)
        if target is None:
            return [Problem(f"link {self._pointer}", "does not exist", fix)]
        if not await local.same_directory(target.parent, home):
            return [Problem(f"link {self._pointer}", f"points to {target}, which is not in {home}", fix)]
        if not await local.is_directory(target):
            return [Problem(f"link {self._pointer}", f"points to {target}, which does not exist", fix)]
        release = await local.link_target(target) if await local.is_link(target) else None
        if release is not None and await local.same_directory(release.parent, home):
            found = f"points to {target.name}, which is a link to the release {release.name}"
            return [Problem(f"link {self._pointer}", found, f"link to {release} itself, whose name is the version")]
        return []

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
