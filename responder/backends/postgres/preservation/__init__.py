"""Preserves what a migration destroys, with the SQL that restores it. It may import `responder.backends.postgres`."""
