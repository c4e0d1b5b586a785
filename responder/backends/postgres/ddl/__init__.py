"""Reads SQL statements and classifies their effects. Imports only `responder.backends.postgres.sql`."""
