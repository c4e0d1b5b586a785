"""The journal in a SQLite file, for one process. It may import `journal.database` and below."""
