"""Files that hold a secret: refused if every user of the host can read them, or if they hold a placeholder."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

_OTHERS_READ, _OTHERS_ENTER = 0o004, 0o001

_REFERENCE = re.compile(r"\$\w+|\$\{.*|\$\(.*|%\w+%|\{\{.*")
"""Placeholders: `$NAME`, `${NAME`, `$(command)`, `%NAME%`, `{{ name }}`."""


def must_be_secret(file: Path) -> Path:
    """Returns the path. Raises ValueError, with the fix, if the file is public or holds a placeholder.

    Anything but a regular file passes: a missing file gets a better error from its reader, and a pipe can be read only
    once.
    """
    try:
        if file.is_file():
            refuse_public(file)
            if is_reference(file.read_text(errors="replace")):
                raise ValueError(f"{file} holds an unexpanded reference: write the secret itself into it")
    except OSError:
        pass
    return file


SecretFile = Annotated[Path, AfterValidator(must_be_secret)]
"""The type of a field that names a file with a secret."""


def refuse_public(secret: Path) -> None:
    """Raises ValueError if every user of this host can read the file and enter all directories above it.

    Files that the platform mounts pass, because it sets their modes: under /run/secrets (Compose) and on read-only
    file systems (Kubernetes, Swarm, systemd). Raises OSError if the file cannot be examined.
    """
    file = secret.resolve()
    is_open = file.stat().st_mode & _OTHERS_READ and all(up.stat().st_mode & _OTHERS_ENTER for up in file.parents)
    is_mounted = file.is_relative_to("/run/secrets") or os.statvfs(file).f_flag & os.ST_RDONLY
    if is_open and not is_mounted:
        raise ValueError(f"{secret} can be read by every user of this host: chmod o= {secret}")


def is_reference(text: str) -> bool:
    """Returns whether the text, a word of it or a part of a URL is a placeholder. A password may contain `$`."""
    parts = re.split(r"[\s/?&=:@]" if "://" in text else r"\s", text)
    return any(_REFERENCE.fullmatch(part.strip("\"',}")) for part in parts)
