"""Puts the configuration and all rooms together, serves, and reloads. It may import every room but `cli`."""
