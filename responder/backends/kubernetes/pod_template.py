"""The pod template of a workload, identified by the revision that the cluster keeps."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, JsonValue

from foundation.durations import Duration
from responder.backends.images import digest_of, tag_of
from responder.backends.kubernetes.access import Right
from responder.backends.kubernetes.client import Kubernetes
from responder.backends.kubernetes.gitops import owners_of
from responder.backends.kubernetes.objects import (
    Object,
    images_of,
    is_ready,
    main_image,
    note_template,
    number_of,
    other_image,
    runs,
    same_template,
    template_of,
    trouble_of,
    unfinished,
    writer_of,
)
from responder.backends.kubernetes.surroundings.applied import notes_on_apply
from responder.backends.kubernetes.surroundings.configuration import notes_on_references
from responder.backends.kubernetes.surroundings.nodes import all_but_lost, notes_on_nodes
from responder.backends.kubernetes.surroundings.rights import missing_rights_to_look
from responder.backends.kubernetes.workload import (
    Workload,
    describe_settings,
    free,
    is_on_delete,
    is_ordered,
    ordinal_of,
    partition_of,
    rollout_failure,
    set_settings,
    settings_of,
)
from responder.backends.problems import Problem
from responder.errors import Drift, Outdated, StepFailed


class PodTemplate(Workload[Any]):
    """The pod template of a Deployment, StatefulSet or DaemonSet.

    Its value is a ReplicaSet or ControllerRevision and the images in it, never "the previous revision": after the
    first rollback that would be the bad version.
    """

    resource: Literal["pod_template"] = "pod_template"
    container: str | None = Field(
        default=None,
        description="Container whose image is the version; default: as in `kubectl logs`",
    )
    within: Duration = Field(default=600.0, gt=0, description="Deadline for one rollout, plus progressDeadlineSeconds")
    gitops: Literal["refuse", "suspend"] = Field(
        default="refuse", description="Refuse, or suspend Argo CD, Flux or Helm if they own the workload"
    )
    when_paused: Literal["refuse", "resume"] = Field(
        default="refuse", description="Refuse, or resume a paused rollout with the good version"
    )
    mark: str = Field(default="", description="Set by the responder: the execution, for the annotations")
    with_settings: tuple[str, ...] = Field(
        default=(),
        description="Set by the responder: rollout settings that are part of the value, set by the same patch",
    )

    @property
    def converge_timeout(self) -> float:
        return self.within

    def rights(self, found: Object) -> tuple[Right, ...]:
        return (*super().rights(found), *self.to_list, *([Right("delete", "Pod")] if self._deletes(found) else ()))

    def _deletes(self, found: Object) -> bool:
        """Whether `assist` may delete a pod."""
        deletes = not found or is_on_delete(found) or (bool(self.statefulset) and is_ordered(found))
        return deletes and not self.deployment

    async def _value(self, kube: Kubernetes, found: Object) -> dict[str, Any]:
        return self._value_in(found, await self.revisions(kube, found))

    def _value_in(self, found: Object, kept: list[Object]) -> dict[str, Any]:
        template = found["spec"]["template"]
        kept = sorted(kept, key=number_of, reverse=True)
        revision = next((candidate for candidate in kept if same_template(template_of(candidate), template)), None)
        if revision is None and not found["spec"].get("paused"):
            raise Outdated(f"{self.what} has a template that its controller has not seen yet")
        # A template that was set during a pause has no revision yet.
        name = revision["metadata"]["name"] if revision else ""
        settings = {"settings": settings_of(found, self.with_settings)} if self.with_settings else {}
        return {"revision": name, "images": dict(images_of(template)), **settings}

    def same(self, found: Any, value: Any) -> bool:
        if found is None or value is None:
            return found is value
        return self.equivalent(found, value) and found.get("settings") == value.get("settings")

    def equivalent(self, found: Any, value: Any) -> bool:
        # The settings are temporary: they are restored before the rollback ends.
        if found is None or value is None:
            return found is value
        return (found["revision"], found["images"]) == (value["revision"], value["images"])

    def must_be(self, found: Any, *values: Any) -> None:
        super().must_be(found, *values)
        if self.with_settings and found["settings"] not in [value["settings"] for value in values]:
            expected = ", nor ".join(describe_settings(value["settings"]) for value in values)
            who = f"rollout settings of {self.what}"
            raise Drift(
                f"the {who} are {describe_settings(found['settings'])}, neither {expected}: changed by someone else"
            )

    async def _change(self, kube: Kubernetes, found: Object, present: Any, value: Any) -> list[Object]:
        return self._operations(found, self._revision_in(await self.revisions(kube, found), value), present, value)

    def _revision_in(self, kept: list[Object], value: Any) -> Object:
        """The revision that the value names. Raises StepFailed if it is gone, or has other images."""
        name = value["revision"]
        revision = next((r for r in kept if r["metadata"]["name"] == name), None)
        if revision is None:
            raise StepFailed(f"{self.what} no longer has revision {name}")
        if (images := images_of(template_of(revision))) != value["images"]:
            raise StepFailed(f"revision {name} now has other images: {images}")
        return revision

    def _operations(self, found: Object, revision: Object, present: Any, value: Any) -> list[Object]:
        """The operations that restore the template of a revision. The rest of the object stays."""
        template = template_of(revision)
        settings = set_settings(value["settings"]) if self.with_settings else []
        settings.insert(0, {"op": "replace", "path": "/spec/template", "value": template})
        return [*settings, *note_template(found, self.mark, _revision(present), _revision(value))]

    async def converged(self, kube: Kubernetes, value: Any) -> bool:
        found = await self.object(kube)
        kept = await self.revisions(kube, found)
        if not self.equivalent(self._value_in(found, kept), value):
            return False
        if found["spec"].get("paused"):
            return True  # no rollout until it is resumed
        if found["metadata"]["generation"] > found.get("status", {}).get("observedGeneration", 0):
            return False
        every = await self.pods(kube, found, kept)
        pods = [pod for pod in every if self.is_of(pod, str(value["revision"]))]
        if trouble := next(filter(None, map(trouble_of, pods)), ""):
            raise StepFailed(trouble)
        if self.deployment and rollout_failure(found, kept, str(value["revision"]), every):
            found = await self.object(kube)  # the pods were read later, and may explain a failure that is over
            if failed := rollout_failure(found, await self.revisions(kube, found), str(value["revision"]), every):
                raise StepFailed(f"{self.what}: {failed}")
        if self.statefulset and partition_of(found):
            first = partition_of(found)
            expected = int(found["spec"].get("replicas", 1)) - first
            return sum(is_ready(pod) and ordinal_of(pod) >= first for pod in pods) >= expected
        # The counts of the workload may lag behind its ReplicaSets, so the pods decide.
        late = unfinished(found) or (not self.daemonset and sum(map(is_ready, pods)) < found["spec"].get("replicas", 1))
        if late and (self.deployment or not await all_but_lost(kube, found, every, pods)):
            return False
        self._same_images(pods, value)
        return True

    def _same_images(self, pods: list[Object], value: dict[str, Any]) -> None:
        """Compares the digests of running images, because a tag may have moved. Raises StepFailed if they differ."""
        if not (digest := value.get("digest")):
            return
        for pod in pods:
            if other := other_image(pod, value["container"], digest):
                raise StepFailed(f"{other}: {value['images'][value['container']]} now refers to another image")

    async def assist(self, kube: Kubernetes, value: Any) -> None:
        """Deletes pods for which the controller would wait forever, one at a time."""
        if self.deployment:
            return
        found = await self.object(kube)
        if not self._deletes(found) or not self.same(await self._value(kube, found), value):
            return
        if found["metadata"]["generation"] > found.get("status", {}).get("observedGeneration", 0):
            return  # the controller would recreate it from the bad template
        pods = await self.pods(kube, found)
        updated = [pod for pod in pods if self.is_of(pod, str(value["revision"]))]
        if not is_on_delete(found):
            await free(kube, found, pods, updated)
            return
        old = [pod for pod in pods if pod not in updated]
        stuck = [pod for pod in old if not is_ready(pod)]
        if stuck or (old and all(map(is_ready, pods))):
            await kube.delete_pod((stuck or old[-1:])[0])

    async def last_modified_by(self, kube: Kubernetes) -> str:
        return writer_of(await self.object(kube), "spec", "template")

    async def value_of(self, kube: Kubernetes, version: str, artifact: str) -> JsonValue:
        found = await self.object(kube)
        kept = sorted(await self.revisions(kube, found), key=number_of)
        kind, _, name = artifact.partition("/")
        if kind.lower() in ("replicaset", "controllerrevision"):
            fitting, artifact = [candidate for candidate in kept if candidate["metadata"]["name"] == name], ""
        else:
            fitting = [
                candidate for candidate in kept if runs(template_of(candidate), version, artifact, self.container)
            ]
        if not fitting:
            images = sorted({main_image(template_of(candidate), self.container) for candidate in kept})
            limit = found["spec"].get("revisionHistoryLimit", 10)
            raise StepFailed(
                f"{self.what} keeps no revision that is {version}; it keeps {', '.join(images) or 'none'} "
                f"(revisionHistoryLimit: {limit})"
            )
        template = template_of(fitting[-1])
        value: dict[str, JsonValue] = {
            "revision": fitting[-1]["metadata"]["name"],
            "images": dict(images_of(template)),
        }
        image = main_image(template, self.container)
        if (digest := digest_of(artifact)) and not digest_of(image):
            container = next(name for name, image_ref in images_of(template).items() if image_ref == image)
            value |= {"digest": digest, "container": container}
        return value

    async def runs(self, kube: Kubernetes, found: JsonValue, version: str, artifact: str) -> bool:
        self._was_rolled_out(found)
        kind, _, name = artifact.partition("/")
        if kind.lower() in ("replicaset", "controllerrevision"):
            return isinstance(found, dict) and found["revision"] == name
        return runs((await self.object(kube))["spec"]["template"], version, artifact, self.container)

    async def version_of(self, kube: Kubernetes, found: Any) -> tuple[str, str]:
        template = (await self.object(kube))["spec"]["template"]
        image = main_image(template, self.container)
        label = (template["metadata"].get("labels") or {}).get("app.kubernetes.io/version", "")
        return tag_of(image) or label, image if digest_of(image) else ""

    async def preflight(self, kube: Kubernetes, value: JsonValue) -> tuple[str, ...]:
        found = await self.object(kube)
        self._may_roll_out(found)
        await self.need_rights(kube, found)
        kept = await self.revisions(kube, found)
        present = self._value_in(found, kept)
        self._was_rolled_out(present)
        revision = self._revision_in(kept, value)
        change = self._operations(found, revision, present, value)
        notes = await notes_on_references(kube, self.what, self.namespace, revision)
        await kube.patch(found, change, dry_run=True)  # admission webhooks can refuse before the first change
        if not same_template(change[0]["value"], found["spec"]["template"]):
            notes += notes_on_apply(found, self.what, change[0]["value"])
        return notes if self.deployment else notes + await notes_on_nodes(kube, found, await self.pods(kube, found))

    async def _obstacles(self, kube: Kubernetes, found: Object) -> list[Problem]:
        """Also reports other writers of the workload: a plan is refused if they would restore the bad version."""
        problems = []
        for owner in await owners_of(kube, self):
            if owner.unseen:
                unseen = f"the responder's account cannot {owner.unseen}, which would show {owner.who}"
                problems.append(
                    Problem(self.what, unseen, "grant the Role of deploy/kubernetes/rights (Helm: rights.namespaces)")
                )
            elif owner.fights or self.gitops == "refuse":
                fix = owner.mend + ("" if owner.fights else ", or set gitops: suspend")
                problems.append(Problem(self.what, f"belongs to {owner.who}: a rollback is refused", fix))
            elif owner.suspend is not None:
                problems += await owner.suspend.check_access(kube)
        present = await self._value(kube, found)
        try:
            self._may_roll_out(found)
            self._was_rolled_out(present)
        except StepFailed as refusal:
            problems.append(Problem(self.what, str(refusal)))
        if found["spec"].get("revisionHistoryLimit") == 0:
            problems.append(Problem(self.what, "keeps no old revision (revisionHistoryLimit: 0)", "raise the limit"))
        kept = await self.revisions(kube, found)
        return [*problems, *await missing_rights_to_look(kube, self, kept)]

    def _may_roll_out(self, found: Object) -> None:
        """Raises StepFailed if somebody paused the rollout."""
        if found["spec"].get("paused") and self.when_paused == "refuse":
            fix = "run kubectl rollout resume, or set when_paused: resume"
            raise StepFailed(f"the rollout of {self.what} is paused ({fix})")

    def _was_rolled_out(self, found: Any) -> None:
        """Raises StepFailed if no revision of the current template is kept, so that it could not be restored."""
        if found is not None and not found["revision"]:
            images = ", ".join(found["images"].values())
            raise StepFailed(f"{self.what} is paused, with a template that was never rolled out ({images})")

    def describe(self, value: Any) -> str:
        settings = f", {describe_settings(value['settings'])}" if value and "settings" in value else ""
        return _revision(value) + settings if value else "none"

    def __str__(self) -> str:
        return f"pod template of {self.what}"


def _revision(value: Any) -> str:
    return f"{value['revision'] or 'never rolled out'} ({', '.join(value['images'].values())})"
