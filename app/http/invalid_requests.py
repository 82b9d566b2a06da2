"""Says what is wrong with a request that does not fit the declared types, and what is allowed."""

from __future__ import annotations

from typing import Any

from fastapi.exceptions import RequestValidationError

_MOST_PLACES = 20  # that are named of a request with more errors
_MOST_CHARACTERS = 60  # of each name in a place, which the client chose
# What follows the name of a field, by the types of errors of pydantic. Other messages are our own.
_ALLOWED = {
    "missing": "is required",
    "extra_forbidden": "is not a known member",
    "finite_number": "must be a finite number",
    "greater_than_equal": "must be at least {ge:g}",
    "greater_than": "must be more than {gt:g}",
    "less_than_equal": "must be at most {le:g}",
    "less_than": "must be less than {lt}",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "too_short": "must have at least {min_length} {items}",
    "too_long": "must have at most {max_length} {items}",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "string_unicode": "must be valid Unicode",
}
_KINDS = {  # the beginnings of further types, such as int_type and int_parsing
    "int": "must be a whole number",
    "float": "must be a number",
    "bool": "must be true or false",
    "string": "must be a string",
    "uuid": "must be an id (a UUID)",
    "list": "must be a list",
    "set": "must be a list",
    "tuple": "must be a list",
    "dict": "must be an object",
    "model": "must be an object",
}


def describe_errors(error: RequestValidationError) -> tuple[str, list[dict[str, str]]]:
    """Return the errors of a request in words, and each with its field and message."""
    items = error.errors()
    places, sentences = [], []
    for item in items[:_MOST_PLACES]:
        field, allowed = _name_field(item), _find_allowed(item)
        message = allowed or str(item["msg"])
        places.append({"field": field, "message": message})
        sentences.append(f"{field} {allowed}." if allowed else f"{field}: {message}")
    if len(items) > _MOST_PLACES:
        sentences.append(f"{len(items) - _MOST_PLACES} more errors are not shown.")
    return " ".join(sentences) or "The request is not valid.", places


def _name_field(item: dict[str, Any]) -> str:
    """Where in the request it is, without FastAPI's own word for header, query or body."""
    return ".".join(str(part)[:_MOST_CHARACTERS] for part in item["loc"][1:]) or str(item["loc"][0])


def _find_allowed(item: dict[str, Any]) -> str | None:
    """Return what is allowed, as the rest of a sentence; None if the message says it."""
    kind, values = str(item["type"]), item.get("ctx", {})
    if "UploadFile" in item["msg"]:
        return f"is text, not a file; with curl, write {item['loc'][1]}=@picture.jpg"
    if kind == "model_attributes_type" and isinstance(item.get("input"), bytes):
        return "must be JSON, sent with the header Content-Type: application/json"
    if kind in _ALLOWED:
        count = values.get("min_length", values.get("max_length"))
        return _ALLOWED[kind].format(**values, items="item" if count == 1 else "items")
    return _KINDS.get(kind.partition("_")[0])
