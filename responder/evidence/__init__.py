"""Collects logs and context before the first change of a rollback. It may import `decisions` and below."""
