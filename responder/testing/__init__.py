"""Contract tests of channels, resources and strategies, for this project and for plugins.

May import every room. No room may import it.
"""
