"""Policies, facts and guards: whether to roll back, and why. It may import `services` and below."""
