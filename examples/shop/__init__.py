"""A sample service with a good release and bad ones, run by a supervisor as an ordinary server would run it."""
