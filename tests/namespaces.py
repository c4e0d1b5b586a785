"""A network namespace with a link, in which an address can be silenced: no RST, no ICMP, no answer."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import parts

_NETWORKS = 1 << 14


@dataclass(frozen=True)
class Namespace:
    """It exists as long as the process that holds it, so it never outlasts the tests."""

    pid: int

    @property
    def host(self) -> str:
        """The local address on the link."""
        return self._address(1)

    @property
    def addresses(self) -> tuple[str, str]:
        """The addresses on its side, which can be silenced one by one."""
        return self._address(2), self._address(3)

    @property
    def enter(self) -> list[str]:
        """A command prefix. The command needs root until it is inside."""
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net"]

    def silence(self, address: str, *, answers_only: bool = False) -> list[str]:
        """The command that drops every packet from the address, and every packet to it unless `answers_only`."""
        rules = [f"OUTPUT -s {address}", *([] if answers_only else [f"INPUT -d {address}"])]
        return [*self.enter, "sh", "-c", " && ".join(f"iptables -w -A {rule} -j DROP" for rule in rules)]

    def restore(self) -> None:
        """Lets everything through again."""
        subprocess.run([*self.enter, "iptables", "-w", "-F"], check=True)

    def link(self) -> None:
        """Connects it with this host. The link is removed with it."""
        ours, theirs = f"rb{self.pid}a", f"rb{self.pid}b"
        for command in (
            ["ip", "link", "add", "name", ours, "type", "veth", "peer", "name", theirs, "netns", str(self.pid)],
            ["ip", "address", "add", f"{self.host}/29", "dev", ours],
            ["ip", "link", "set", ours, "up"],
            *([*self.enter, "ip", "address", "add", f"{address}/29", "dev", theirs] for address in self.addresses),
            [*self.enter, "ip", "link", "set", "lo", "up"],
            [*self.enter, "ip", "link", "set", theirs, "up"],
        ):
            subprocess.run(command, check=True)

    def _address(self, n: int) -> str:
        """From the range for tests of network devices (RFC 2544), which no real network uses."""
        number = self.pid % _NETWORKS * 8 + n
        return f"198.{18 + (number >> 16)}.{number >> 8 & 0xFF}.{number & 0xFF}"


@contextlib.asynccontextmanager
async def namespace(directory: Path) -> AsyncIterator[Namespace]:
    """A namespace linked with this host. Skips the test with the reason if it cannot be created."""
    parts.need("ip", "iptables", "nsenter", "unshare")
    try_out = "ip link add name one type veth peer name other && iptables -w -A INPUT -d 198.18.0.1 -j DROP"
    tried = subprocess.run(["unshare", "--net", "sh", "-c", try_out], check=False, capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"no network namespace can be made here: {tried.stderr.strip()}")

    async def at_once() -> bool:
        return True

    argv = ["unshare", "--net", "sleep", "infinity"]
    holder = await parts.Process.start(argv, log=directory / "namespace.log", ready=at_once)
    try:
        await parts.until(lambda: _has_its_own(holder.pid))
        made = Namespace(holder.pid)
        made.link()
        yield made
    finally:
        await holder.kill()


async def _has_its_own(pid: int) -> bool:
    return Path(f"/proc/{pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()
