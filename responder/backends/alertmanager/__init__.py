"""Alertmanager: alerts, matchers, silences and its API."""
