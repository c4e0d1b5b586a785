"""The one place that asks the machine about itself, small enough to be faked whole in a test."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

WITHOUT_DEVICE = {"tmpfs", "overlay"}  # memory, and the root of a container


@dataclass(frozen=True)
class Mount:
    """A mounted filesystem: sizes in bytes; `available` is what an ordinary user may still write."""

    device: str
    mountpoint: str
    fstype: str
    readonly: bool
    size: int
    free: int
    available: int
    inodes: int
    inodes_free: int


class Host:
    """Facts about this machine: seconds and bytes, counted since boot where they count."""

    def read(self, path: str) -> str:
        """The text of a file of the kernel. FileNotFoundError if this kernel has none such."""
        return Path(path).read_text(encoding="utf-8")

    def cpu_seconds(self) -> list[Mapping[str, float]]:
        """For every CPU, the seconds spent in each mode."""
        return [cpu._asdict() for cpu in psutil.cpu_times(percpu=True)]

    def load(self) -> tuple[float, float, float]:
        """Load averages over 1, 5 and 15 minutes."""
        return psutil.getloadavg()

    def memory(self) -> Mapping[str, float]:
        """Bytes of memory: total, available, free, buffers, cached, shared."""
        return dict(psutil.virtual_memory()._asdict())

    def swap(self) -> Mapping[str, float]:
        """Bytes of swap: total, free, and sin and sout, moved since boot."""
        return dict(psutil.swap_memory()._asdict())

    def mounts(self) -> list[Mount]:
        """Filesystems that can fill, each once; not those of the network, which could hang us."""
        found: dict[int, Mount] = {}
        on_devices = {part.mountpoint for part in psutil.disk_partitions(all=False)}
        for part in psutil.disk_partitions(all=True):
            if part.mountpoint not in on_devices and part.fstype not in WITHOUT_DEVICE:
                continue
            # A container sees single files of the host mounted on top of its own, such as /etc/hosts.
            if not Path(part.mountpoint).is_dir():
                continue
            try:
                stat, number = os.statvfs(part.mountpoint), Path(part.mountpoint).stat().st_dev
            except PermissionError:
                continue  # mounts of other users are none of our business; an I/O error is, and surfaces
            if number in found or not stat.f_blocks:
                continue
            unit = stat.f_frsize
            found[number] = Mount(
                part.device,
                part.mountpoint,
                part.fstype,
                "ro" in part.opts.split(","),
                size=stat.f_blocks * unit,
                free=stat.f_bfree * unit,
                available=stat.f_bavail * unit,
                inodes=stat.f_files,
                inodes_free=stat.f_ffree,
            )
        return list(found.values())

    def disk_counters(self) -> Mapping[str, Mapping[str, float]]:
        """For every block device that was ever used, psutil's I/O counters; times in milliseconds."""
        counters = psutil.disk_io_counters(perdisk=True) or {}
        every = {name: dict(disk._asdict()) for name, disk in counters.items()}
        return {name: disk for name, disk in every.items() if disk["read_count"] or disk["write_count"]}

    def network_counters(self) -> Mapping[str, Mapping[str, float]]:
        """For every interface, psutil's counters."""
        return {name: dict(nic._asdict()) for name, nic in psutil.net_io_counters(pernic=True).items()}

    def interfaces_up(self) -> Mapping[str, bool]:
        """Whether each interface is up."""
        return {name: stats.isup for name, stats in psutil.net_if_stats().items()}

    def processes(self) -> int:
        """The number of processes."""
        return len(psutil.pids())
