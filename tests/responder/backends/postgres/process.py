"""A separate responder process that makes one change, to be killed in the middle: `process.py DSN FILE`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from responder.backends.postgres.client import DatabaseSettings
from responder.backends.postgres.schemas import Schemas
from responder.rollback.plan import Change


async def main(dsn: str, file: str) -> None:
    change = Change.model_validate_json(Path(file).read_text())
    schemas = Schemas((DatabaseSettings.model_validate({"name": "shop", "url": dsn}),))
    await change.resource.write(schemas, change.after, expected=change.before)


asyncio.run(main(*sys.argv[1:]))
