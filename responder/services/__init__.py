"""The service model, the version registry and the planner. It may import `journal` and below."""
