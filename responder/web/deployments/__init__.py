"""Reports of deployments, by pipelines and by Flux."""
