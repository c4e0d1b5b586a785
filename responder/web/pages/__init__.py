"""Pages for people: the frame of every page, and the runbooks."""
