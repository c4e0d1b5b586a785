"""Migration tools. They may import `responder.backends.postgres` and `responder.backends.host`."""
