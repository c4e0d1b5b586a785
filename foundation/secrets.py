"""Secrets, given in a configuration or in a file.

A file is refused if every user of the host can read it, or if it holds a placeholder.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, SecretStr

from foundation.models import exactly_one

_OTHERS_READ, _OTHERS_ENTER = 0o004, 0o001

_REFERENCE = re.compile(r"\$\w+|\$\{.*|\$\(.*|%\w+%|\{\{.*")
"""Placeholders: `$NAME`, `${NAME`, `$(command)`, `%NAME%`, `{{ name }}`."""


def must_be_secret(file: Path) -> Path:
    """Returns the path. Raises ValueError with the remedy if the file is public or holds a placeholder.

    Anything but a regular file passes: a missing file gets a better error from its reader, and a pipe can be read only
    once.
    """
    try:
        if file.is_file():
            refuse_public(file)
            if is_reference(file.read_text(errors="replace")):
                raise ValueError(f"{file} holds an unexpanded reference; replace it with the secret itself")
    except OSError:
        pass
    return file


SecretFile = Annotated[Path, AfterValidator(must_be_secret)]
"""The type of a field that names a file with a secret."""


def secret_of(settings: BaseModel, key: str, file_key: str = "") -> str:
    """The secret of a pair of fields: `key` holds it as SecretStr, or `file_key` names its file as SecretFile.

    `file_key`: default `<key>_file`. Raises ValueError unless exactly one of them is set, and as `read_secret`.
    """
    file_key = file_key or f"{key}_file"
    value: SecretStr | Path = getattr(settings, exactly_one(settings, key, file_key))
    return value.get_secret_value() if isinstance(value, SecretStr) else read_secret(value, file_key)


def read_secret(file: Path, setting: str = "") -> str:
    """The text of the file without the white space around it, as Prometheus reads secrets.

    `setting`: the key that names the file, for errors that do not have the path of the key. Raises ValueError if the
    file cannot be read or is not UTF-8.
    """
    try:
        return read_secret_bytes(file, setting).decode().strip()
    except UnicodeDecodeError:
        raise ValueError(f"{_where(file, setting)} cannot be read: expected UTF-8 text") from None


def read_secret_bytes(file: Path, setting: str = "") -> bytes:
    """The content of the file, for keys that may be binary. See `read_secret`."""
    try:
        return file.read_bytes()
    except OSError as e:
        expected = f"expected a file that uid {os.geteuid()} can read"
        raise ValueError(f"{_where(file, setting)} cannot be read: {e.strerror}; {expected}") from None


def _where(file: Path, setting: str) -> str:
    return f"{setting}: {file}" if setting else str(file)


def refuse_public(secret: Path) -> None:
    """Raises ValueError if every user of this host can read the file and enter all directories above it.

    Files that the platform mounts pass, because it sets their modes: under /run/secrets (Compose) and on read-only
    file systems (Kubernetes, Swarm, systemd). Raises OSError if the file cannot be examined.
    """
    file = secret.resolve()
    is_open = file.stat().st_mode & _OTHERS_READ and all(up.stat().st_mode & _OTHERS_ENTER for up in file.parents)
    is_mounted = file.is_relative_to("/run/secrets") or os.statvfs(file).f_flag & os.ST_RDONLY
    if is_open and not is_mounted:
        raise ValueError(f"{secret} can be read by every user of this host; chmod o= {secret}")


def is_reference(text: str) -> bool:
    """Returns whether the text, a word of it or a part of a URL is a placeholder. A password may contain `$`."""
    parts = re.split(r"[\s/?&=:@]" if "://" in text else r"\s", text)
    return any(_REFERENCE.fullmatch(part.strip("\"',}")) for part in parts)
