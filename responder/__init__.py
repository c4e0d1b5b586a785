"""Rolls services back to their last known-good version when Prometheus alerts."""
