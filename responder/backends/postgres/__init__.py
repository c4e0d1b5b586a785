"""PostgreSQL: the client, schema revisions, checks, preserved data and snapshots.

It may import `responder.transport`, `responder.config`, `foundation` and the interfaces in `responder.backends`.
"""
