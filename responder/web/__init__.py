"""HTTP: webhook receiver, API, streams and metrics. It may import `runtime`, `operations` and below."""
