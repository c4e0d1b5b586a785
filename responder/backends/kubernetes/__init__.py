"""Kubernetes: pod templates, rollout settings, replicas, Services, pods and their logs."""
