"""Docker Engine and Compose: the containers of a service, kept so that each can be restored."""
