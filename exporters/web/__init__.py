"""HTTP endpoints and the status page. May import every other part except `exporters.cli` and `exporters.serve`."""
