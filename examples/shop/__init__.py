"""A sample service with good and bad releases, run by a supervisor as on an ordinary server."""
