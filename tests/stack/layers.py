"""The file system of an image, as a tar: programs of this host with the libraries that they need."""

from __future__ import annotations

import io
import os
import re
import subprocess
import tarfile
from collections.abc import Container, Iterable
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[2]


class Layer:
    """A tar archive that creates directories as needed; its files belong to root."""

    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive
        self._there: set[str] = set()

    def directory(self, name: str, owner: int = 0, mode: int = 0o755) -> None:
        if name in self._there:
            return
        self._there.add(name)
        if parent := name.rpartition("/")[0]:
            self.directory(parent)
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode, entry.uid, entry.gid = tarfile.DIRTYPE, mode, owner, owner
        self._archive.addfile(entry)

    def text(self, name: str, text: str, mode: int = 0o644) -> None:
        self._add(name, mode, io.BytesIO(text.encode()), len(text.encode()))

    def link(self, name: str, target: str) -> None:
        self._add(name, 0o777, None, 0, target)

    def file(self, source: Path, name: str = "") -> None:
        mode = 0o755 if os.access(source, os.X_OK) else 0o644
        with source.open("rb") as content:
            # Keep the time: otherwise its compiled file would be stale, and each start would compile again.
            self._add(name or str(source), mode, content, source.stat().st_size, at=int(source.stat().st_mtime))

    def tree(self, source: Path, name: str = "", *, without: Container[str] = ()) -> None:
        for directory, below, files in os.walk(source, followlinks=True):
            below[:] = sorted(name for name in below if name not in without)
            for file in sorted(files):
                path = Path(directory, file)
                if path.is_file():
                    self.file(path, f"{name or source}{directory.removeprefix(str(source))}/{file}")

    def _add(self, name: str, mode: int, content: IO[bytes] | None, size: int, link: str = "", at: int = 0) -> None:
        name = name.lstrip("/")
        if name in self._there:
            return
        self.directory(name.rpartition("/")[0])
        self._there.add(name)
        entry = tarfile.TarInfo(name)
        entry.mode, entry.size, entry.linkname, entry.mtime = mode, size, link, at
        entry.type = tarfile.SYMTYPE if link else tarfile.REGTYPE
        self._archive.addfile(entry, content)

    def libraries(self, programs: Iterable[Path]) -> None:
        """The libraries that `ldd` lists for all of them, including the loader."""
        output = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True, check=False).stdout
        for name in sorted(set(re.findall(r"(/\S+) \(0x", output))):
            if not name.startswith(str(ROOT)):  # libraries inside a wheel exist already
                self.file(Path(name))
