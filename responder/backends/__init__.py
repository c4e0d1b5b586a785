"""One folder per outside system: client, resources, checks, log source, preflight.

It may import `transport`, `config` and `errors`.
"""
