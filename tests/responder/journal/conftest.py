"""Every drill runs on both databases."""

from tests.journals import journal, state  # noqa: F401
