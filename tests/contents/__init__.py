"""Everything in an outside system as JSON, for the laws: what a rollback does not mention must not change."""
