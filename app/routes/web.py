"""/: the page. Its files are few and small, so they stay in memory."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response

from app.errors import NotFound
from app.security import Access, SecuredRoute, requires
from app.settings import Settings

router = APIRouter(route_class=SecuredRoute, include_in_schema=False)
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@dataclass(frozen=True)
class Asset:
    content: bytes
    media_type: str

    @property
    def etag(self) -> str:
        return f'"{hashlib.sha256(self.content).hexdigest()[:32]}"'


def _read() -> dict[str, Asset]:
    files = {path.name: path for path in sorted((Path(__file__).parents[1] / "web").iterdir()) if path.suffix in _TYPES}
    assets = {name: Asset(path.read_bytes(), _TYPES[path.suffix]) for name, path in files.items()}
    modules = "\n".join(f'<link rel="modulepreload" href="/web/{name}">' for name in assets if name.endswith(".js"))
    page = assets["index.html"].content.replace(b"<!-- modules -->", modules.encode())  # all at once, not one after another
    return assets | {"index.html": Asset(page, _TYPES[".html"])}


_ASSETS = _read()


@router.get("/")
@requires(Access.PUBLIC)
async def page(request: Request, if_none_match: Annotated[str | None, Header()] = None) -> Response:
    return _answer(_ASSETS["index.html"], if_none_match, {"Content-Security-Policy": policy(request.app.state.settings)})


@router.get("/web/{name}")
@requires(Access.PUBLIC)
async def asset(name: str, if_none_match: Annotated[str | None, Header()] = None) -> Response:
    if name not in _ASSETS or name == "index.html":
        raise NotFound("not-found", "There is no such page.")
    return _answer(_ASSETS[name], if_none_match, {})


def policy(settings: Settings) -> str:
    """Only our own files, no script or style in the page, nobody's frame; originals may come from where clients reach the S3."""
    rules = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": f"'self' blob: {settings.public_objects_url}",
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
        "Cache-Control": "no-cache",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
    }
    if if_none_match is not None and asset.etag in if_none_match:
        return Response(status_code=304, headers=headers)
    return Response(asset.content, headers=headers, media_type=asset.media_type)
