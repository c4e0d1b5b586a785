"""Contract suites: what every channel, resource and strategy must keep, for distributions that add their own.

May import every room. No room may import it.
"""
