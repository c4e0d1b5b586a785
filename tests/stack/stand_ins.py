"""Images under the names and tags of docker-compose.yml, made of this host's Debian packages: nothing is pulled.

One layer has everything: the programs with their libraries, a Python with the packages of requirements.image.lock, and
busybox. The images differ in what they run, and as whom, as the real ones do.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import io
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Container, Iterator
from pathlib import Path
from typing import IO

from tests.parts import program
from tests.stack.docker import Docker

ROOT = Path(__file__).parents[2]
LEFT_OUT = {"kubernetes", "boto3", "botocore", "awscrt"}  # a hundred megabytes that the stack does not use

_NOT_OF_PYTHON = {"test", "tests", "idlelib", "tkinter", "lib2to3", "ensurepip", "site-packages", "dist-packages"}

# What the official image does with a new directory, as far as the stack asks for it.
_POSTGRES_ENTRY = """#!/bin/sh
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    initdb --username=postgres --pwfile="$POSTGRES_PASSWORD_FILE" --auth-local=trust ${POSTGRES_INITDB_ARGS:-} \\
        --locale=C --encoding=UTF8 --no-sync >/dev/null
    echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
    pg_ctl -D "$PGDATA" -o '-c listen_addresses=' -w start >/dev/null
    for script in /docker-entrypoint-initdb.d/*; do
        [ ! -f "$script" ] || . "$script"
    done
    pg_ctl -D "$PGDATA" -m fast -w stop >/dev/null
fi
exec postgres -c listen_addresses='*'
"""
_USERS = {"root": 0, "nginx": 101, "grafana": 472, "postgres": 999, "nobody": 65534}
_OWNED = {  # which directory a volume takes its owner from
    "srv": (65532, 0o755),
    "var/lib/responder": (65532, 0o750),
    "prometheus": (65534, 0o755),
    "alertmanager": (65534, 0o755),
    "var/lib/postgresql/data": (999, 0o700),
    "run": (0, 0o755),
}
_RUN = {
    "rollback-responder": [
        'CMD ["responder", "serve", "--config", "/etc/responder/responder.yml"]',
        "USER 65532:65532",
    ],
    "postgres": ['ENTRYPOINT ["sh", "/postgres-entry"]', "ENV PGDATA=/var/lib/postgresql/data", "STOPSIGNAL SIGINT"],
    "nginx": ["STOPSIGNAL SIGQUIT"],
    "prom/prometheus": ['ENTRYPOINT ["prometheus"]', "USER nobody", "WORKDIR /prometheus"],
    "prom/alertmanager": ['ENTRYPOINT ["alertmanager"]', "USER nobody", "WORKDIR /alertmanager"],
    "python": ["USER root"],
}


def build(docker: Docker, images: set[str], *, wheels: Path | None = None) -> None:
    """All of these names, from one layer. With `wheels`, pip is there as well, and installs from them."""
    with tempfile.TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            _fill(_Layer(archive), wheels)
        file.seek(0)
        docker("import", "-", "stand-in:all", stdin=file)
    for image in sorted(images):
        path = "/opt/venv/bin:/usr/local/bin:/usr/sbin:/bin"
        lines = ["FROM stand-in:all", f"ENV PATH={path} PIP_CONFIG_FILE=/etc/pip.conf", *_RUN[image.partition(":")[0]]]
        docker("build", "--quiet", "--tag", image, "-", text="\n".join(lines))


class _Layer:
    """A tar whose directories are made as they are needed, and whose files are root's, whoever has them here."""

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
            # Its own time: else no compiled file beside it would count, and each start would compile anew.
            self._add(name or str(source), mode, content, source.stat().st_size, at=int(source.stat().st_mtime))

    def tree(self, source: Path, name: str = "", *, without: Container[str] = ()) -> None:
        for directory, below, files in os.walk(source):
            below[:] = sorted(one for one in below if one not in without)
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


def _fill(layer: _Layer, wheels: Path | None) -> None:
    for name, (owner, mode) in _OWNED.items():
        layer.directory(name, owner, mode)
    layer.link("var/run", "../run")
    layer.directory("tmp", 0, 0o1777)
    layer.text("etc/passwd", "".join(f"{name}:x:{uid}:{uid}::/:/bin/sh\n" for name, uid in _USERS.items()))
    layer.text("etc/group", "".join(f"{name}:x:{uid}:\n" for name, uid in _USERS.items()))
    layer.text("postgres-entry", _POSTGRES_ENTRY)
    layer.file(_found("busybox"), "bin/busybox")
    for applet in subprocess.run(["busybox", "--list"], capture_output=True, text=True, check=True).stdout.split():
        layer.link(f"bin/{applet}", "busybox")
    postgres = _found("postgres").parents[1]
    programs = {
        "bin/prometheus": _found("prometheus"),
        "bin/alertmanager": _found("prometheus-alertmanager"),
        "usr/sbin/nginx": _found("nginx"),
    }
    for name, source in programs.items():
        layer.file(source, name)
    layer.tree(postgres, without={"bitcode", "extension"})
    layer.tree(Path("/usr/share/postgresql") / postgres.name, without={"man"})
    layer.tree(Path("/usr/share/prometheus/alertmanager"), without={"ui"})  # its templates
    layer.tree(Path("/usr/share/zoneinfo/Etc"))
    for one in (postgres / "bin").iterdir():
        layer.link(f"usr/local/bin/{one.name}", str(one))
    python, there = _python(layer)
    libraries = [*_packages(layer, python, there), *(Path(there) / "lib-dynload").glob("*.so")]
    if wheels is not None:
        layer.tree(Path(importlib.metadata.distribution("pip").locate_file("pip")), f"{there}/site-packages/pip")
        layer.tree(wheels, "opt/wheels")
        layer.text("etc/pip.conf", "[global]\nno-index = true\nfind-links = /opt/wheels\n")
    postgres_programs = (postgres / "bin" / name for name in ("postgres", "psql", "initdb", "pg_ctl", "pg_isready"))
    for library in _needed_by([*programs.values(), *postgres_programs, Path(python), *libraries]):
        layer.file(library)


def _python(layer: _Layer) -> tuple[str, str]:
    """This interpreter and its library, both under their own paths."""
    executable = Path(sys._base_executable).resolve()  # type: ignore[attr-defined]
    there = Path(sysconfig.get_path("stdlib"))
    layer.file(executable)
    layer.tree(there, without={*_NOT_OF_PYTHON, *(one.name for one in there.glob("config-*"))})
    for name in ("python", "python3"):
        layer.link(f"usr/local/bin/{name}", str(executable))
    return str(executable), str(there)


def _packages(layer: _Layer, python: str, there: str) -> list[Path]:
    """A virtual environment with what the image's lock names, and ourselves; which of its files are compiled."""
    compiled: list[Path] = []
    site = f"opt/venv/lib/{Path(there).name}/site-packages"
    layer.text("opt/venv/pyvenv.cfg", f"home = {Path(python).parent}\ninclude-system-site-packages = false\n")
    layer.link("opt/venv/bin/python", python)
    locked = re.findall(r"^([\w.-]+)==", (ROOT / "requirements.image.lock").read_text(), flags=re.MULTILINE)
    for name in locked:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # only for another Python
            for file in importlib.metadata.files(name) or () if name not in LEFT_OUT else ():
                source = Path(str(file.locate()))
                if ".." not in file.parts and source.is_file():
                    layer.file(source, f"{site}/{file}")
                    compiled += [source] if source.suffix == ".so" else []
    about = importlib.metadata.distribution("rollback-responder")
    layer.text(f"{site}/rollback_responder-{about.version}.dist-info/METADATA", str(about.read_text("METADATA")))
    for name in ("responder", "exporters"):
        layer.tree(ROOT / name, f"{site}/{name}")
        command = f"#!/opt/venv/bin/python\nimport sys\nfrom {name}.cli import main\nsys.exit(main())\n"
        layer.text(f"opt/venv/bin/{name}", command, 0o755)
    return compiled


def _found(name: str) -> Path:
    return Path(str(program(name))).resolve()


def _needed_by(programs: list[Path]) -> Iterator[Path]:
    """What `ldd` names, of all of them, the loader as well."""
    said = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True, check=False).stdout
    for name in sorted(set(re.findall(r"(/\S+) \(0x", said))):
        if not name.startswith(str(ROOT)):  # a wheel brings some of its own, which are there already
            yield Path(name)
