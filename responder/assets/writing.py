"""Writes files, such as the assets with the address of their runbooks, to a directory of the user."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile

from responder.assets import RUNBOOK_URL, files
from responder.errors import Conflict, ResponderError

_SHOWN = 10


@dataclass
class Written:
    """The names of the files, by what happened to them."""

    new: list[str] = field(default_factory=list)
    overwritten: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)


def write(directory: Path, runbook_url: str = RUNBOOK_URL, *, force: bool = False) -> Written:
    """Writes all assets below the directory.

    Raises Conflict, and writes nothing, if a file exists with other content, unless `force` is set.
    """
    # It becomes part of YAML, of JSON and of templates of Prometheus and Grafana.
    if not re.fullmatch(r"https?://[^\s\"'\\{}<>$#]+", runbook_url):
        message = f"--runbook-url {runbook_url!r}: must be an http or https URL without spaces, quotes, braces, $ and #"
        raise ResponderError(f"{message}, such as {RUNBOOK_URL}")
    address = runbook_url.rstrip("/").encode()
    contents = {name: path.read_bytes().replace(RUNBOOK_URL.encode(), address) for name, path in files()}
    return write_files(directory, contents, force=force)


def write_files(
    directory: Path, contents: Mapping[str, bytes], *, secret: Collection[str] = (), force: bool = False
) -> Written:
    """Writes files below the directory. Only its user can read those in `secret`; existing ones of these are kept.

    Raises Conflict, and writes nothing, if another file exists with other content, unless `force` is set.
    """
    written = Written()
    try:
        for name, content in contents.items():
            file = directory / name
            there = file.exists() or file.is_symlink()
            same = file.is_file() and (name in secret or file.read_bytes() == content)
            (written.unchanged if same else written.overwritten if there else written.new).append(name)
        if written.overwritten and not force:
            raise Conflict(_conflict(directory, written.overwritten))
        for name in (*written.new, *written.overwritten):
            _replace(directory / name, contents[name], 0o600 if name in secret else 0o644)
    except OSError as e:
        raise ResponderError(f"{e.filename or directory}: {e.strerror}; not all files were written") from None
    return written


def _conflict(directory: Path, names: list[str]) -> str:
    shown = [str(directory / name) for name in names[:_SHOWN]]
    if len(names) > _SHOWN:
        shown.append(f"and {len(names) - _SHOWN} more")
    lines = "\n  ".join(shown)
    return f"{lines}\nexist with other content, so nothing was written: choose another directory, or pass --force"


def _replace(file: Path, content: bytes, mode: int) -> None:
    """Writes the file as a whole: a program that reloads meanwhile never reads a part of it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=file.parent, prefix=f".{file.name}.", delete=False) as temporary:
        part = Path(temporary.name)
        try:
            temporary.write(content)
            part.chmod(mode)
            part.replace(file)
        except OSError:
            part.unlink()
            raise
