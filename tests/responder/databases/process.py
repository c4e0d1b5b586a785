"""A responder of its own that takes one move, to be killed in the middle of it: `process.py DSN FILE`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from responder.clients.postgres import DatabaseSettings
from responder.clients.schemas import Schemas
from responder.plan import Move


async def main(dsn: str, file: str) -> None:
    move = Move.model_validate_json(Path(file).read_text())
    schemas = Schemas((DatabaseSettings.model_validate({"name": "shop", "url": dsn}),))
    await move.lever.write(schemas, move.to, was=move.was)


asyncio.run(main(*sys.argv[1:]))
