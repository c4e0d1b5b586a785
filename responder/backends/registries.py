"""Everything that backends provide, by name. To add a part, write its module and add one line here.

Other distributions add entry points of the groups `rollback_responder.resources`, `.checks` and `.log_sources`.
"""

from __future__ import annotations

from typing import Annotated

from foundation.registry import Registry
from responder.backends.check import Check
from responder.backends.log_source import LogSource
from responder.backends.prometheus.trouble_check import TroubleCheck
from responder.backends.resource import Resource

RESOURCES: Registry[Resource] = Registry(
    "resource",
    group="rollback_responder.resources",
    tag="resource",
    builtin={
        "current_release": "responder.backends.host.release:CurrentRelease",
        "pointer_file": "responder.backends.host.release:PointerFile",
        "nginx_include": "responder.backends.host.proxy:NginxInclude",
        "haproxy_servers": "responder.backends.host.proxy:HaproxyServers",
        "service_image": "responder.backends.docker.service_image:ServiceImage",
        "compose_override": "responder.backends.docker.compose_override:ComposeOverride",
        "pod_template": "responder.backends.kubernetes.pod_template:PodTemplate",
        "rollout_settings": "responder.backends.kubernetes.rollout:RolloutSettings",
        "rollout_paused": "responder.backends.kubernetes.rollout:RolloutPaused",
        "partition": "responder.backends.kubernetes.rollout:Partition",
        "replicas": "responder.backends.kubernetes.scale:Replicas",
        "autoscaler_floor": "responder.backends.kubernetes.scale:AutoscalerFloor",
        "kept_pods": "responder.backends.kubernetes.scale:KeptPods",
        "service_selector": "responder.backends.kubernetes.traffic:ServiceSelector",
        "reconciliation": "responder.backends.kubernetes.gitops:Reconciliation",
        "cloudfront_key": "responder.backends.sites.cloudfront:CloudfrontKey",
        "origin_path": "responder.backends.sites.cloudfront:OriginPath",
        "pointer_object": "responder.backends.sites.pointer_object:PointerObject",
        "live_prefix": "responder.backends.sites.live_prefix:LivePrefix",
        "cloudfront_invalidation": "responder.backends.sites.cloudfront:CloudfrontInvalidation",
        "cloudflare_purge": "responder.backends.sites.cloudflare:CloudflarePurge",
        "fastly_version": "responder.backends.sites.fastly:FastlyVersion",
        "fastly_purge": "responder.backends.sites.fastly:FastlyPurge",
        "schema_revision": "responder.backends.postgres.schema_revision:SchemaRevision",
        "snapshot": "responder.backends.postgres.snapshots.resource:Snapshot",
        "play_release": "responder.backends.app_stores.play_release:PlayRelease",
        "phased_release": "responder.backends.app_stores.phased_release:PhasedRelease",
        "update_feed": "responder.backends.app_stores.update_feed:UpdateFeed",
        "update_feed_object": "responder.backends.app_stores.update_feed:UpdateFeedObject",
    },
)
AnyResource = Annotated[Resource, RESOURCES]
"""A resource in a configuration or a plan, by the value of its key `resource`."""

CHECKS: Registry[Check] = Registry(
    "check",
    group="rollback_responder.checks",
    builtin={
        "promql": "responder.backends.prometheus.promql_check:PromqlCheck",
        "http": "responder.backends.http.http_check:HttpCheck",
        "pods": "responder.backends.kubernetes.pods_check:PodsCheck",
        "containers": "responder.backends.docker.containers_check:ContainersCheck",
        "sql": "responder.backends.postgres.checks:SqlCheck",
        "intact": "responder.backends.postgres.checks:IntactCheck",
    },
)
AnyCheck = Annotated[Check, CHECKS]
"""A check in a configuration, by the key that only this check has."""

GateCheck = AnyCheck | TroubleCheck
"""A check in a plan. The responder adds `TroubleCheck`; no configuration names it."""

LOG_SOURCES: Registry[LogSource] = Registry(
    "log source",
    group="rollback_responder.log_sources",
    builtin={
        "kubernetes": "responder.backends.kubernetes.pod_logs:PodLogs",
        "file": "responder.backends.host.log_files:FileLogs",
        "journald": "responder.backends.host.journal_logs:JournaldLogs",
        "docker": "responder.backends.docker.container_logs:ContainerLogs",
        "system": "responder.backends.host.journal_logs:SystemLogs",
    },
)
AnyLogSource = Annotated[LogSource, LOG_SOURCES]
"""A log source in a configuration, by the key that only this source has."""
