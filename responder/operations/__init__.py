"""What people and alerts can request, each operation once. It may import `reports` and below."""
