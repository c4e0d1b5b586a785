"""Every drill runs on both databases."""

from tests.journals import journal, postgres_server, state  # noqa: F401
