"""The operations that people and alerts can request. It may import `reports` and below."""
