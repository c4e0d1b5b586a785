"""Consistent and verified snapshots of databases. A running responder is not needed to restore one.

It may import `responder.backends.postgres` and `responder.transport`.
"""
