"""What people and alerts can request: each operation once, for web, cli and runtime. May import reports and below."""
