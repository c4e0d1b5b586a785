"""Example configurations, the demo, the stack and a plugin."""
