"""HTTP and AWS clients, object stores, child processes and background loops. May import `config` and `foundation`."""
