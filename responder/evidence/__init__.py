"""What is known of a service in trouble, kept before anything is touched, and never at the cost of the rollback."""
