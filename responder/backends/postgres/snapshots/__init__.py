"""Snapshots of databases: consistent, verified, and restorable without a running responder."""
