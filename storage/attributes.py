"""Validates the attributes of masters: JSON that every store keeps and compares alike."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from storage.filters import MAX_SAFE_INTEGER, check_key, check_text
from storage.unicode_text import normalize_text

MAX_BYTES = 16 * 1024
MAX_DEPTH = 8
MAX_KEYS = 100


class InvalidAttributes(ValueError):
    """The attributes cannot be stored; the message says why."""


def clean_attributes(value: object) -> dict[str, Any]:
    """Return the attributes in the form that is stored.

    Members that are null are left out, and keys and strings are in the normal form NFC. Raises
    InvalidAttributes.
    """
    if not isinstance(value, dict):
        raise InvalidAttributes(
            'attributes must be a JSON object such as {"colour": "red", "price": 12.5}'
        )
    cleaned: dict[str, Any] = _clean(value, 0)
    if _count_keys(cleaned) > MAX_KEYS:
        raise InvalidAttributes(f"attributes have more than {MAX_KEYS} keys, including nested ones")
    if len(json.dumps(cleaned, ensure_ascii=False).encode()) > MAX_BYTES:
        raise InvalidAttributes(f"attributes are over {MAX_BYTES // 1024} KiB as JSON")
    return cleaned


def clean_patch(value: object) -> dict[str, Any]:
    """Return a JSON merge patch (RFC 7396) for attributes, normalised, with its nulls.

    Raises InvalidAttributes.
    """
    clean_attributes(value)
    patch: dict[str, Any] = _clean(value, 0, keep_nulls=True)
    if _count_keys(patch) > MAX_KEYS:
        raise InvalidAttributes(f"a change names at most {MAX_KEYS} keys, including nested ones")
    return patch


def merge_patch(attributes: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes after a JSON merge patch (RFC 7396, 2), which null removes from."""
    merged = {key: value for key, value in attributes.items() if key not in patch}
    for key, value in patch.items():
        if isinstance(value, dict):
            own = attributes.get(key)
            merged[key] = merge_patch(own if isinstance(own, dict) else {}, value)
        elif value is not None:
            merged[key] = value
    return merged


def remove_path(attributes: dict[str, Any], path: Sequence[str]) -> dict[str, Any]:
    """Return the attributes without the value at a path; all of them if it has none."""
    key, *rest = path
    if key not in attributes:
        return attributes
    if not rest:
        return {each: value for each, value in attributes.items() if each != key}
    own = attributes[key]
    return attributes | {key: remove_path(own, rest)} if isinstance(own, dict) else attributes


def _count_keys(value: object) -> int:
    return (
        len(value) + sum(_count_keys(item) for item in value.values())
        if isinstance(value, dict)
        else 0
    )


def _clean(value: object, depth: int, *, keep_nulls: bool = False) -> Any:
    if depth > MAX_DEPTH:
        raise InvalidAttributes(f"attributes are nested more than {MAX_DEPTH} deep")
    if isinstance(value, dict):
        keys = _clean_keys(value)
        items = zip(keys, value.values(), strict=True)
        return {
            key: _clean(item, depth + 1, keep_nulls=keep_nulls)
            for key, item in items
            if keep_nulls or item is not None
        }
    if isinstance(value, list):
        for item in value:
            if item is None or isinstance(item, dict | list):
                raise InvalidAttributes(
                    "a list in attributes may contain only strings, numbers, true and false"
                )
        return [_clean(item, depth + 1) for item in value]
    if isinstance(value, str):
        check_text(value, InvalidAttributes)
        return normalize_text(value)
    if isinstance(value, int) and abs(value) > MAX_SAFE_INTEGER:
        raise InvalidAttributes(
            f"the integer {str(value)[:20]}… is beyond 2^53, where JSON readers disagree."
            " Send it as a string."
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidAttributes("NaN and Infinity are not JSON numbers")
    return value


def _clean_keys(value: dict[str, Any]) -> list[str]:
    keys = [normalize_text(key) for key in value]
    seen: set[str] = set()
    for key in keys:
        check_key(key, InvalidAttributes)
        if key in seen:
            raise InvalidAttributes(
                f"the key '{key}' occurs twice, in two Unicode spellings that are stored as one."
                " Send it once."
            )
        seen.add(key)
    return keys
