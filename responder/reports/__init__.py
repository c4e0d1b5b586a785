"""What people read afterwards and meanwhile: how it is now, and what happened in one rollback."""
