"""Formats results for a terminal."""
