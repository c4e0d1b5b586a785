"""The image of a service in the responder's Compose file, so that `docker compose up` keeps the good version."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field

from responder.backends.host.client import Local
from responder.backends.host.release import AbsolutePath
from responder.backends.problems import Problem, joined
from responder.backends.resource import Resource
from responder.errors import StepFailed

_HEAD = "# Written by the rollback responder. Remove it once the images of the other Compose files are good again.\n"
_DEFAULT_NAMES = [f"{stem}.override.{suffix}" for stem in ("compose", "docker-compose") for suffix in ("yml", "yaml")]


class ComposeOverride(Resource[Local, str | None]):
    """The image of one service in an override file; None if the file does not name it."""

    resource: Literal["compose_override"] = "compose_override"
    file: AbsolutePath = Field(description="File of the responder; it contains nothing else")
    service: str = Field(min_length=1, description="The service")
    required: bool = Field(default=False, description="Set by the responder: the project lists it, so it must exist")

    async def read(self, local: Local) -> str | None:
        image = (await self._images(local)).get(self.service)
        return image if isinstance(image, str) else None

    async def write(self, local: Local, value: str | None, *, expected: str | None) -> None:
        images = await self._images(local)
        self.must_be(found := images.get(self.service), expected, value)
        if found == value and await local.text(self.file):
            return
        images[self.service] = value
        services = {name: {"image": image} for name, image in sorted(images.items()) if image is not None}
        if services or self.required:
            await local.write_text(self.file, _HEAD + yaml.safe_dump({"services": services}).strip())
        else:
            await local.remove(self.file)

    async def _images(self, local: Local) -> dict[str, Any]:
        """The images by service. Raises StepFailed if the responder did not write the file."""
        text = await local.text(self.file)
        if not text:
            return {}
        try:
            services = (yaml.safe_load(text) or {"services": {}})["services"] or {}
            if services and not text.startswith("# Written by the rollback responder"):
                raise StepFailed(f"{self.file} was not written by the responder: set another file for `override`")
            return {name: service["image"] for name, service in services.items()}
        except (yaml.YAMLError, KeyError, TypeError, AttributeError) as e:
            raise StepFailed(f"{self.file} is not a Compose file of the responder") from e

    async def check_access(self, local: Local) -> list[Problem]:
        await self._images(local)
        return [*await local.replacement_problems(self.file), *await self._rivals(local)]

    async def _rivals(self, local: Local) -> list[Problem]:
        """Compose reads only one of its default override files."""
        if self.required or self.file.name not in _DEFAULT_NAMES:
            return []
        beside = [self.file.with_name(name) for name in _DEFAULT_NAMES if name != self.file.name]
        found = [file for file in beside if await local.content(file) is not None]
        fix = "configure another file as `override`, and add it to the project"
        return [Problem(f"file {self.file}", f"is one of two override files, with {file}", fix) for file in found]

    async def preflight(self, local: Local, value: str | None) -> tuple[str, ...]:
        if problems := await self.check_access(local):
            raise StepFailed(joined(problems))
        return ()

    def __str__(self) -> str:
        return f"image of {self.service} in {self.file}"


def override_beside(files: list[str]) -> Path | None:
    """The override file that `docker compose up` reads by default; None if the project lists other files.

    Once Compose has read the override, the containers list it too.
    """
    if files and (file := Path(files[0])).stem in ("compose", "docker-compose"):
        override = file.with_name(f"{file.stem}.override{file.suffix}")
        return override if files[1:] in ([], [str(override)]) else None
    return None
