"""The table of everything that can be read and set. Adding a backend adds a file here and a line below."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from responder.backends.app_stores.phased_release import PhasedRelease
from responder.backends.app_stores.play_release import PlayRelease
from responder.backends.app_stores.update_feed import UpdateFeed, UpdateFeedObject
from responder.backends.docker.compose_override import ComposeOverride
from responder.backends.docker.service_image import ServiceImage
from responder.backends.host.proxy import HaproxyServers, NginxInclude
from responder.backends.host.release import CurrentRelease, PointerFile
from responder.backends.kubernetes.gitops import Reconciliation
from responder.backends.kubernetes.pod_template import PodTemplate
from responder.backends.kubernetes.rollout import Partition, RolloutPaused, RolloutSettings
from responder.backends.kubernetes.scale import AutoscalerFloor, KeptPods, Replicas
from responder.backends.kubernetes.traffic import ServiceSelector
from responder.backends.postgres.schema_revision import SchemaRevision
from responder.backends.postgres.snapshots.resource import Snapshot
from responder.backends.sites.cloudflare import CloudflarePurge
from responder.backends.sites.cloudfront import CloudfrontInvalidation, CloudfrontKey, OriginPath
from responder.backends.sites.fastly import FastlyPurge, FastlyVersion
from responder.backends.sites.live_prefix import LivePrefix
from responder.backends.sites.pointer_object import PointerObject

__all__ = ["AnyLever", "CurrentRelease", "PointerFile"]

AnyLever = Annotated[
    CurrentRelease
    | PointerFile
    | NginxInclude
    | HaproxyServers
    | ServiceImage
    | ComposeOverride
    | PodTemplate
    | RolloutSettings
    | RolloutPaused
    | Partition
    | Replicas
    | AutoscalerFloor
    | KeptPods
    | ServiceSelector
    | Reconciliation
    | CloudfrontKey
    | OriginPath
    | PointerObject
    | LivePrefix
    | CloudfrontInvalidation
    | CloudflarePurge
    | FastlyVersion
    | FastlyPurge
    | SchemaRevision
    | Snapshot
    | PlayRelease
    | PhasedRelease
    | UpdateFeed
    | UpdateFeedObject,
    Field(discriminator="resource"),
]
"""Every resource, told apart by `resource`; decoding this union is the validation of a plan."""
