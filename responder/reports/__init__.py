"""Status, health reports, post-mortems and their plots. It may import `evidence`, `notify` and below."""
