"""The color that a proxy sends its traffic to."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

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
        return found or await include_problems(local, self.nginx, self.test, self.restart, within=self.restart_within)

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
    backend: str = Field(min_length=1, pattern="^[-A-Za-z0-9_.:]+$", description="Name of the HAProxy backend")
    servers: Annotated[
        dict[str, Annotated[tuple[str, ...], Field(min_length=1)]],
        Field(min_length=2, description="Servers of each color, such as {blue: [blue1, blue2], green: [green1]}"),
    ]
    within: Duration = Field(default=5.0, gt=0, description="Deadline for one answer")
    in_maintenance: tuple[str, ...] = Field(
        default=(), description="Set by the responder: servers in maintenance, which a revert puts back into it"
    )
    up_within: Duration = Field(default=30.0, gt=0, description="Deadline for HAProxy to find the new servers up")

    @property
    def timeout(self) -> float:
        return self.up_within + 30.0

    @model_validator(mode="after")
    def _each_once(self) -> HaproxyServers:
        names = [name for group in self.servers.values() for name in group]
        if len(set(names)) < len(names):
            raise ValueError("servers: each server must belong to exactly one color")
        return self

    async def read(self, local: Local) -> str | None:
        """The color that receives traffic; several joined by `+` during a switch."""
        return "+".join(self._taking(await self._states(local))) or None

    def same(self, found: str | None, value: str | None) -> bool:
        return isinstance(found, str) and value in found.split("+")

    async def write(self, local: Local, value: str | None, *, expected: str | None) -> None:
        states = await self._states(local)
        self.must_be("+".join(self._taking(states)) or None, expected, value)
        if value not in self.servers:
            raise StepFailed(f"{self} have no color {value}")
        await self._require_up(local, str(value), states)
        # First the new servers, then the old ones, so that some are always ready; drain lets requests finish.
        for name in self.servers[str(value)]:
            await self._set(local, name, "state ready")
        for color, names in self.servers.items():
            for name in names if color != value else ():
                if states[name].taking:  # a drained server would still serve sessions that stick to it
                    await self._set(local, name, f"state {'maint' if name in self.in_maintenance else 'drain'}")

    async def as_now(self, local: Local) -> HaproxyServers:
        """The same servers, with those that are in maintenance now."""
        states = await self._states(local)
        return self.model_copy(update={"in_maintenance": tuple(name for name in states if states[name].maint)})

    async def _require_up(self, local: Local, color: str, states: dict[str, _ServerState]) -> None:
        """Waits until HAProxy's health checks find the servers up. Raises StepFailed, with their states restored.

        Returns at once if no other server is up: the traffic has no better place.
        """
        names = self.servers[color]
        if not any(state.taking and state.up for name, state in states.items() if name not in names):
            return
        for name in names:
            if states[name].maint:
                await self._set(local, name, "state drain")
                if states[name].checked:  # otherwise HAProxy takes it for up until its first checks fail
                    await self._set(local, name, "health down")
        deadline = asyncio.get_running_loop().time() + self.up_within
        while down := [name for name, state in (await self._states(local)).items() if name in names and not state.up]:
            if asyncio.get_running_loop().time() >= deadline:
                for name in names:
                    if states[name].maint:
                        await self._set(local, name, "state maint")
                found = f"HAProxy still finds {', '.join(down)} down after {self.up_within:g} s, so the traffic stays"
                raise StepFailed(f"{found}: compare `option httpchk` and the server lines of backend {self.backend}")
            await asyncio.sleep(0.2)

    async def _set(self, local: Local, server: str, to: str) -> None:
        await self._say(local, f"set server {self.backend}/{server} {to}")

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

    def _taking(self, states: dict[str, _ServerState]) -> list[str]:
        """The colors whose servers are all administratively ready."""
        return [color for color, names in self.servers.items() if all(states[name].taking for name in names)]

    async def _states(self, local: Local) -> dict[str, _ServerState]:
        """The servers of all colors by name. Raises StepFailed if HAProxy lacks one."""
        states: dict[str, _ServerState] = {}
        for line in (await self._say(local, f"show servers state {self.backend}")).splitlines():
            columns = line.split()
            # be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state … srv_check_state (14th)
            if len(columns) > 13 and columns[1] == self.backend:
                states[columns[3]] = _ServerState(int(columns[5]), int(columns[6]), int(columns[13]))
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


class _ServerState(NamedTuple):
    """HAProxy's operational and administrative state of one server, and the state of its health check."""

    operational: int
    administrative: int
    check: int

    @property
    def up(self) -> bool:
        """Without `check` in its line, a server is always up unless it is in maintenance."""
        return self.operational != 0

    @property
    def checked(self) -> bool:
        return self.check & _CHECK_CONFIGURED != 0

    @property
    def taking(self) -> bool:
        return self.administrative & _NOT_TAKING == 0

    @property
    def maint(self) -> bool:
        return self.administrative & _MAINT != 0


_CHECK_CONFIGURED = 0x02
_MAINT = 0x01
_NOT_TAKING = _MAINT | 0x02 | 0x08 | 0x10 | 0x20
"""HAProxy's administrative states: maintenance (forced, inherited, without an address) and drain (forced, inherited).

0x04 only means that the configuration disables the server; it stays set when the server is made ready.
"""
