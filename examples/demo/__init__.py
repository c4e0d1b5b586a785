"""Shows a bad release being rolled back without an operator. All parts are real and run on this machine."""
