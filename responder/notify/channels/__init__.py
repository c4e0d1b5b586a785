"""One file per notification channel: its settings and its delivery."""
