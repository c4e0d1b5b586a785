"""The parts of an image reference. Pure functions."""

from __future__ import annotations


def digest_of(image: str) -> str:
    """`sha256:…` of an image reference, an image ID or a bare digest; empty if there is none."""
    _, found, digest = image.rpartition("sha256:")
    return f"sha256:{digest}" if found else ""


def tag_of(image: str) -> str:
    """`2.1` of `registry:5000/shop:2.1`; empty if there is none."""
    return image.partition("@")[0].rpartition("/")[2].partition(":")[2]


def references_of(repository: str, version: str, artifact: str) -> list[str]:
    """The references to try for a version, the most reliable first."""
    names = [artifact] if artifact else []
    if artifact.startswith("sha256:") and repository:
        names.append(f"{repository}@{artifact}")
    return [*names, f"{repository}:{version}"] if repository else names


def repository_of(image: str) -> str:
    """`registry:5000/shop` of `registry:5000/shop:2.1`; empty for a bare image ID."""
    if image.startswith("sha256:"):
        return ""
    name = image.partition("@")[0]
    tag = tag_of(name)
    return name.removesuffix(f":{tag}") if tag else name
