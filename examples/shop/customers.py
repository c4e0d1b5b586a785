"""Ten requests a second, for ever: a page, then a checkout. What they see is in the last line of the log."""

from __future__ import annotations

import http.client
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

A_SECOND = 10
PATIENCE = 2.0
ALIVE = Path("/tmp/alive")
"""Touched by each request, for the health check: customers who have stopped asking would look like peace."""


def seen(url: str) -> str:
    """What one request ended in: its status and the release that answered, or the error."""
    there = urlsplit(url)
    asking = http.client.HTTPConnection(there.netloc, timeout=PATIENCE)
    try:
        asking.request("GET", there.path)
        answer = asking.getresponse()
        answer.read()
        return f"{answer.status} from {answer.headers.get('X-Release', 'the front')}"
    except (OSError, http.client.HTTPException) as e:
        return type(e).__name__
    finally:
        asking.close()


def main() -> None:
    """Asks each URL of the command line in turn, and tells every 5 s."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # as the first process of a container it would not end by it
    urls, counted, tell = sys.argv[1:], Counter[str](), time.monotonic() + 5
    while True:
        for url in urls:
            counted[seen(url)] += 1
            ALIVE.touch()
            time.sleep(1 / A_SECOND)
        if time.monotonic() > tell:
            print(", ".join(f"{n} x {what}" for what, n in sorted(counted.items())), flush=True)
            counted.clear()
            tell += 5


if __name__ == "__main__":
    main()
