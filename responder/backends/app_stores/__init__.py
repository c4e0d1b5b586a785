"""App stores and update feeds: what users of an app get."""
