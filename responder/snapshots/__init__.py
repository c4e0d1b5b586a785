"""Snapshots of databases: consistent, verified before they count, and restorable without a running responder."""
