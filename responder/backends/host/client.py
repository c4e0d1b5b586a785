"""This host: atomic changes of links and small files, and commands with a deadline."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, ParamSpec, Self, TypeVar

from responder.backends.host.access import program_problems, replacement_problems
from responder.backends.host.commands import MAX_OUTPUT, run_command
from responder.backends.problems import Problem
from responder.config.private_files import FILE
from responder.errors import StepFailed, Unavailable
from responder.transport.acting import acting
from responder.transport.programs import environment, program

P = ParamSpec("P")
T = TypeVar("T")

_SHARED = 0o644
"""Mode of a new file of a service, which others read. The umask can only restrict it."""


class Local:
    """Files and processes of the host that the responder runs on."""

    setting = "pass_environment"

    def __init__(self, passed: Collection[str] = ()) -> None:
        self._passed = passed

    @classmethod
    async def connect(cls, settings: Any) -> Self:
        """`settings`: names of additional environment variables that commands receive."""
        return cls(settings or ())

    async def close(self) -> None:
        """Nothing is held open."""

    async def look(self, at: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of a function that only reads files, in a thread: a file system may hang."""
        return await asyncio.to_thread(at, *args, **kwargs)

    async def text(self, file: Path) -> str | None:
        """The text of a small file without surrounding white space; None if there is none."""

        def read() -> str | None:
            try:
                return file.read_text().strip()
            except FileNotFoundError:
                return None
            except (OSError, UnicodeDecodeError) as e:
                raise StepFailed(f"{file} cannot be read: {e}") from e

        return await asyncio.to_thread(read)

    async def content(self, file: Path) -> bytes | None:
        """The bytes of a small file; None if there is none."""

        def read() -> bytes | None:
            try:
                return file.read_bytes()
            except FileNotFoundError:
                return None
            except OSError as e:
                raise StepFailed(f"{file} cannot be read: {e.strerror}") from e

        return await asyncio.to_thread(read)

    async def digests(self, directory: Path, names: tuple[str, ...]) -> dict[str, str]:
        """The SHA-256 of files below a directory; empty for a missing or unreadable file."""

        def digest(name: str) -> str:
            try:
                with (directory / name).open("rb") as file:
                    return hashlib.file_digest(file, "sha256").hexdigest()
            except OSError:
                return ""

        return await asyncio.to_thread(lambda: {name: digest(name) for name in names})

    async def replacement_problems(self, path: Path, *, link: bool = False) -> list[Problem]:
        """Why a file or link cannot be replaced by a rename; empty if it can."""
        return await asyncio.to_thread(lambda: replacement_problems(path, link=link))

    async def program_problems(self, argv: tuple[str, ...], cwd: Path | None = None) -> list[Problem]:
        """Why a command cannot be started; empty if it can."""
        return await asyncio.to_thread(program_problems, argv, cwd)

    async def switch_link(self, link: Path, target: Path) -> None:
        """Points the link to the target in one rename, so that it always exists.

        A link to a sibling of the target keeps its spelling, such as an absolute path: only the name changes.
        """

        def spelled() -> Path | str:
            with contextlib.suppress(OSError):
                if (link.parent / (present := link.readlink())).parent.resolve() == target.parent.resolve():
                    return present.with_name(target.name)
            return os.path.relpath(target, link.parent)

        acting.get()()
        await asyncio.to_thread(_replace, link, lambda new: new.symlink_to(spelled()))

    async def write_text(self, file: Path, text: str, *, private: bool = False) -> None:
        """Replaces a small file in one rename, on disk before this returns.

        Its mode stays unchanged. Only the owner can write a new file, and only the owner can read a `private` one.
        """
        await self.write(file, (text + "\n").encode(), private=private)

    async def write(self, file: Path, content: bytes, *, parents: bool = False, private: bool = False) -> None:
        """Like `write_text`, for bytes. `parents`: creates missing directories.

        A link stays, and the file that it points to is replaced; a `private` file replaces a link of that name.
        """

        def put(new: Path) -> None:
            mode = FILE if private or file.is_file() else _SHARED  # `_replace` restores the mode of an existing file
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as f:
                f.write(content)
                f.flush()
                os.fsync(f.fileno())

        acting.get()()
        if parents:
            await asyncio.to_thread(_make_parents, file.parent)
        await asyncio.to_thread(_replace, file, put, follow=not private)

    async def remove(self, file: Path) -> None:
        acting.get()()
        await asyncio.to_thread(lambda: file.unlink(missing_ok=True))

    async def converse(self, socket: Path, command: str, *, within: float) -> str:
        """Sends one line to a Unix socket and returns the answer. Raises Unavailable and StepFailed."""
        acting.get()()
        try:
            async with asyncio.timeout(within):
                reader, writer = await asyncio.open_unix_connection(str(socket))
                try:
                    writer.write(f"{command}\n".encode())
                    await writer.drain()
                    return (await reader.read()).decode(errors="replace")
                finally:
                    writer.close()
        except TimeoutError:
            raise Unavailable(f"{socket} did not answer within {within:g} s") from None
        except (ConnectionError, FileNotFoundError) as e:
            raise Unavailable(f"{socket} does not answer: {e.strerror}") from e
        except OSError as e:
            raise StepFailed(f"{socket}: {e.strerror or e}") from e

    async def run(self, argv: tuple[str, ...], *, within: float, cwd: Path | None = None) -> str:
        """Runs a command to its end and returns the tail of its output.

        Kills its process group at the deadline and on cancellation; a daemon that it left keeps running. Raises
        StepFailed if the exit code is not 0, and Unavailable, which is not retried, if it does not end in time.
        """
        return await run_command(argv, environment(self._passed), within=within, cwd=cwd)

    async def output(self, argv: tuple[str, ...], *, within: float) -> str:
        """The standard output of a command that changes nothing. Raises like `run`."""
        code, out, stderr = await program(argv, within=within, cwd=None, env=environment(self._passed))
        if code:
            raise StepFailed(f"{' '.join(argv)} exited with {code}: {stderr.strip()[-MAX_OUTPUT:] or '(no output)'}")
        return out


def _make_parents(directory: Path) -> None:
    for missing in reversed([parent for parent in (directory, *directory.parents) if not parent.is_dir()]):
        missing.mkdir(mode=_SHARED | 0o111, exist_ok=True)


def _copy_attributes(path: Path, new: Path) -> None:
    """Copies extended attributes, such as access control lists, as far as this user may set them."""
    with contextlib.suppress(OSError):  # a file system without them
        for name in os.listxattr(path):
            with contextlib.suppress(OSError):
                os.setxattr(new, name, os.getxattr(path, name))


def _replace(path: Path, make: Any, *, follow: bool = False) -> None:
    path = Path(os.path.realpath(path)) if follow else path
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        new.unlink(missing_ok=True)
        make(new)
        if path.is_file() and not path.is_symlink():
            present = path.stat()  # the readers of the file stay the same
            if (present.st_uid, present.st_gid) != (os.geteuid(), new.stat().st_gid):
                with contextlib.suppress(PermissionError):
                    os.chown(new, present.st_uid if os.geteuid() == 0 else -1, present.st_gid)
            new.chmod(present.st_mode & 0o7777)
            _copy_attributes(path, new)
        elif path.is_symlink() and os.geteuid() == 0:
            os.lchown(new, path.lstat().st_uid, path.lstat().st_gid)
        new.replace(path)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as e:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        raise Unavailable(f"{path} cannot be replaced: {e.strerror}") from e
