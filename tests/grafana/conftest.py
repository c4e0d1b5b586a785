"""A journal in a database of its own."""

from tests.journals import postgres_server  # noqa: F401
