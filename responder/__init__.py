"""Puts the last known-good version back: safely, once, and with every act and refusal on record."""
