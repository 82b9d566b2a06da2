"""/docs and /openapi.json: interactive documentation, with its assets, so that it works offline."""

from __future__ import annotations

from pathlib import Path

import fastapi_offline
from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, HTMLResponse

from app.errors import NotFound
from app.http.security import Access, SecuredRoute, requires

router = APIRouter(route_class=SecuredRoute, include_in_schema=False)
_ASSETS = Path(fastapi_offline.__file__).parent / "static"
_SERVED = ("swagger-ui-bundle.js", "swagger-ui.css")
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Lookalike API</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="icon" href="data:,">
</head>
<body>
<div id="ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>"""
_START = """SwaggerUIBundle({
  url: "/openapi.json", dom_id: "#ui", deepLinking: true, tryItOutEnabled: true,
});
"""
_POLICY = (
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline';"
    " frame-ancestors 'none'"
)


@router.get("/docs")
@requires(Access.PUBLIC)
async def docs() -> HTMLResponse:
    return HTMLResponse(_PAGE, headers={"Content-Security-Policy": _POLICY})


@router.get("/docs/start.js")
@requires(Access.PUBLIC)
async def start() -> Response:
    return Response(_START, media_type="text/javascript")


@router.get("/docs/{name}")
@requires(Access.PUBLIC)
def asset(name: str) -> FileResponse:
    if name not in _SERVED:
        raise NotFound("not-found", "The documentation has no such file. Reload the page.")
    return FileResponse(_ASSETS / name, headers={"Cache-Control": "max-age=86400"})


@router.get("/openapi.json")
@requires(Access.PUBLIC)
async def openapi(request: Request) -> Response:
    return Response(request.app.state.openapi_json, media_type="application/json")
