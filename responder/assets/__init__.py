"""The files that the package brings along: alert rules, dashboards, systemd units, documentation and license.

In a checkout, the entries of this directory are symbolic links to where the files are written.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

RUNBOOK_URL = "http://localhost:9095/runbooks"
"""Where the shipped rules and dashboards expect the runbooks: at a responder on the same host."""

_ROOT = Path(__file__).parent


def files() -> Iterator[tuple[str, Path]]:
    """Each file with its name: the path from the root of the assets, such as `alert_rules/errors.yml`."""
    for folder, folders, names in os.walk(_ROOT, followlinks=True):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for path in (Path(folder, name) for name in sorted(names)):
            if path.parent != _ROOT or path.suffix != ".py":
                yield path.relative_to(_ROOT).as_posix(), path
