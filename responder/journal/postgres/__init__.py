"""The journal in PostgreSQL, shared by several replicas. It may import `journal.database` and below."""
