"""/: the page. Its files are few and small, so they stay in memory."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response

from app.errors import NotFound
from app.http.security import Access, SecuredRoute, requires
from app.settings import Settings

router = APIRouter(route_class=SecuredRoute, include_in_schema=False)
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
    content: bytes
    media_type: str

    @property
    def etag(self) -> str:
        return f'"{hashlib.sha256(self.content).hexdigest()[:32]}"'


def _read() -> tuple[dict[str, Asset], str]:
    """The files but the page, and their version."""
    files = {
        path.name: path
        for path in sorted((Path(__file__).parents[1] / "web").iterdir())
        if path.suffix in _TYPES
    }
    assets = {
        name: Asset(_JSDOC.sub(b"", path.read_bytes()), _TYPES[path.suffix])
        for name, path in files.items()
    }
    return assets, hashlib.sha256(b"".join(asset.content for asset in assets.values())).hexdigest()[
        :12
    ]


def _page(page: Asset) -> Asset:
    modules = "\n".join(
        f'<link rel="modulepreload" href="/web/{name}">' for name in _ASSETS if name.endswith(".js")
    )
    content = page.content.replace(
        b"<!-- modules -->", modules.encode()
    )  # all at once, not one after another
    return Asset(content.replace(b'"/web/', f'"/web/{_VERSION}/'.encode()), page.media_type)


_ASSETS, _VERSION = _read()
_PAGE = _page(_ASSETS.pop("index.html"))


@router.get("/")
@requires(Access.PUBLIC)
async def page(request: Request, if_none_match: Annotated[str | None, Header()] = None) -> Response:
    headers = {
        "Cache-Control": "no-cache",
        "Content-Security-Policy": policy(request.app.state.settings),
    }
    return _answer(_PAGE, if_none_match, headers)


@router.get("/web/{version}/{name}")
@requires(Access.PUBLIC)
async def asset(
    version: str, name: str, if_none_match: Annotated[str | None, Header()] = None
) -> Response:
    """A file of the page; for good where the version is this one, so that only the first visit fetches it."""
    if name not in _ASSETS:
        raise NotFound("not-found", "There is no such page.")
    kept = (
        "public, max-age=31536000, immutable" if version == _VERSION else "no-cache"
    )  # else in the middle of an upgrade
    return _answer(_ASSETS[name], if_none_match, {"Cache-Control": kept})


def policy(settings: Settings) -> str:
    """Only our own files, no script or style in the page, nobody's frame; originals may come from where clients reach the S3."""
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


def _answer(asset: Asset, if_none_match: str | None, headers: dict[str, str]) -> Response:
    headers |= {
        "ETag": asset.etag,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
    }
    if if_none_match is not None and asset.etag in if_none_match:
        return Response(status_code=304, headers=headers)
    return Response(asset.content, headers=headers, media_type=asset.media_type)
