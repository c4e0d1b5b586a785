"""Tells Prometheus whether each service answers and what the host has left; decides nothing."""
