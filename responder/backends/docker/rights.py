"""Whether the engine, or a proxy in front of its socket, allows all that a rollback asks of it. Changes nothing."""

from __future__ import annotations

import asyncio

from responder.backends.docker.client import Docker, Object
from responder.backends.problems import Problem

_NOBODY = "rollback-responder-check"
_CALLS: tuple[tuple[str, str, Object, Object | None], ...] = (
    *(
        ("GET", f"containers/{_NOBODY}/{what}", {"path": "/", "stdout": 1}, None)
        for what in ("archive", "changes", "logs")
    ),
    ("PUT", f"containers/{_NOBODY}/archive", {"path": "/"}, None),
    ("POST", "containers/create", {"name": _NOBODY}, {"Image": f"{_NOBODY}:none"}),
    *(
        ("POST", f"containers/{_NOBODY}/{what}", {"name": _NOBODY}, {})
        for what in ("rename", "start", "stop", "update")
    ),
    ("DELETE", f"containers/{_NOBODY}", {}, None),
    ("POST", "commit", {"container": _NOBODY}, {}),
    ("POST", f"networks/{_NOBODY}/connect", {}, {"Container": _NOBODY}),
    ("GET", f"images/{_NOBODY}/json", {}, None),
    ("POST", "images/create", {"fromImage": "NO IMAGE"}, None),
)
"""What a rollback asks of the engine, for a container, an image and a network that do not exist."""


async def rights_problems(docker: Docker) -> list[Problem]:
    """Returns a problem if any call is refused. Raises Unavailable."""
    answers = await asyncio.gather(*(docker.refuses(*call) for call in _CALLS))
    refused = {
        f"{method} /{path.replace(_NOBODY, '*')}": why
        for (method, path, *_), why in zip(_CALLS, answers, strict=True)
        if why
    }
    if not refused:
        return []
    found = f"refuses {', '.join(sorted(refused))}: {next(iter(refused.values()))}"
    return [Problem("Docker Engine", found, "allow them in its socket proxy")]
