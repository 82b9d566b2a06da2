"""The requests that most tests send to a service over HTTP."""

from __future__ import annotations

from typing import Any

import httpx

# A request that announces more bytes than it has, which no HTTP client would send.
HALF_A_REQUEST = (
    b"POST /masters HTTP/1.1\r\n"
    b"Host: 127.0.0.1\r\n"
    b"Content-Type: multipart/form-data; boundary=x\r\n"
    b"Content-Length: 1000\r\n"
    b"\r\n"
)


def open_client(url: str, **options: Any) -> httpx.Client:
    """Return a client of a local service that skips loading certificates, which takes 70 ms."""
    return httpx.Client(base_url=url, verify=False, **options)  # noqa: S501 - not over TLS


def put(client: httpx.Client, content: bytes, **fields: str) -> httpx.Response:
    """Upload one image as photograph.jpg."""
    return client.post("/masters", files={"file": ("photograph.jpg", content)}, data=fields)


def result_of(response: httpx.Response) -> dict[str, Any]:
    """Return the result of an upload of one image."""
    result: dict[str, Any] = response.json()["results"][0]
    return result


def search(client: httpx.Client, content: bytes, **fields: str) -> list[dict[str, Any]]:
    """Search with a sample; return the hits."""
    hits: list[dict[str, Any]] = search_answer(client, content, **fields)["hits"]
    return hits


def search_answer(client: httpx.Client, content: bytes, **fields: str) -> dict[str, Any]:
    """Search with a sample; return the whole answer."""
    response = client.post("/search", files={"sample": ("sample.jpg", content)}, data=fields)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer
