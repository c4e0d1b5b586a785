"""How fast the responder is beside what people would otherwise put there, measured on the machine that you have."""
