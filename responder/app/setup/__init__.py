"""What `responder init` writes: a configuration that works, from a few answers or from what runs already."""
