"""API keys and scopes, and the Host and Origin headers."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.routing import APIRoute, iter_route_contexts

from app.http.security import Access, SecuredRoute
from app.main import create_app
from app.settings import Settings
from models.embedder import Embedder
from tests.support.images import CAT
from tests.support.requests import HALF_A_REQUEST
from tests.support.service import Service, serving

KEYS = {"read": "read-key-1", "write": "write-key-1", "admin": "admin-key-1"}


@pytest.fixture
def locked(tmp_path: Path, embedder: Embedder) -> Iterator[Service]:
    keys = ",".join(f"{scope}:{key}" for scope, key in KEYS.items())
    with serving(
        Settings(data_dir=tmp_path / "data", api_keys=keys, _env_file=None), embedder
    ) as service:
        yield service


def with_key(scope: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS[scope]}"}


@pytest.mark.parametrize(
    ("method", "path", "needed"),
    [
        ("GET", "/masters", "read"),
        ("POST", "/search", "read"),
        ("POST", "/compare", "read"),
        ("GET", "/collections", "read"),
        ("POST", "/masters", "write"),
        ("DELETE", "/masters?collection=default&confirm=default", "write"),
        ("PATCH", "/masters", "write"),
        ("POST", "/collections", "write"),
        ("DELETE", "/collections/default?confirm=default", "write"),
        ("GET", "/metrics", "admin"),
    ],
)
def test_every_endpoint_requires_its_scope(
    locked: Service, method: str, path: str, needed: str
) -> None:
    order = ["read", "write", "admin"]
    assert locked.client.request(method, path).status_code == 401
    assert (
        locked.client.request(
            method, path, headers={"Authorization": "Bearer wrong-key"}
        ).status_code
        == 401
    )
    assert (
        locked.client.request(
            method, path, headers={"Authorization": f"Basic {KEYS['admin']}"}
        ).status_code
        == 401
    )
    for scope in order:
        status = locked.client.request(method, path, headers=with_key(scope)).status_code
        assert (status == 403) == (order.index(scope) < order.index(needed))
        assert status != 401


def test_health_and_docs_are_open(locked: Service) -> None:
    for path in ("/livez", "/readyz", "/docs", "/openapi.json"):
        assert locked.client.get(path).status_code == 200


def test_a_refusal_is_problem_json_and_names_the_scheme(locked: Service) -> None:
    response = locked.client.get("/masters")
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.json()["code"] == "unauthorized"


def test_the_key_is_checked_before_the_body_is_read(locked: Service) -> None:
    address = (locked.client.base_url.host, locked.client.base_url.port)
    with socket.create_connection(address, timeout=5) as connection:
        connection.sendall(HALF_A_REQUEST)
        assert connection.recv(4096).startswith(b"HTTP/1.1 401 ")  # no byte of the body was sent


def test_every_route_states_its_access(settings: Settings) -> None:
    routes = [
        context.original_route for context in iter_route_contexts(create_app(settings).routes)
    ]
    api = [route for route in routes if isinstance(route, APIRoute)]
    assert len(api) > 15
    assert all(
        isinstance(route, SecuredRoute) and isinstance(route.access, Access) for route in api
    )


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST:1"])
def test_loopback_hosts_are_answered_without_keys(service: Service, host: str) -> None:
    assert service.client.get("/masters", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "localhost.evil"])
def test_other_hosts_are_refused_without_keys(service: Service, host: str) -> None:
    response = service.client.get("/masters", headers={"Host": host})
    assert (response.status_code, response.json()["code"]) == (400, "wrong-host")


def test_any_host_is_answered_with_keys_unless_hosts_are_set(
    locked: Service, tmp_path: Path, embedder: Embedder
) -> None:
    assert (
        locked.client.get(
            "/masters", headers={"Host": "shop.example"} | with_key("read")
        ).status_code
        == 200
    )
    settings = Settings(
        data_dir=tmp_path / "d",
        api_keys="read:read-key-1",
        allowed_hosts="shop.example",
        _env_file=None,
    )
    with serving(settings, embedder) as service:
        assert service.client.get("/livez", headers={"Host": "shop.example:80"}).status_code == 200
        assert service.client.get("/livez", headers={"Host": "other.example"}).status_code == 400


def test_a_foreign_origin_may_read_but_not_change(service: Service) -> None:
    foreign = {"Origin": "http://evil.example"}
    assert service.client.get("/masters", headers=foreign).status_code == 200
    for response in (
        service.client.post("/masters", files={"file": ("a.jpg", CAT)}, headers=foreign),
        service.client.delete("/collections/default?confirm=default", headers=foreign),
        service.client.post("/collections", json={"name": "x"}, headers={"Origin": "null"}),
    ):
        assert (response.status_code, response.json()["code"]) == (403, "foreign-origin")
    own = f"http://{service.client.base_url.host}:{service.client.base_url.port}"
    assert (
        service.client.post("/collections", json={"name": "x"}, headers={"Origin": own}).status_code
        == 201
    )


@pytest.mark.parametrize("origin", ["http://[", "http://[::1", "http://a]b", "//"])
def test_a_malformed_origin_is_foreign(service: Service, origin: str) -> None:
    response = service.client.delete("/collections/none?confirm=none", headers={"Origin": origin})
    assert (response.status_code, response.json()["code"]) == (403, "foreign-origin")


def test_a_host_with_text_after_its_bracket_is_refused(service: Service) -> None:
    assert service.client.get("/masters", headers={"Host": "[::1]x"}).status_code == 400


@pytest.mark.parametrize("path", ["/masters/", "/docs/", "/collections//", "/livez/"])
def test_no_redirect_is_made_of_the_host_header(locked: Service, path: str) -> None:
    headers = {"Host": "evil.example"} | with_key("read")
    response = locked.client.get(path, headers=headers)
    assert (response.status_code, response.json()["code"]) == (404, "not-found")
    assert "location" not in response.headers
