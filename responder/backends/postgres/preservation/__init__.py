"""Keeps what a migration destroys, with the SQL that restores it."""
