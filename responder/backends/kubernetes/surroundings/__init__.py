"""What surrounds a workload and affects its rollback: nodes, configuration, autoscalers, Services, apply records."""
