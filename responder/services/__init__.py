"""The service model and the planner for one or several services. It may import `journal` and below."""
