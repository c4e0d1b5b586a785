"""`responder check`: validates the configuration, and with `--live` everything that a rollback will use."""
