"""Compares the responder's downgrade with the tool's: the same database twice, each downgraded by one of them."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

from tests.responder.backends.postgres.conftest import AppDatabase


class DatabaseCopy:
    """A database, and a copy of it that the tool downgrades."""

    def __init__(self, shop: AppDatabase) -> None:
        self.shop = shop
        server, _, name = shop.dsn.rpartition("/")
        self._name, self._server = name, server
        self.copy = AppDatabase(f"{server}/{name}_twin", shop.directory)

    async def split(self) -> None:
        """Copies the database."""
        admin = AppDatabase(f"{self._server}/postgres", self.shop.directory)
        await admin.run(f'DROP DATABASE IF EXISTS "{self._name}_twin" WITH (FORCE)')
        await admin.run(f'CREATE DATABASE "{self._name}_twin" TEMPLATE "{self._name}"')

    async def differences(self) -> list[str]:
        """Schema lines and rows that only one of the two has, without the side schema."""
        ours, theirs = self._dumped(self.shop.dsn), self._dumped(self.copy.dsn)
        return [
            *(f"only ours: {line}" for line in ours - theirs),
            *(f"only the tool's: {line}" for line in theirs - ours),
        ]

    def _dumped(self, dsn: str) -> Counter[str]:
        argv = ["pg_dump", "-N", "rollback_keep", "--inserts", dsn]
        ran = subprocess.run(argv, capture_output=True, text=True, check=True)
        restrict = ("\\restrict", "\\unrestrict")
        return Counter(line for line in ran.stdout.splitlines() if line and not line.startswith(restrict))

    async def kept_rows(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every preserved relation with its rows as text."""
        names = await self.shop.rows("SELECT source, copy FROM rollback_keep.preserved WHERE kind = 'table' ORDER BY 1")
        return {s: await self.shop.rows(f'SELECT k::text FROM rollback_keep."{k}" AS k ORDER BY 1') for s, k in names}


def tool(argv: list[str], directory: Path, shop: AppDatabase) -> None:
    """Runs a migration tool as its users do."""
    with shop.schemas.environment("shop") as environment:
        ran = subprocess.run(argv, cwd=directory, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
