"""Code that the responder and the exporters share. Imports neither of them."""
