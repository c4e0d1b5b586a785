"""The color that a proxy sends its traffic to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from foundation.durations import Duration
from responder.backends.host.client import Local
from responder.backends.host.nginx_access import include_problems
from responder.backends.host.release import AbsolutePath, Argv, _Pointer
from responder.backends.problems import Problem, joined
from responder.backends.resource import Resource
from responder.errors import StepFailed

Colors = Annotated[dict[str, str], Field(min_length=2)]


class NginxInclude(_Pointer):
    """A file that nginx includes, with the servers of one color.

    If the test of the configuration fails, the file is restored and nginx is not reloaded.
    """

    resource: Literal["nginx_include"] = "nginx_include"
    nginx: AbsolutePath = Field(description="File that nginx includes")
    servers: Colors = Field(description="File content for each color, such as {blue: 'server 127.0.0.1:8081;'}")
    test: Argv = Field(default=("nginx", "-t"), description="Command that tests the configuration")
    restart: Argv | None = Field(default=("nginx", "-s", "reload"), description="Command that reloads nginx")

    @property
    def _pointer(self) -> Path:
        return self.nginx

    async def read(self, local: Local) -> str | None:
        text = await local.text(self.nginx)
        return next((color for color, content in self.servers.items() if content.strip() == text), text)

    async def _target_problems(self, local: Local, value: str) -> list[Problem]:
        if value not in self.servers:
            return [Problem(str(self), f"has no color {value}", f"add {value} to servers")]
        return []

    async def _pointer_problems(self, local: Local) -> list[Problem]:
        if (text := await local.text(self.nginx)) is None:
            return [Problem(f"file {self.nginx}", "does not exist", "write the servers of the live color into it")]
        if await self.read(local) not in self.servers:
            found = f"contains {text[:80]!r}, which matches none of {', '.join(self.servers)}"
            return [Problem(f"file {self.nginx}", found, "make one of servers match the file exactly")]
        return []

    async def _move_problems(self, local: Local) -> list[Problem]:
        found = await super()._move_problems(local)
        found += (wrong := await local.program_problems(self.test))
        return found if wrong else [*found, *await self._test_problems(local)]

    async def _test_problems(self, local: Local) -> list[Problem]:
        try:
            await local.run(self.test, within=self.restart_within)
        except StepFailed as failure:
            return [Problem(f"test {' '.join(self.test)}", str(failure), "traffic cannot be switched until it passes")]
        return []

    async def check_access(self, local: Local) -> list[Problem]:
        found = await super().check_access(local)
        return found or await include_problems(
            local, self.nginx, self.test, self.restart, within=self.restart_within
        )

    async def _point(self, local: Local, value: str) -> None:
        before = await local.text(self.nginx)
        await local.write_text(self.nginx, self.servers[value].strip())
        try:
            await local.run(self.test, within=self.restart_within)
        except StepFailed as failure:
            if before is not None:
                await local.write_text(self.nginx, before)
                await local.remove(self._note)  # nothing changed: a revert must not reload nginx
            raise StepFailed(
                f"nginx rejects the configuration for {value}; the previous one was restored: {failure}"
            ) from failure

    def __str__(self) -> str:
        return f"servers in {self.nginx}"


class HaproxyServers(Resource[Local, str | None]):
    """The servers of a HAProxy backend that receive traffic. Without a `server-state-file`, a reload resets them."""

    resource: Literal["haproxy_servers"] = "haproxy_servers"
    haproxy: AbsolutePath = Field(description="Runtime socket with `level admin`")
    backend: str = Field(min_length=1, pattern=r"^[-\w.:]+$", description="Name of the HAProxy backend")
    servers: Annotated[
        dict[str, Annotated[tuple[str, ...], Field(min_length=1)]],
        Field(min_length=2, description="Servers of each color, such as {blue: [blue1, blue2], green: [green1]}"),
    ]
    within: Duration = Field(default=5.0, gt=0, description="Deadline for one answer")
    in_maintenance: tuple[str, ...] = Field(
        default=(), description="Set by the responder: servers in maintenance, which a revert puts back into it"
    )

    @model_validator(mode="after")
    def _each_once(self) -> HaproxyServers:
        names = [name for group in self.servers.values() for name in group]
        if len(set(names)) < len(names):
            raise ValueError("servers: each server must belong to exactly one color")
        return self

    async def read(self, local: Local) -> str | None:
        """The color that receives traffic; several joined by `+` during a switch."""
        return "+".join(await self._taking(local)) or None

    def same(self, found: str | None, value: str | None) -> bool:
        return isinstance(found, str) and value in found.split("+")

    async def write(self, local: Local, value: str | None, *, expected: str | None) -> None:
        self.must_be(await self.read(local), expected, value)
        if value not in self.servers:
            raise StepFailed(f"{self} have no color {value}")
        # First the new servers, then the old ones, so that some are always ready; drain lets requests finish.
        for name in self.servers[str(value)]:
            await self._say(local, f"set server {self.backend}/{name} state ready")
        states = await self._states(local)
        for color, names in self.servers.items():
            for name in names if color != value else ():
                if states[name] & _NOT_TAKING == 0:  # a drained server would still serve sessions that stick to it
                    state = "maint" if name in self.in_maintenance else "drain"
                    await self._say(local, f"set server {self.backend}/{name} state {state}")

    async def as_now(self, local: Local) -> HaproxyServers:
        """The same servers, with those that are in maintenance now."""
        states = await self._states(local)
        return self.model_copy(update={"in_maintenance": tuple(n for n in states if states[n] & _MAINTENANCE)})

    async def converged(self, local: Local, value: str | None) -> bool:
        return await self.read(local) == value

    async def check_access(self, local: Local) -> list[Problem]:
        found = await self._level_problems(local)
        live = await self.read(local)
        if live not in self.servers:
            fix = "set all servers of exactly one color to ready"
            found.append(
                Problem(str(self), f"{live or 'no color'} receives the traffic, expected exactly one color", fix)
            )
        return found

    async def preflight(self, local: Local, value: str | None) -> tuple[str, ...]:
        found = await self._level_problems(local)
        if value not in self.servers:
            found.append(Problem(str(self), f"has no color {value}", f"add {value} to servers"))
        if found:
            raise StepFailed(joined(found))
        await self.read(local)
        return ()

    async def _level_problems(self, local: Local) -> list[Problem]:
        level = (await self._say(local, "show cli level")).strip()
        if level == "admin":
            return []
        return [Problem(f"socket {self.haproxy}", f"has the level {level or '(none)'}", "needs `level admin`")]

    async def _taking(self, local: Local) -> list[str]:
        """The colors whose servers are all administratively ready."""
        states = await self._states(local)
        taking = {name for name, state in states.items() if state & _NOT_TAKING == 0}
        return [color for color, names in self.servers.items() if taking >= set(names)]

    async def _states(self, local: Local) -> dict[str, int]:
        """The administrative state of each server of the colors."""
        states: dict[str, int] = {}
        for line in (await self._say(local, f"show servers state {self.backend}")).splitlines():
            columns = line.split()
            # be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight …
            if len(columns) > 7 and columns[1] == self.backend:
                states[columns[3]] = int(columns[6])
        names = [name for group in self.servers.values() for name in group]
        if missing := [name for name in names if name not in states]:
            raise StepFailed(f"{self} lack {', '.join(missing)}")
        return {name: states[name] for name in names}

    async def _say(self, local: Local, command: str) -> str:
        answer = await local.converse(self.haproxy, command, within=self.within)
        if command.startswith("set ") and answer.strip():
            raise StepFailed(f"HAProxy refuses {command!r}: {answer.strip()}")
        return answer

    def __str__(self) -> str:
        return f"servers of HAProxy's backend {self.backend}"


_MAINTENANCE = 0x01
_NOT_TAKING = _MAINTENANCE | 0x02 | 0x08 | 0x10 | 0x20
"""HAProxy's administrative states: maintenance (forced, inherited, without an address) and drain (forced, inherited).
0x04 only means that the configuration disables the server; it stays set when the server is made ready.
"""
