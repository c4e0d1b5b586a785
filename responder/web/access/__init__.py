"""Who may do what: TLS, tokens, passwords, browser protection."""
