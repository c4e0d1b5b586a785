"""Images under the names and tags of docker-compose.yml, made of this host's Debian packages: nothing is pulled.

One layer has everything: the programs with their libraries, a Python with the packages of requirements.image.lock, and
busybox. The images differ in what they run, and as whom, as the real ones do. The Python that the Dockerfile begins
with is one of its own, with pip and the wheels to install.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import re
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.parts import program
from tests.stack.docker import Docker
from tests.stack.layers import ROOT, Layer

LEFT_OUT = {"kubernetes", "boto3", "botocore", "awscrt", "cryptography", "sqlglot"}
"""Half of the size, which the stack does not use."""

LOCK = ROOT / "requirements.image.lock"

_NOT_OF_PYTHON = {"test", "tests", "idlelib", "tkinter", "lib2to3", "ensurepip", "site-packages", "dist-packages"}

# The initialization of a new directory in the official image, as far as the stack uses it.
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
_OWNED = {  # a volume takes its owner from this directory
    "srv": (65532, 0o755),
    "var/lib/responder": (65532, 0o750),
    "prometheus": (65534, 0o755),
    "alertmanager": (65534, 0o755),
    "var/lib/postgresql/data": (999, 0o700),
    "run": (0, 0o755),
}
RUN = {
    "rollback-responder": [
        'CMD ["responder", "serve", "--config", "/etc/responder/responder.yml"]',
        "USER 65532:65532",
    ],
    "postgres": ['ENTRYPOINT ["sh", "/postgres-entry"]', "ENV PGDATA=/var/lib/postgresql/data", "STOPSIGNAL SIGINT"],
    "nginx": ["STOPSIGNAL SIGQUIT"],
    "prom/prometheus": ['ENTRYPOINT ["prometheus"]', "USER nobody", "WORKDIR /prometheus"],
    "prom/alertmanager": ['ENTRYPOINT ["alertmanager"]', "USER nobody", "WORKDIR /alertmanager"],
}


def build(docker: Docker, images: set[str]) -> None:
    """Images with all of these names, from one layer."""
    with imported(docker, "stand-in:all") as layer:
        _everything(layer)
    for image in sorted(images):
        path = "ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/sbin:/bin"
        lines = ["FROM stand-in:all", path, *RUN[image.partition(":")[0]]]
        docker("build", "--quiet", "--tag", image, "-", text="\n".join(lines))


def build_python(docker: Docker, image: str, wheels: Path) -> None:
    """A Python whose pip installs from these wheels."""
    with imported(docker, image) as layer:
        system(layer)
        python, there = _python(layer)
        for name in ("pip", "setuptools"):
            for file in importlib.metadata.files(name) or ():
                if file.parts[0] in (name, "_distutils_hack") and file.suffix != ".exe":
                    layer.file(Path(str(file.locate())), f"{there}/site-packages/{file}")
        layer.text("usr/local/bin/pip", '#!/bin/sh\nexec python -m pip "$@"\n', 0o755)
        layer.text("etc/pip.conf", "[global]\nno-index = true\nfind-links = /opt/wheels\n")
        layer.tree(wheels, "opt/wheels")
        layer.libraries([Path(python), *(Path(there) / "lib-dynload").glob("*.so"), *_compiled()])


@contextlib.contextmanager
def imported(docker: Docker, image: str) -> Iterator[Layer]:
    with tempfile.TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            yield Layer(archive)
        file.seek(0)
        docker("import", "--change", "ENV PATH=/usr/local/bin:/bin", "-", image, stdin=file)


def system(layer: Layer) -> None:
    layer.directory("tmp", 0, 0o1777)
    layer.text("etc/passwd", "".join(f"{name}:x:{uid}:{uid}::/:/bin/sh\n" for name, uid in _USERS.items()))
    layer.text("etc/group", "".join(f"{name}:x:{uid}:\n" for name, uid in _USERS.items()))
    layer.file(_found("busybox"), "bin/busybox")
    for applet in subprocess.run(["busybox", "--list"], capture_output=True, text=True, check=True).stdout.split():
        layer.link(f"bin/{applet}", "busybox")


def _everything(layer: Layer) -> None:
    for name, (owner, mode) in _OWNED.items():
        layer.directory(name, owner, mode)
    system(layer)
    layer.link("var/run", "../run")
    programs = {
        "bin/prometheus": _found("prometheus"),
        "bin/alertmanager": _found("prometheus-alertmanager"),
        "usr/sbin/nginx": _found("nginx"),
    }
    for name, source in programs.items():
        layer.file(source, name)
    layer.tree(Path("/usr/share/prometheus/alertmanager"), without={"ui"})  # its templates
    postgres = _found("postgres").parents[1]
    layer.text("postgres-entry", _POSTGRES_ENTRY)
    layer.tree(postgres / "lib", without={"bitcode"})
    layer.tree(Path("/usr/share/postgresql") / postgres.name, without={"man"})
    layer.tree(Path("/usr/share/zoneinfo/Etc"))
    servers = [postgres / "bin" / name for name in ("postgres", "psql", "initdb", "pg_ctl", "pg_isready")]
    for server in servers:
        layer.file(server)
        layer.link(f"usr/local/bin/{server.name}", str(server))
    python, there = _python(layer)
    _packages(layer, python, there)
    extensions = (Path(there) / "lib-dynload").glob("*.so")
    layer.libraries([*programs.values(), *servers, Path(python), *extensions, *_compiled()])


def responder(layer: Layer) -> None:
    """Python with the responder, and busybox; no other program."""
    for name in ("srv", "var/lib/responder"):
        layer.directory(name, *_OWNED[name])
    system(layer)
    python, there = _python(layer)
    _packages(layer, python, there)
    layer.libraries([Path(python), *(Path(there) / "lib-dynload").glob("*.so"), *_compiled()])


def _python(layer: Layer) -> tuple[str, str]:
    """This interpreter and its library, both under their own paths."""
    executable = Path(sys._base_executable).resolve()  # type: ignore[attr-defined]
    there = Path(sysconfig.get_path("stdlib"))
    layer.file(executable)
    layer.tree(there, without={*_NOT_OF_PYTHON, *(config.name for config in there.glob("config-*"))})
    for name in ("python", "python3"):
        layer.link(f"usr/local/bin/{name}", str(executable))
    return str(executable), str(there)


def _packages(layer: Layer, python: str, there: str) -> None:
    """A virtual environment with the packages of the image's lock, and the responder."""
    site = f"opt/venv/lib/{Path(there).name}/site-packages"
    layer.text("opt/venv/pyvenv.cfg", f"home = {Path(python).parent}\ninclude-system-site-packages = false\n")
    layer.link("opt/venv/bin/python", python)
    for file, source in _locked():
        layer.file(source, f"{site}/{file}")
    about = importlib.metadata.distribution("rollback-responder")
    layer.text(f"{site}/rollback_responder-{about.version}.dist-info/METADATA", str(about.read_text("METADATA")))
    for name in ("responder", "exporters", "foundation"):
        layer.tree(ROOT / name, f"{site}/{name}")
    for name in ("responder", "exporters"):
        command = f"#!/opt/venv/bin/python\nimport sys\nfrom {name}.__main__ import main\nsys.exit(main())\n"
        layer.text(f"opt/venv/bin/{name}", command, 0o755)


def _locked() -> Iterator[tuple[str, Path]]:
    """The installed packages of the image's lock, except the omitted ones: names in site-packages, and files."""
    for name in re.findall(r"^([\w.-]+)==", LOCK.read_text(), flags=re.MULTILINE):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # only for another Python
            for file in importlib.metadata.files(name) or () if name not in LEFT_OUT else ():
                source = Path(str(file.locate()))
                if ".." not in file.parts and source.is_file():
                    yield str(file), source


def _compiled() -> list[Path]:
    return [source for _, source in _locked() if source.suffix == ".so"]


def _found(name: str) -> Path:
    return Path(str(program(name))).resolve()
