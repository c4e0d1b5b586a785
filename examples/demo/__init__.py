"""A bad release, and nobody at the keyboard: the real parts on this machine, and nothing that is shown is made up."""
