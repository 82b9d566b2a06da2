"""Completes the OpenAPI document: errors, API keys, and forms that can be filled in at /docs."""

from __future__ import annotations

import json
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import BaseModel

from app.http.api_route import JSON
from app.http.security import Access, SecuredRoute

_REFERENCE = "#/components/schemas/"
_PROBLEM = {"application/problem+json": {"schema": {"$ref": _REFERENCE + "Problem"}}}


def takes_json(schema: type[BaseModel]) -> dict[str, Any]:
    """Return the ``openapi_extra`` of an endpoint that takes a form or this body in JSON."""
    described = schema.model_json_schema(ref_template=_REFERENCE + "{model}")
    return {"requestBody": {"content": {JSON: {"schema": described}}}}


def install(app: FastAPI) -> None:
    """Complete the document that FastAPI generates from the routes, and generate it now.

    Otherwise FastAPI builds its routes during the first requests. Those would be slow, and while it
    does so FastAPI silences warnings for the whole process with `warnings.catch_warnings`.
    """
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            _complete(generate(), _public_paths(app))
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]
    # Anybody may request the document, so it is serialized only once.
    app.state.openapi_json = json.dumps(app.openapi(), ensure_ascii=False).encode()


def _public_paths(app: FastAPI) -> set[str]:
    routes = [context.original_route for context in iter_route_contexts(app.routes)]
    return {
        route.path
        for route in routes
        if isinstance(route, APIRoute) and _access(route) is Access.PUBLIC
    }


def _access(route: APIRoute) -> Access | None:
    return route.access if isinstance(route, SecuredRoute) else None


def _complete(document: dict[str, Any], public: set[str]) -> None:
    components = document.setdefault("components", {})
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{}, {"key": []}]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            operation["responses"].pop("422", None)
            body = operation.get("requestBody", {}).get("content", {}).get(JSON)
            if body is not None and "title" in body["schema"]:
                body["schema"] = _name_schema(body["schema"], components["schemas"])
            error = {"description": "An error in the form of RFC 9457.", "content": _PROBLEM}
            operation["responses"]["default"] = error
            if path in public:
                operation["security"] = []
    schemas = components["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    for name, schema in schemas.items():
        if name.startswith("Body_"):
            required = schema.get("required", [])
            for field, member in schema["properties"].items():
                _make_fillable(member, optional=field not in required)


def _name_schema(schema: dict[str, Any], named: dict[str, Any]) -> dict[str, Any]:
    """Move a schema, and those that it refers to, to the named ones; return a reference."""
    named |= schema.pop("$defs", {})
    named[schema["title"]] = schema
    return {"$ref": _REFERENCE + schema["title"]}


def _make_fillable(member: dict[str, Any], *, optional: bool) -> None:
    """Give a file a file picker, and let an optional field start empty, which means not sent.

    Swagger UI would fill it with an invented text otherwise.
    """
    for choice in member.pop("anyOf", []):
        if choice.get("type") != "null":
            member.update(choice)
    file = member.get("items", member)
    if file.pop("contentMediaType", None):
        file["format"] = "binary"
    elif optional and "default" not in member:
        member["example"] = ""
