"""HashiCorp Nomad for the rollback responder."""
