"""Loads the configuration, connects the rooms, serves and reloads. It may import every room but `cli`."""
