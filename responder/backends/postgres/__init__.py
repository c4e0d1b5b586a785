"""PostgreSQL: schema revisions, checks, and what a migration destroys."""
