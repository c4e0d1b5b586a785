"""Exporters: checks of services and resources of the host, as Prometheus series. Imports only `foundation`."""
