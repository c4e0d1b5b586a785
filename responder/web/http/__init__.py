"""How requests are read and answered: the listener, routes, bodies and request models."""
