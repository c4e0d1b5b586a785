"""Log files of this host."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from pydantic import Field, field_validator

from responder.backends.host.access import user
from responder.backends.host.logs_client import Host, LogFile
from responder.backends.log_source import EVER, Chunks, Log, LogSource, Skipped
from responder.backends.problems import Problem
from responder.config.text import counted
from responder.errors import StepFailed


class FileLogs(LogSource[Host]):
    """Log files of this host. The end of each recently written file is kept; `.gz` is unpacked."""

    file: str = Field(description="Absolute path with * ? [] and **, such as /var/log/backend/*.log*")

    @field_validator("file")
    @classmethod
    def _is_absolute(cls, value: str) -> str:
        if not value.startswith("/") or "\0" in value or value.endswith("/"):
            raise ValueError(f"{value!r} must be an absolute path of files")
        return value

    def __str__(self) -> str:
        return f"file {self.file}"

    async def logs(self, client: Host, since: datetime) -> list[Log]:
        found = await client.files(self.file)
        if not found:
            raise StepFailed("no file matches")
        fresh = [file for file in found if file.problem or file.at >= since]
        if not fresh:
            raise StepFailed(
                f"{counted(len(found), 'matching file')}, none written since {since:%Y-%m-%d %H:%M:%S} UTC"
            )
        return [Log(file.path.name.removesuffix(".gz"), str(file.path), self._reading(client, file)) for file in fresh]

    async def check_access(self, client: Host) -> list[Problem]:
        if not await client.files(self.file):
            return [Problem(str(self), "no file matches", "correct the path, or give this user permission to list it")]
        return await self.unreadable(client, EVER, f"give this user ({user()}) permission to read it")

    def _reading(self, host: Host, file: LogFile) -> Callable[[], Chunks]:
        async def chunks() -> Chunks:
            if file.problem:
                raise StepFailed(file.problem)
            end = await host.tail(file, self.cap)
            yield Skipped(end.size - len(end.data))
            yield end.data
            if end.renewed:
                raise StepFailed("it was rotated before it was read: the older lines are missing")

        return chunks
