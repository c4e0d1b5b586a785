"""Feeds of a desktop app in the formats of Sparkle, Squirrel and electron-updater."""

from __future__ import annotations


def appcast(*versions: str, beta: str = "") -> bytes:
    """The build of a version is 100 plus its number; `2` is 102."""

    def item(version: str, channel: str = "") -> str:
        return (
            f"<item><title>{version}</title>{channel}<sparkle:version>10{version}</sparkle:version>"
            f"<sparkle:shortVersionString>{version}</sparkle:shortVersionString>"
            f'<enclosure url="https://updates.example/Shop-{version}.dmg" length="1" type="application/octet-stream" '
            f'sparkle:edSignature="c2lnbmVk{version}"/></item>'
        )

    items = "".join(item(version) for version in versions)
    items += item(beta, "<sparkle:channel>beta</sparkle:channel>") if beta else ""
    head = '<?xml version="1.0" encoding="utf-8"?>\n<rss version="2.0" '
    head += 'xmlns:sparkle="http://www.andymatuschak.org/xml-namespaces/sparkle">'
    return f"{head}<channel><title>Shop</title>{items}</channel></rss>\n\n".encode()


def releases(*versions: str) -> bytes:
    names = [f"Shop-App-{version}-{kind}.nupkg" for version in versions for kind in ("delta", "full")]
    return "\r\n".join(f"{'A1' * 20} {name} 1234" for name in names).encode("utf-8-sig")


def latest(version: str) -> bytes:
    return f"version: '{version}'\nfiles:\n  - url: Shop-{version}.exe\n    sha512: abc\npath: Shop.exe\n".encode()
