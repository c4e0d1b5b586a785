"""Reads the text of a configuration file."""

from __future__ import annotations

from pathlib import Path

from foundation.configuration.findings import finding_of
from foundation.configuration.yaml_document import UnreadableYaml

_LARGEST = 64 * 1024 * 1024
"""Bytes. 40,000 services have 8 MB; a device or a wrong file has no end."""


def read_text(file: Path, option: str = "--config") -> str:
    """Returns the text of the file that the option names. Raises UnreadableYaml if there is none, or no UTF-8."""

    def wrong(text: str, line: int | None = None) -> UnreadableYaml:
        return UnreadableYaml(finding_of(f"cannot be read: {text}", file=str(file), line=line))

    try:
        with file.open("rb") as opened:
            content = opened.read(_LARGEST + 1)
    except OSError as error:
        raise wrong(f"{error.strerror}; set its path with {option}") from None
    if len(content) > _LARGEST:
        raise wrong(f"more than {_LARGEST // 1024**2} MiB; name another file with {option}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = f"the byte 0x{content[error.start]:02x}"
        raise wrong(f"{byte} is not UTF-8; save the file as UTF-8", line) from None
