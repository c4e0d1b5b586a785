"""Types of configuration fields, and reports of configuration mistakes. May import only `foundation`."""
