"""Pages behind signed links: approve a plan, stop a rollback."""
