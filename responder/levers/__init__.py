"""The table of everything that can be read and set. Adding a backend adds a file here and a line below."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from responder.levers.compose import ComposeOverride
from responder.levers.docker import ServiceImage
from responder.levers.kubernetes import (
    AutoscalerFloor,
    KeptPods,
    Partition,
    PodTemplate,
    Reconciliation,
    Replicas,
    RolloutPaused,
    RolloutSettings,
    ServiceSelector,
)
from responder.levers.proxy import HaproxyServers, NginxInclude
from responder.levers.release import CurrentRelease, PointerFile
from responder.levers.schema_revision import SchemaRevision
from responder.levers.snapshot import Snapshot
from responder.levers.stores import PhasedRelease, PlayRelease, UpdateFeed, UpdateFeedObject
from responder.levers.web import (
    CloudflarePurge,
    CloudfrontInvalidation,
    CloudfrontKey,
    FastlyPurge,
    FastlyVersion,
    LivePrefix,
    OriginPath,
    PointerObject,
)

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
    Field(discriminator="lever"),
]
"""Every lever, told apart by `lever`; decoding this union is the validation of a plan."""
