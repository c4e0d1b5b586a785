"""Prometheus: queries, and checks on their results."""
