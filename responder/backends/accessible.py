"""Models that are reached through a client: resources, checks and log sources."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic

from typing_extensions import TypeVar

from foundation.models import StrictModel
from responder.backends.problems import Problem

C = TypeVar("C", default=Any)


class Accessible(StrictModel, ABC, Generic[C]):
    """A part of an outside system. Its fields identify the part and hold no secrets.

    `C` is the class of the client that its methods receive, connected. A subclass names it once, as in
    `Resource[Kubernetes, str]`; `client` is that class, the only argument with a `connect`.
    """

    client: ClassVar[type[Any]]

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        for argument in cls.__pydantic_generic_metadata__["args"]:
            if hasattr(argument, "connect"):
                cls.client = argument

    @abstractmethod
    async def check_access(self, client: C) -> list[Problem]:
        """Returns every obstacle that can be detected without a change; empty if there is none.

        `responder check --live` calls it. Raises StepFailed and Unavailable.
        """
