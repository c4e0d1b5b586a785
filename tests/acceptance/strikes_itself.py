"""`responder serve` that stops itself right after a chosen statement of the journal in PostgreSQL.

STRIKE_AFTER is a pattern, STRIKE_AT says which of the statements that match it (from 1), and ARMED names a file: as
long as it does not exist, no statement counts. STRIKE is what happens then, in JSON: the name of a signal to itself, or
a command that cuts it off. STRUCK names a file that holds the statement afterwards.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from responder.cli import main
from responder.journal.postgres import database, transaction

_ask = database.ask
_after, _at = re.compile(os.environ["STRIKE_AFTER"]), int(os.environ["STRIKE_AT"])
_armed, _struck = Path(os.environ["ARMED"]), Path(os.environ["STRUCK"])
_strike: str | list[str] = json.loads(os.environ["STRIKE"])
_seen = 0


async def ask(call: Callable[..., Awaitable[Any]], *args: Any, **more: Any) -> Any:
    """As in the journal, but stops itself after the effect of the statement, before anything else runs."""
    global _seen
    answer = await _ask(call, *args, **more)
    statement = " ".join(str(arg).split("\n")[0][:100] for arg in args[:2] if isinstance(arg, str)) or call.__name__
    if _armed.exists() and _after.search(statement):
        _seen += 1
        if _seen == _at:
            _struck.write_text(statement)
            if isinstance(_strike, str):
                os.kill(os.getpid(), signal.Signals[_strike])
            else:
                subprocess.run(_strike, check=True)
    return answer


if __name__ == "__main__":
    database.ask = transaction.ask = ask
    raise SystemExit(main())
