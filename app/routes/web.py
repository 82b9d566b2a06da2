"""/: the page. Its files are few and small, so the process keeps them in memory."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response

from app.errors import NotFound
from app.http.conditional import etag_matches
from app.http.security import Access, SecuredRoute, requires
from app.settings import Settings

router = APIRouter(route_class=SecuredRoute, include_in_schema=False)
_FILES = Path(__file__).parents[1] / "web"
_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
# JSDoc is for developers and for the type check; browsers do not need to download it.
_JSDOC = re.compile(rb"^[ \t]*/\*\*.*?\*/\n", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Asset:
    """One file of the page."""

    content: bytes
    media_type: str

    @property
    def etag(self) -> str:
        return f'"{hashlib.sha256(self.content).hexdigest()[:32]}"'


def _read_assets() -> dict[str, Asset]:
    paths = [path for path in sorted(_FILES.iterdir()) if path.suffix in _TYPES]
    return {
        path.name: Asset(_JSDOC.sub(b"", path.read_bytes()), _TYPES[path.suffix]) for path in paths
    }


def _version_of(assets: dict[str, Asset]) -> str:
    contents = b"".join(asset.content for asset in assets.values())
    return hashlib.sha256(contents).hexdigest()[:12]


def _link_assets(page: Asset) -> Asset:
    """Preload all modules at once instead of one after another, from URLs with the version."""
    modules = [name for name in _ASSETS if name.endswith(".js")]
    links = "\n".join(f'<link rel="modulepreload" href="/web/{name}">' for name in modules)
    content = page.content.replace(b"<!-- modules -->", links.encode())
    content = content.replace(b'"/web/', f'"/web/{_VERSION}/'.encode())
    return Asset(content, page.media_type)


_ASSETS = _read_assets()
_VERSION = _version_of(_ASSETS)
_PAGE = _link_assets(_ASSETS.pop("index.html"))


@router.get("/")
@requires(Access.PUBLIC)
async def get_page(
    request: Request, if_none_match: Annotated[str | None, Header()] = None
) -> Response:
    policy = content_security_policy(request.app.state.settings)
    headers = {"Cache-Control": "no-cache", "Content-Security-Policy": policy}
    return _respond(_PAGE, if_none_match, headers)


@router.get("/web/{version}/{name}")
@requires(Access.PUBLIC)
async def get_asset(
    version: str, name: str, if_none_match: Annotated[str | None, Header()] = None
) -> Response:
    """Return a file of the page.

    Under this process's version it never changes, so only the first visit fetches it. During an
    upgrade a client may ask for another version, and that answer must not be kept.
    """
    if name not in _ASSETS:
        raise NotFound("not-found", "The page has no such file. Reload the page.")
    kept = "public, max-age=31536000, immutable" if version == _VERSION else "no-cache"
    return _respond(_ASSETS[name], if_none_match, {"Cache-Control": kept})


def content_security_policy(settings: Settings) -> str:
    """Allow the page's own files only: no inline script or style, and no frame around the page.

    Originals may come from the address where clients reach the S3 store.
    """
    rules = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' blob:",
        "connect-src": f"'self' {settings.public_objects_url}",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
    }
    return "; ".join(f"{name} {value}".strip() for name, value in rules.items())


def _respond(asset: Asset, if_none_match: str | None, headers: dict[str, str]) -> Response:
    headers |= {
        "ETag": asset.etag,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
    }
    if etag_matches(if_none_match, asset.etag):
        return Response(status_code=304, headers=headers)
    return Response(asset.content, headers=headers, media_type=asset.media_type)
