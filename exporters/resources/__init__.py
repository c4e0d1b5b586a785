"""Resources of the host, read from the kernel and published as series. Imports no other part of the exporters."""
