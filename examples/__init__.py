"""Things to run and to read, each complete by itself."""
