"""Clients that probes share: HTTP, TLS, names, databases. May import `exporters.errors` and `foundation`."""
