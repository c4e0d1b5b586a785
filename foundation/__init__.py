"""What the responder and the exporters share: it imports neither of them."""
