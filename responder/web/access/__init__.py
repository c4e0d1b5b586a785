"""Access control: TLS, tokens, passwords, scopes, and protection against other web sites."""
