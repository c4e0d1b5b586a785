"""From answers to a setup. What is not given is asked for, in a terminal, or has a default."""

from __future__ import annotations

import getpass
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from pydantic import TypeAdapter, ValidationError

from responder.app.setup.channels import EXPECTED
from responder.app.setup.compose import read_compose
from responder.app.setup.found import FoundService, FoundServices, with_health_url
from responder.app.setup.host import host_service
from responder.app.setup.kubernetes import read_namespace
from responder.app.setup.render import IMAGES, Setup, Where
from responder.backends.kubernetes.client import Kubernetes
from responder.errors import Invalid
from responder.services.service import Name

Ask = Callable[[str, str, str], str]
"""Asks a question: the option that answers it, the question, and the default. Empty: there is no default."""

_NAME = TypeAdapter(Name)


@dataclass(frozen=True)
class Answers:
    """What the command line says. Empty values are asked for."""

    directory: Path
    from_compose: Path | None = None
    from_kubernetes: str = ""
    services: tuple[str, ...] = ()
    environment: str = ""
    health_url: str = ""
    root: Path | None = None
    restart: str = ""
    channel: str = ""
    mode: str = "observe"
    user: str = ""


def unattended(option: str, question: str, default: str) -> str:
    """Answers with the default. Raises Invalid if there is none."""
    return default or _missing(option, question)


async def setup_of(answers: Answers, ask: Ask) -> tuple[Setup, FoundServices]:
    """The setup, and the services that were found. Raises Invalid, and what the Kubernetes client raises."""
    directory = _plain("DIR", answers.directory.absolute())
    where, project, found = await _found(answers, directory, ask)
    environment = _name("--environment", answers.environment or ask("--environment", "Environment", "production"))
    services = with_health_url(found.services, answers.health_url)
    for service in services:
        _name("--service", service.name)
        if not service.health_url and not service.checks:
            url = ask("--health-url", f"URL that answers 2xx while {service.name} is healthy", "")
            services = with_health_url(services, url)
    channel = answers.channel or ask("--channel", f"Notifications ({EXPECTED.removeprefix('expected ')})", "console")
    root = next((Path(s.rollback["release"]["root"]) for s in services if "release" in s.rollback), None)
    setup = Setup(
        where,
        directory,
        environment,
        services,
        channel=channel,
        mode=answers.mode,
        user=_user(answers.user or _owner(root)),
        project=project,
        compose_file="compose.yaml" if answers.from_compose in (None, Path("-")) else answers.from_compose.name,
    )
    return setup, found


async def _found(answers: Answers, directory: Path, ask: Ask) -> tuple[Where, str, FoundServices]:
    """Where the services run, in which project or namespace, and which ones there are."""
    if answers.from_compose and answers.from_kubernetes:
        raise Invalid("--from-compose and --from-kubernetes: choose one of them")
    if answers.from_compose:
        project, found = read_compose(answers.from_compose, directory / IMAGES)
        return "compose", project, found.only(answers.services, f"--from-compose {answers.from_compose}")
    if namespace := answers.from_kubernetes:
        kube = await Kubernetes.connect(None)
        try:
            found = await read_namespace(kube, namespace)
        finally:
            await kube.close()
        return "kubernetes", namespace, found.only(answers.services, f"--from-kubernetes {namespace}")
    return "host", "", FoundServices((_host(answers, ask),))


def _host(answers: Answers, ask: Ask) -> FoundService:
    if len(answers.services) > 1:
        raise Invalid("--service: only one service without --from-compose (add others to responder.yml later)")
    name = _name("--service", next(iter(answers.services), "") or ask("--service", "Name of the service", ""))
    root = answers.root or Path(ask("--root", "Directory with `current` and `releases`", f"/srv/{name}"))
    restart = answers.restart or ask("--restart", "Command that restarts it", f"systemctl restart {name}")
    return host_service(name, _plain("--root", root), restart)


def _plain(option: str, path: Path) -> Path:
    """The path, which becomes part of systemd units, YAML and commands. Raises Invalid."""
    if not re.fullmatch(r"[\w./@+-]+", str(path), re.ASCII):
        raise Invalid(f"{option} {path}: expected a path of letters, digits and ./_@+-, such as /etc/responder")
    return path


def _user(name: str) -> str:
    """The name, which becomes part of units and of a polkit rule. Raises Invalid."""
    if not re.fullmatch(r"[a-zA-Z_][\w.-]*\$?", name, re.ASCII):
        raise Invalid(f"--user {name}: expected the name of a user, such as responder")
    return name


def _owner(root: Path | None) -> str:
    """The user that may switch the releases."""
    try:
        return root.owner() if root else getpass.getuser()
    except (OSError, KeyError):
        return "responder"


def _name(option: str, text: str) -> str:
    try:
        return _NAME.validate_python(text)
    except ValidationError:
        raise Invalid(
            f"{option} {text}: expected lower-case letters, digits, `-`, `_` and `.`, at most 63, such as backend"
        ) from None


def _missing(option: str, question: str) -> NoReturn:
    raise Invalid(f"{option} is missing: {question[0].lower()}{question[1:]} (or run the command in a terminal)")
