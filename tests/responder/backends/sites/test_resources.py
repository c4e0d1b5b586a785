"""Pointers, live files and caches keep the laws of resources, against realistic servers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from responder.backends.connections import Connections
from responder.backends.sites.cdn_client import Cloudflare, Fastly
from responder.backends.sites.cloudflare import CloudflarePurge
from responder.backends.sites.cloudfront import CloudfrontInvalidation, CloudfrontKey, OriginPath
from responder.backends.sites.fastly import FastlyPurge, FastlyVersion
from responder.backends.sites.live_prefix import LivePrefix
from responder.backends.sites.pointer_object import PointerObject
from responder.backends.sites.releases import Releases
from responder.backends.sites.version_text import text_for, version_in
from responder.errors import Drift, StepFailed, Unavailable
from responder.transport.aws import Aws, AwsRefused
from tests.cdns import Amazon, FakeCloudflare, FakeFastly
from tests.cdns.amazon import ARN, RECORDED, Invalidation
from tests.cdns.others import ZONE
from tests.cdns.site import manifest, site
from tests.cdns.straight import StraightAws
from tests.cdns.wire import Request
from tests.contents.bucket import contents, furnish
from tests.contents.stand_ins import attributes
from tests.responder.backends.resource_law import keeps_the_laws
from tests.responder.backends.sites.conftest import fill

KEY = CloudfrontKey(kvs=ARN, key="active")
PATH = OriginPath(origin_path="/releases/{version}", distribution="E1")
OBJECT = PointerObject(object="s3://shop/current.json")
LIVE = LivePrefix(live="s3://shop/live", releases=Releases(s3="s3://shop/releases"))


VERSION = {
    "cloudfront_key": ["/keys/active"],
    "origin_path": ["/distributions/E1/config"],
    "pointer_object": ["*current.json/body"],
    "live_prefix": ["*live[~/]*index.html/body", "*live[~/]*sw.js/body", "*live[~/]*version.json/body"],
}
"""The paths that belong to the version. Of a distribution, `test_an_origin_path_converges…` looks at the rest."""
MAY_DIFFER = {
    "cloudfront_key": {"/keys_etag": "counts the writes"},
    "origin_path": {
        f"/distributions/E1/{name}": "every write sets it" for name in ("etag", "changed_at", "path_before")
    },
    "pointer_object": {"/current.json/LastModified": "it is written anew"},
    "live_prefix": {
        "*live[~/]*assets*": "assets of each version are added and stay: open pages still load them",
        "/live~1*/LastModified": "the page is written anew",
        "/live~1*/Metadata": "pages have the metadata of the build",
    },
}


def law(resource: Any, state: Callable[[], Any]) -> dict[str, Any]:
    name = resource.resource
    return {"state": state, "version": VERSION[name], "may_differ": MAY_DIFFER[name]}


@pytest.mark.parametrize("resource", [KEY, PATH, OBJECT, LIVE], ids=lambda resource: resource.resource)
async def test_the_laws(resource: Any, aws: Aws, amazon: Amazon) -> None:
    await keeps_the_laws(resource, aws, expected="2", to="1", stranger="3", **law(resource, amazon.contents))


@pytest.mark.parametrize("resource", ["object", "live"])
async def test_the_laws_on_moto(resource: str, moto_aws: Aws, request: pytest.FixtureRequest) -> None:
    bucket = f"laws-of-{resource}"
    await moto_aws.write("s3", "create_bucket", Bucket=bucket)
    await fill(moto_aws, bucket)
    here = {"live": f"s3://{bucket}/live", "releases": Releases(s3=f"s3://{bucket}/releases")}
    made = LIVE.model_copy(update=here) if resource == "live" else PointerObject(object=f"s3://{bucket}/current.json")
    for listed in (await contents(moto_aws, bucket)).keys() - {"unfinished"}:
        if listed.startswith(("live/", "current")):
            await furnish(moto_aws, bucket, listed)
    more = law(made, lambda: contents(moto_aws, bucket))
    await keeps_the_laws(made, moto_aws, expected="2", to="1", stranger="3", **more)
    key = "live/index.html" if resource == "live" else "current.json"
    head = await moto_aws.read("s3", "head_object", Bucket=bucket, Key=key)
    assert head["CacheControl"] == "no-cache"
    assert head["ContentType"] == ("text/html" if resource == "live" else "application/json")


CACHES = [
    (CloudfrontInvalidation(cloudfront="E1", mark="drill"), Aws),
    (CloudflarePurge(cloudflare=ZONE, mark="drill"), Cloudflare),
    (FastlyPurge(fastly="SVC1", mark="drill"), Fastly),
    (FastlyPurge(fastly="SVC1", keys=("a",), mark="drill"), Fastly),
]


@pytest.mark.parametrize(("resource", "kind"), CACHES, ids=str)
async def test_the_laws_of_a_purge(
    resource: Any,
    kind: Any,
    amazon: Amazon,
    aws: Aws,
    cloudflare: tuple[FakeCloudflare, Cloudflare],
    fastly: tuple[FakeFastly, Fastly],
) -> None:
    """It cannot be undone, and changes nothing but the cache."""
    servers: dict[Any, tuple[Any, Any]] = {Aws: (amazon, aws), Cloudflare: cloudflare, Fastly: fastly}
    server, client = servers[kind]
    more: dict[str, Any] = {"state": lambda: attributes(server, without=RECORDED), "one_way": True}
    version = ["/distributions/E1/invalidations" if kind is Aws else "/purges"]
    await keeps_the_laws(resource, client, expected=None, to=resource.reference, stranger=None, version=version, **more)


async def test_the_laws_of_fastly(fastly: tuple[FakeFastly, Fastly]) -> None:
    fake, client = fastly
    resource = FastlyVersion(fastly="SVC1")
    more: dict[str, Any] = {"state": lambda: attributes(fake), "version": ["/versions/*/active"]}
    await keeps_the_laws(resource, client, expected=3, to=2, stranger=1, **more)
    assert await resource.value_of(client, "1", "") == 2
    assert await resource.runs(client, 3, "2", "")
    assert not await resource.runs(client, 3, "1", "")
    with pytest.raises(StepFailed, match="no version of Fastly service SVC1 has the comment '9'"):
        await resource.value_of(client, "9", "")


# --- compare and swap
@pytest.mark.parametrize("resource", [KEY, PATH, OBJECT], ids=lambda resource: resource.resource)
async def test_a_concurrent_change_is_read_again(resource: Any, aws: Aws, amazon: Amazon) -> None:
    """A concurrent write between our read and our write is not overwritten: the retry detects it as drift."""
    known = amazon.answer
    writes: list[str] = []

    def answer(request: Any) -> Any:
        if request.method == "PUT" and not writes:
            writes.append(request.path)
            amazon.keys |= {"active": "3"}
            amazon.keys_etag += 1
            distribution = amazon.distributions["E1"]
            distribution.config, distribution.etag = (
                distribution.config.replace("/releases/2", "/releases/3"),
                distribution.etag + 1,
            )
            amazon.s3.put("shop/current.json", '{"version": "3"}')
        return known(request)

    amazon.answer = answer  # type: ignore[method-assign]
    straight = StraightAws(amazon)
    with pytest.raises(Unavailable, match="was changed at the same time"):
        await resource.write(straight, "1", expected="2")
    with pytest.raises(Drift):
        await resource.write(straight, "1", expected="2")
    assert await resource.read(straight) == "3"


async def test_a_missing_key_is_none_and_a_missing_store_fails(aws: Aws) -> None:
    assert await KEY.model_copy(update={"key": "other"}).read(aws) is None
    with pytest.raises(StepFailed, match="no such store"):
        await KEY.model_copy(update={"kvs": ARN[:-1] + "9"}).write(aws, "1", expected=None)


async def test_an_origin_path_converges_once_all_edges_use_it(aws: Aws, amazon: Amazon) -> None:
    amazon.takes = 0.3
    await PATH.write(aws, "1", expected="2")
    assert await PATH.read(aws) == "1"
    assert not await PATH.converged(aws, "1")
    await asyncio.sleep(0.35)
    assert await PATH.converged(aws, "1")
    assert (
        "<PriceClass>PriceClass_100</PriceClass>" in amazon.distributions["E1"].config
    )  # everything else is unchanged


async def test_an_unclear_or_missing_origin_fails(aws: Aws, amazon: Amazon) -> None:
    distribution = amazon.distributions["E1"]
    second = distribution.config[distribution.config.index("<Origin>") : distribution.config.index("</Items>")].replace(
        ">s3<", ">api<"
    )
    distribution.config = distribution.config.replace("</Items>", f"{second}</Items>", 1)
    with pytest.raises(StepFailed, match="several origins"):
        await PATH.read(aws)
    with pytest.raises(StepFailed, match="no origin web"):
        await PATH.model_copy(update={"origin": "web"}).read(aws)
    assert await PATH.model_copy(update={"origin": "s3"}).read(aws) == "2"
    with pytest.raises(StepFailed, match="NoSuchDistribution"):
        await PATH.model_copy(update={"distribution": "E9"}).read(aws)


# --- copying
async def test_pages_are_copied_last_and_nothing_is_deleted(aws: Aws, amazon: Amazon) -> None:
    before = set(amazon.s3.objects)
    await LIVE.write(aws, "1", expected="2")
    order = [path.removeprefix("shop/live/") for path in amazon.s3.copied]
    assert order[-2:] == ["index.html", "sw.js"]
    assert all(path.startswith("assets/") for path in order[:-2])
    assert "assets/logo.svg" not in order  # already equal
    copies = [request.headers for request in amazon.requests if "x-amz-copy-source" in request.headers]
    assert all("if-match" in headers or headers.get("if-none-match") == "*" for headers in copies)
    last = [request for request in amazon.requests if request.method in ("PUT", "DELETE")][-2:]
    assert [request.path.rpartition("/")[2] for request in last[:1]] == ["version.json"]
    assert before <= set(amazon.s3.objects)
    assert [path for path in amazon.s3.deletes if "live" in path] == []


async def test_long_listings_are_read_page_by_page(aws: Aws, amazon: Amazon) -> None:
    amazon.s3.page = 2
    await LIVE.write(aws, "1", expected="2")
    assert await LIVE.converged(aws, "1")


@pytest.mark.parametrize("encrypts", [False, True])
@pytest.mark.parametrize("dies_at", range(9))
async def test_an_interrupted_copy_has_not_converged_and_continues(
    dies_at: int, encrypts: bool, amazon: Amazon
) -> None:
    """After a crash at any write, it still reads as the version of its pages, and a retry completes the copy."""
    amazon.s3.encrypts = encrypts
    known, left = amazon.answer, [dies_at]
    straight = StraightAws(amazon)

    def answer(request: Any) -> Any:
        if request.method in ("PUT", "DELETE"):
            if not left[0]:
                raise Unavailable("gone")
            left[0] -= 1
        return known(request)

    amazon.answer = answer  # type: ignore[method-assign]
    try:
        await LIVE.write(straight, "1", expected="2")
        over = True
    except Unavailable:
        over = False
    amazon.answer = known  # type: ignore[method-assign]
    assert await LIVE.read(straight) in ("1", "2")
    assert await LIVE.converged(straight, "1") == over
    if dies_at > 0 and not over:
        assert not await LIVE.converged(straight, "2")  # even if its version document still names it
    await LIVE.write(straight, "1", expected="2")
    assert await LIVE.converged(straight, "1")
    assert amazon.s3.objects["shop/live/index.html"].body == site("1")["index.html"]
    assert not [path for path in amazon.s3.objects if ".copying" in path]


async def test_the_note_is_removed_last(aws: Aws, amazon: Amazon) -> None:
    """Confirms that the table above covers every write."""
    amazon.requests.clear()
    await LIVE.write(aws, "1", expected="2")
    writes = [request.method for request in amazon.requests if request.method in ("PUT", "DELETE")]
    assert len(writes) == 8
    assert writes[-1] == "DELETE"


async def test_a_concurrent_deployment_is_not_overwritten(aws: Aws, amazon: Amazon) -> None:
    known = amazon.answer
    straight = StraightAws(amazon)

    def answer(request: Any) -> Any:
        response = known(request)
        if "x-amz-copy-source" in request.headers:  # the first asset is copied
            for path, body in site("3").items():
                amazon.s3.put(f"shop/live/{path}", body)
        return response

    amazon.answer = answer  # type: ignore[method-assign]
    with pytest.raises(Drift):
        await LIVE.write(straight, "1", expected="2")
    assert amazon.s3.objects["shop/live/index.html"].body == site("3")["index.html"]


ABOUT = {**site("1"), "about.html": b"<html>1</html>"}
"""A page that the live version does not have."""


@pytest.fixture
def about(amazon: Amazon) -> Amazon:
    amazon.s3.put("shop/releases/1/about.html", ABOUT["about.html"])
    amazon.s3.put("shop/releases/1/manifest.json", manifest(ABOUT))
    return amazon


def _while(amazon: Amazon, path: str, act: Callable[[], Any]) -> StraightAws:
    """Acts once, right before this file is copied."""
    known, acts = amazon.answer, [act]

    def answer(request: Any) -> Any:
        if request.method == "PUT" and request.path.endswith(f"/live/{path}") and acts:
            acts.pop()()
        return known(request)

    amazon.answer = answer  # type: ignore[method-assign]
    return StraightAws(amazon)


ASSET = next(path for path in site("1") if path.startswith("assets/app."))


_ORDER = [ASSET, "index.html", "about.html", "sw.js"]


@pytest.mark.parametrize("meanwhile", _ORDER)
@pytest.mark.parametrize("path", _ORDER)
async def test_a_concurrently_written_file_is_not_overwritten(path: str, meanwhile: str, about: Amazon) -> None:
    """For every changed file, during every copied file."""
    straight = _while(about, meanwhile, lambda: about.s3.put(f"shop/live/{path}", "a hotfix"))
    if _ORDER.index(path) < _ORDER.index(meanwhile):  # it was copied before, and changed once it was live
        await LIVE.write(straight, "1", expected="2")
    else:
        with pytest.raises(Drift, match=rf"s3://shop/live/{path} was changed by another process"):
            await LIVE.write(straight, "1", expected="2")
        assert await LIVE.read(straight) == "2"
        assert not await LIVE.converged(straight, "2")
    assert about.s3.objects[f"shop/live/{path}"].body == b"a hotfix"


@pytest.mark.parametrize("encrypts", [False, True])
@pytest.mark.parametrize("path", [ASSET, "index.html", "about.html"])
async def test_our_own_late_copy_is_not_drift(encrypts: bool, path: str, about: Amazon) -> None:
    """The answer is lost after the copy and boto3 retries, or a request of a dead process takes effect late."""
    about.s3.encrypts = encrypts
    await LIVE.write(
        _while(about, path, lambda: about.s3.answer(_copy_of(about, path))),
        "1",
        expected="2",
    )
    assert about.s3.objects[f"shop/live/{path}"].body == ABOUT[path]
    assert await LIVE.converged(StraightAws(about), "1")


def _copy_of(amazon: Amazon, path: str) -> Any:
    return Request.of("PUT", f"/shop/live/{path}", {"x-amz-copy-source": f"shop/releases/1/{path}"}, b"")


@pytest.mark.parametrize("path", ["about.html", "sw.js"])
async def test_a_file_written_between_two_attempts_is_not_overwritten(path: str, about: Amazon) -> None:
    def die() -> None:
        raise Unavailable("gone")

    straight = _while(about, "about.html", die)
    with pytest.raises(Unavailable):
        await LIVE.write(straight, "1", expected="2")
    about.s3.put(f"shop/live/{path}", "a hotfix")
    with pytest.raises(Drift):
        await LIVE.write(straight, "1", expected="2")
    assert about.s3.objects[f"shop/live/{path}"].body == b"a hotfix"
    assert about.s3.objects["shop/live/index.html"].body == ABOUT["index.html"], "our own went through before"
    await LIVE.write(straight, "1", expected="2")  # a human has checked it, and requested it again
    assert about.s3.objects[f"shop/live/{path}"].body == ABOUT[path]
    assert await LIVE.converged(straight, "1")


@pytest.mark.parametrize("note", [b"{}", b"x", b"[]", b'{"live": "s3://shop/live", "was": "2", "to": "1"}'])
async def test_a_note_of_an_older_responder_is_an_interrupted_copy(note: bytes, aws: Aws, amazon: Amazon) -> None:
    amazon.s3.put("/".join(LIVE._note), note)
    assert not await LIVE.converged(aws, "2")
    await LIVE.write(aws, "1", expected="2")
    assert await LIVE.converged(aws, "1")


async def test_a_concurrently_deleted_page_is_not_restored(about: Amazon) -> None:
    with pytest.raises(Drift, match=r"index\.html was changed"):
        await LIVE.write(
            _while(about, "index.html", lambda: about.s3.objects.pop("shop/live/index.html")), "1", expected="2"
        )
    assert "shop/live/index.html" not in about.s3.objects


async def test_a_failed_concurrent_write_is_retried(about: Amazon) -> None:
    def conflict() -> None:
        raise AwsRefused("409", "ConditionalRequestConflict")

    straight = _while(about, "about.html", conflict)
    with pytest.raises(Unavailable, match="at the same time"):
        await LIVE.write(straight, "1", expected="2")
    await LIVE.write(straight, "1", expected="2")
    assert await LIVE.converged(straight, "1")


async def test_a_concurrent_deletion_is_drift(aws: Aws, amazon: Amazon) -> None:
    known = amazon.answer
    straight = StraightAws(amazon)

    def answer(request: Any) -> Any:
        response = known(request)
        if "x-amz-copy-source" in request.headers:
            amazon.s3.objects.pop("shop/live/assets/logo.svg", None)
        return response

    amazon.answer = answer  # type: ignore[method-assign]
    with pytest.raises(StepFailed, match=r"lacks assets/logo\.svg, which was copied"):
        await LIVE.write(straight, "1", expected="2")
    assert amazon.s3.objects["shop/live/index.html"].body == site("2")["index.html"]


# --- whole releases
def _broken(amazon: Amazon, how: str) -> None:
    there = amazon.s3.objects
    page = "shop/releases/1/index.html"
    logo = "shop/releases/1/assets/logo.svg"
    match how:
        case "no manifest":
            del there["shop/releases/1/manifest.json"]
        case "no list":
            amazon.s3.put("shop/releases/1/manifest.json", '{"files": {"index.html": {"size": -1}}}')
        case "missing":
            del there[logo]
        case "size":
            amazon.s3.put(logo, "<svg/>")
        case "page":
            amazon.s3.put(page, there[page].body.replace(b"shop", b"shup"))
        case "asset":
            amazon.s3.put(logo, there[logo].body.replace(b"svg", b"svh"))
        case "version":
            files = {**site("1"), "version.json": b'{"version": "0"}'}
            amazon.s3.put("shop/releases/1/version.json", files["version.json"])
            amazon.s3.put("shop/releases/1/manifest.json", manifest(files))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no manifest", "s3://shop/releases/1/manifest.json does not exist"),
        ("no list", "is not a manifest: files.index.html.size"),
        ("missing", "is incomplete: assets/logo.svg is missing"),
        ("size", "size of assets/logo.svg is not as in"),
        ("page", "SHA-256 of index.html is not as in"),
        ("asset", "SHA-256 of assets/logo.svg is not as in"),
        ("version", "has version '0', expected '1'"),
    ],
)
async def test_an_incomplete_release_is_refused(how: str, message: str, aws: Aws, amazon: Amazon) -> None:
    _broken(amazon, how)
    everything = LIVE.model_copy(update={"releases": LIVE.releases.model_copy(update={"checksums": "all"})})
    before = dict(amazon.s3.objects)
    for act in (everything.complete(aws, "1"), everything.write(aws, "1", expected="2")):
        with pytest.raises(StepFailed) as failure:
            await act
        assert message in str(failure.value)
    assert amazon.s3.objects == before


# --- how files are stored
@pytest.mark.parametrize("checksums", ["entry", "all"])
async def test_equal_pages_get_the_metadata_of_the_build(checksums: Any, aws: Aws, amazon: Amazon) -> None:
    """The bad deployment let browsers cache a page for a year: its bytes alone do not show that."""
    resource = LIVE.model_copy(update={"releases": LIVE.releases.model_copy(update={"checksums": checksums})})
    for path in ("sw.js", "assets/logo.svg"):
        amazon.s3.put(f"shop/live/{path}", site("1")[path], content_type="text/plain", cache_control="max-age=31536000")
    await resource.write(aws, "1", expected="2")
    for path in ("sw.js", "assets/logo.svg") if checksums == "all" else ("sw.js",):
        assert amazon.s3.objects[f"shop/live/{path}"].headers == amazon.s3.objects[f"shop/releases/1/{path}"].headers
    amazon.s3.copied.clear()
    await resource.write(aws, "1", expected="2")
    assert amazon.s3.copied == []


@pytest.mark.parametrize("public", [True, False])
async def test_public_objects_stay_public(public: bool, moto_aws: Aws) -> None:
    """A copy is private by default: a site that is public by its ACLs would become unavailable."""
    bucket = f"public-{public}".lower()
    await moto_aws.write("s3", "create_bucket", Bucket=bucket)
    await fill(moto_aws, bucket)
    listed = await moto_aws.read("s3", "list_objects_v2", Bucket=bucket)
    live = [item["Key"] for item in listed["Contents"] if item["Key"].startswith(("live/", "current"))]
    for key in live if public else ():
        await moto_aws.write("s3", "put_object_acl", Bucket=bucket, Key=key, ACL="public-read")
    update = {"live": f"s3://{bucket}/live", "releases": Releases(s3=f"s3://{bucket}/releases")}
    await LIVE.model_copy(update=update).write(moto_aws, "1", expected="2")
    await PointerObject(object=f"s3://{bucket}/current.json").write(moto_aws, "1", expected="2")
    for key in [*live, *(f"live/{path}" for path in site("1"))]:
        grants = (await moto_aws.read("s3", "get_object_acl", Bucket=bucket, Key=key))["Grants"]
        assert any(grant["Grantee"].get("URI", "").endswith("/AllUsers") for grant in grants) is public, key


async def test_an_impossible_revert_is_noted(aws: Aws, amazon: Amazon) -> None:
    assert await LIVE.preflight(aws, "1") == ()
    del amazon.s3.objects["shop/releases/2/index.html"]
    (note,) = await LIVE.preflight(aws, "1")
    assert note.startswith("reverting to 2 is not possible: s3://shop/releases/2 is incomplete: index.html is missing")


async def test_a_live_prefix_without_a_version_is_refused(aws: Aws, amazon: Amazon) -> None:
    amazon.s3.put("shop/live/version.json", "2")
    assert await LIVE.read(aws) == "other: 2"
    del amazon.s3.objects["shop/live/version.json"]
    assert await LIVE.read(aws) is None


@pytest.mark.parametrize("version", ["..", "a/b", "", "."])
async def test_a_version_cannot_leave_the_releases_directory(version: str, aws: Aws) -> None:
    for resource in (LIVE, KEY, PATH, OBJECT):
        with pytest.raises(StepFailed):
            await resource.write(aws, version, expected="2")
        assert await resource.read(aws) == "2"


@pytest.mark.parametrize(
    ("pattern", "text", "version"),
    [
        ("{version}", "2.1", "2.1"),
        ("/releases/{version}", "/releases/2.1", "2.1"),
        ("/releases/{version}", "2.1", "other: 2.1"),
        ("/releases/{version}", "/releases/2.1/old", "other: /releases/2.1/old"),
        ('{"v": "{version}"}', '{"v": "2.1"}', "2.1"),
        ('{"v": "{version}"}', '{"v": ""}', 'other: {"v": ""}'),
    ],
)
def test_a_version_is_read_from_a_text(pattern: str, text: str, version: str) -> None:
    assert version_in(pattern, text) == version
    if not version.startswith("other"):
        assert text_for(pattern, version) == text


# --- caches
CACHE = CloudfrontInvalidation(cloudfront="E1", mark="drill", paths=("/b", "/*"))


async def test_repeated_invalidations_are_created_once(aws: Aws, amazon: Amazon) -> None:
    amazon.takes = 0.3
    reference = CACHE.reference
    assert not await CACHE.converged(aws, reference)
    for _ in range(2):
        await CACHE.write(aws, reference, expected=None)
    assert not await CACHE.converged(aws, reference)
    assert await CACHE.read(aws) == reference
    await asyncio.sleep(0.35)
    assert await CACHE.converged(aws, reference)
    assert [(i.reference, i.paths) for i in amazon.distributions["E1"].invalidations] == [(reference, ("/*", "/b"))]


async def test_other_paths_and_reverts_have_their_own_invalidation(aws: Aws) -> None:
    others = [{"paths": ("/*",)}, {"on_way_back": True}, {"mark": "another"}]
    references = {CACHE.reference, *(CACHE.model_copy(update=other).reference for other in others)}
    assert len(references) == 4
    assert CACHE.model_copy(update={"paths": ("/*", "/b")}).reference == CACHE.reference


async def test_old_invalidations_are_not_read(aws: Aws, amazon: Amazon) -> None:
    """A distribution has hundreds, and each check would need one request per invalidation."""
    long_ago = datetime.now(UTC) - timedelta(days=2)
    made = [Invalidation(f"I{n}", f"ci-{n}", ("/*",), -1e9, long_ago) for n in range(40)]
    amazon.distributions["E1"].invalidations += made
    assert await CACHE.read(aws) is None
    assert len(amazon.requests) == 1
    await CACHE.write(aws, CACHE.reference, expected=None)
    assert await CACHE.read(aws) == CACHE.reference and await CACHE.converged(aws, CACHE.reference)


async def test_the_invalidation_limit_is_retried(aws: Aws, amazon: Amazon) -> None:
    amazon.busy = 15
    with pytest.raises(Unavailable, match="at its limit of running invalidations"):
        await CACHE.write(aws, CACHE.reference, expected=None)
    amazon.busy = 14
    await CACHE.write(aws, CACHE.reference, expected=None)
    assert await CACHE.converged(aws, CACHE.reference)


async def test_a_missing_distribution_is_reported_before_the_first_change(aws: Aws) -> None:
    with pytest.raises(AwsRefused) as refused:
        await CACHE.model_copy(update={"cloudfront": "E9"}).preflight(aws, "x")
    assert refused.value.code == "NoSuchDistribution"


async def test_any_case_of_completed_is_accepted(moto_aws: Aws) -> None:
    origin = {"Id": "s3", "DomainName": "a.s3.amazonaws.com", "S3OriginConfig": {"OriginAccessIdentity": ""}}
    behaviour: dict[str, Any] = {"TargetOriginId": "s3", "ViewerProtocolPolicy": "allow-all", "MinTTL": 0}
    behaviour["ForwardedValues"] = {"QueryString": False, "Cookies": {"Forward": "none"}}
    config = {"CallerReference": "c", "Comment": "", "Enabled": True, "DefaultCacheBehavior": behaviour}
    config["Origins"] = {"Quantity": 1, "Items": [origin]}
    made = await moto_aws.write("cloudfront", "create_distribution", DistributionConfig=config)
    there = CACHE.model_copy(update={"cloudfront": made["Distribution"]["Id"]})
    await there.write(moto_aws, there.reference, expected=None)
    assert await there.converged(moto_aws, there.reference)


PURGES = [
    ({}, {"purge_everything": True}),
    ({"prefixes": ("b.example/x", "a.example")}, {"prefixes": ["a.example", "b.example/x"]}),
    ({"tags": ("app",)}, {"tags": ["app"]}),
]


@pytest.mark.parametrize(("purge", "body"), PURGES)
async def test_a_cloudflare_cache_is_purged(
    purge: Any, body: Any, cloudflare: tuple[FakeCloudflare, Cloudflare]
) -> None:
    fake, client = cloudflare
    resource = CloudflarePurge(cloudflare=ZONE, mark="drill", **purge)
    assert not await resource.converged(client, resource.reference)
    fake.limited = 1
    with pytest.raises(Unavailable, match=r"429: Rate limited.*\(10429\)"):
        await resource.write(client, resource.reference, expected=None)
    await resource.write(client, resource.reference, expected=None)
    assert await resource.converged(client, resource.reference)
    assert await resource.read(client) == resource.reference
    assert fake.purges == [body]


async def test_success_false_of_cloudflare_is_an_error(
    cloudflare: tuple[FakeCloudflare, Cloudflare],
) -> None:
    fake, client = cloudflare
    fake.fails = True
    resource = CloudflarePurge(cloudflare=ZONE)
    with pytest.raises(StepFailed, match=r"Unable to purge \(1134\)"):
        await resource.write(client, resource.reference, expected=None)
    assert not await resource.converged(client, resource.reference)


async def test_errors_of_cloudflare_are_reported(cloudflare: tuple[FakeCloudflare, Cloudflare]) -> None:
    _, client = cloudflare
    bad = CloudflarePurge(cloudflare=ZONE).model_copy(update={"prefixes": ("https://a.example",)})
    with pytest.raises(StepFailed, match="Invalid prefix"):
        await bad.write(client, bad.reference, expected=None)
    client._token = "wrong"
    with pytest.raises(StepFailed, match=r"\(403\): Authentication error \(10000\)") as failure:
        await bad.write(client, bad.reference, expected=None)
    assert "wrong" not in str(failure.value)


async def test_a_fastly_cache_is_purged(fastly: tuple[FakeFastly, Fastly]) -> None:
    fake, client = fastly
    for resource in (FastlyPurge(fastly="SVC1", keys=("b", "a")), FastlyPurge(fastly="SVC1")):
        fake.limited = 1
        with pytest.raises(Unavailable, match="429"):
            await resource.write(client, resource.reference, expected=None)
        await resource.write(client, resource.reference, expected=None)
        assert await resource.converged(client, resource.reference)
    assert fake.purges == [("keys", True, ["a", "b"]), ("all", False, [])]
    with pytest.raises(StepFailed, match="Record not found Couldn't find Version 9"):
        await FastlyVersion(fastly="SVC1").write(client, 9, expected=3)


@pytest.mark.parametrize("kind", [Cloudflare, Fastly])
async def test_a_missing_token_is_reported(kind: Any) -> None:
    with pytest.raises(StepFailed, match=f"{kind.name} needs a token; configure {kind.setting}"):
        await Connections().to(kind)


def test_purge_options_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="set only one of them"):
        CloudflarePurge.model_validate(json.loads(f'{{"cloudflare": "{ZONE}", "tags": ["a"], "files": ["b"]}}'))
