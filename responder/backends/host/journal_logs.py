"""The systemd journal of this host: one unit, or the whole system."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from typing import Literal

from pydantic import Field

from foundation.models import StrictModel
from responder.backends.host.access import user
from responder.backends.host.logs_client import Host
from responder.backends.log_source import EVER, MAX_LINES, Chunks, Log, LogSource, Skipped, newest
from responder.backends.problems import Problem
from responder.errors import StepFailed

_HEADER_BYTES = 64
"""Upper bound for the header line of one file."""


class JournaldUnit(StrictModel):
    """A unit in the systemd journal."""

    unit: str = Field(
        pattern=r"^[A-Za-z0-9:_.@\\][-A-Za-z0-9:_.@\\*]*$",
        description="Unit such as backend.service; * as wildcard",
    )
    user: bool = Field(default=False, description="Whether it is a user unit")


class JournaldLogs(LogSource[Host]):
    """Journal entries of a systemd unit. The responder's user must be in the group systemd-journal."""

    journald: JournaldUnit = Field(description="Unit, such as {unit: backend.service}")

    def __str__(self) -> str:
        return f"journald {self.journald.unit}"

    async def logs(self, client: Host, since: datetime) -> list[Log]:
        unit = f"--{'user-' if self.journald.user else ''}unit={self.journald.unit}"
        name = f"journald-{self.journald.unit}"
        return [Log(name, str(self), lambda: newest(client.journal(since, MAX_LINES, unit)))]

    async def check_access(self, client: Host) -> list[Problem]:
        (log,) = await self.logs(client, EVER)
        async with contextlib.aclosing(log.chunks()) as chunks:
            if await anext(chunks, b""):
                return []
        fix = f"correct the name of the unit, or add this user ({user()}) to the group systemd-journal"
        return [Problem(str(self), "the journal has no entries of it", fix)]


class SystemLogs(LogSource[Host]):
    """The log of this host, kernel included: the journal, or the usual files if there is none."""

    system: Literal[True] = Field(description="true")

    def __str__(self) -> str:
        return "system"

    async def logs(self, client: Host, since: datetime) -> list[Log]:
        async def chunks() -> Chunks:
            has_output = False
            try:
                async with contextlib.aclosing(newest(client.journal(since, MAX_LINES))) as entries:
                    async for chunk in entries:
                        has_output = True
                        yield chunk
                return
            except StepFailed as e:
                if has_output:
                    raise
                without = e
            usual = [f for name in ("syslog", "messages", "kern.log") for f in await client.files(f"/var/log/{name}")]
            if not usual:
                raise StepFailed(f"{without}, and /var/log has no syslog, messages or kern.log")
            ends = [await client.tail(file, self.cap // len(usual) - _HEADER_BYTES) for file in usual]
            if left_out := sum(end.size - len(end.data) for end in ends):
                yield Skipped(left_out)
                yield b"\n"  # so that the incomplete first line is dropped
            for file, end in zip(usual, ends, strict=True):
                yield f"==> {file.path} <==\n".encode() + end.data

        return [Log("system", "system log", chunks)]

    async def check_access(self, client: Host) -> list[Problem]:
        fix = f"add this user ({user()}) to the groups systemd-journal and adm"
        return await self.unreadable(client, datetime.now(UTC) - timedelta(minutes=10), fix)
