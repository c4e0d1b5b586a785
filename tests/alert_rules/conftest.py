"""No event loop is left behind for the garbage collector to complain about."""

import asyncio

# pytest-asyncio asks for "the loop before" and so makes one that nobody closes, and every warning is an error here.
# With this it is told that there was none. It holds for the whole run.
asyncio.set_event_loop(None)
