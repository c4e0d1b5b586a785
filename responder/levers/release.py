"""Releases on an ordinary server: a link or a small file that says which one is live, and a command to make it so."""

from __future__ import annotations

import json
from abc import abstractmethod
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, JsonValue

from responder.clients.local import Local
from responder.durations import Duration
from responder.errors import Halt
from responder.levers.lever import Lever


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


class _Pointer(Lever):
    """A pointer and the command that makes the service follow it.

    The two cannot change in one instant. A note beside the pointer is written before it moves and removed when the
    command has ended, so that after a crash between the two the pointer is known not to be followed yet.
    """

    client: ClassVar[type] = Local

    restart: Argv | None = Field(default=None, description="Command that makes the service follow, as a list")
    restart_within: Duration = Field(default=60.0, gt=0, description="Longest time for that command")

    @property
    def patience(self) -> float:
        return self.restart_within + 10.0

    @property
    @abstractmethod
    def _pointer(self) -> Path: ...

    @abstractmethod
    async def _point(self, local: Local, value: str) -> None: ...

    @property
    def _note(self) -> Path:
        return self._pointer.with_name(f".{self._pointer.name}.not-followed-yet")

    async def write(self, local: Local, value: JsonValue, *, was: JsonValue) -> None:
        if not isinstance(value, str):
            raise Halt(f"{self} cannot be set to {value!r}")
        if self.restart:
            await local.write_text(self._note, json.dumps({"was": was, "to": value}), private=True)
        self.must_be(found := await self.read(local), was, value)
        if found != value:
            await self._point(local, value)
        if self.restart:
            await local.run(self.restart, within=self.restart_within, cwd=self._pointer.parent)
            await local.remove(self._note)

    async def prepare(self, local: Local, value: JsonValue) -> tuple[str, ...]:
        return () if self.restart else (self.nothing_follows,)

    @property
    def nothing_follows(self) -> str:
        """What people must know if no command makes the service follow."""
        return f"no `restart` for the {self}: a process that runs keeps serving the old version until it is restarted"

    async def settled(self, local: Local, value: JsonValue) -> bool:
        return await self.read(local) == value and await local.text(self._note) is None


class CurrentRelease(_Pointer):
    """The release that a directory's `current` link points to, as Capistrano and many others lay it out."""

    lever: Literal["current_release"] = "current_release"
    root: AbsolutePath = Field(description="Directory that holds the releases and the link")
    link: PlainName = Field(default="current", description="Name of the link")
    releases: PlainName = Field(default="releases", description="Name of the directory with one directory per version")

    @property
    def _pointer(self) -> Path:
        return self.root / self.link

    async def read(self, local: Local) -> JsonValue:
        target = await local.link_target(self._pointer)
        if target is not None and target.parent == self.root / self.releases:
            return target.name
        return None if target is None else str(target)  # nothing of ours: drift, told with its full path

    async def _point(self, local: Local, value: str) -> None:
        target = self.root / self.releases / _plain_name(value)
        if not await local.is_directory(target):
            raise Halt(f"there is no release {value} in {target.parent}")
        await local.switch_link(self._pointer, target)

    def __str__(self) -> str:
        return f"{self.link} release of {self.root}"


class PointerFile(_Pointer):
    """A small file that names what is live, as the colour that a proxy sends its traffic to."""

    lever: Literal["pointer_file"] = "pointer_file"
    file: AbsolutePath = Field(description="File whose only word is the name of what is live")

    @property
    def _pointer(self) -> Path:
        return self.file

    async def read(self, local: Local) -> JsonValue:
        return await local.text(self.file)

    async def _point(self, local: Local, value: str) -> None:
        await local.write_text(self.file, value)

    def __str__(self) -> str:
        return f"pointer in {self.file}"
