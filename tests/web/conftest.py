"""A real browser on the real service. Console errors and foreign hosts fail every test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    expect,
    sync_playwright,
)

from tests.support.images import encoded, part_of
from tests.support.page import upload_album
from tests.support.service import Service
from tests.support.system_packages import require

expect.set_options(timeout=10_000)
EXPECTED = "Failed to load resource"  # how the browser reports an error response


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = require("chromium")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox"] if os.getuid() == 0 else []
        )
        yield running
        running.close()


class Watched:
    """Collects what no page may cause: console errors and requests to other hosts."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.hosts: set[str] = set()

    def page(self, page: Page) -> None:
        page.set_default_timeout(10_000)
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", self._request)

    def _console(self, message: ConsoleMessage) -> None:
        of_the_browser = message.location.get("url", "").startswith(
            "blob:"
        )  # the browser shows an image in a new tab
        if (
            message.type in ("error", "warning")
            and not message.text.startswith(EXPECTED)
            and not of_the_browser
        ):
            self.errors.append(message.text)

    def _request(self, request: Request) -> None:
        if not request.url.startswith(("blob:", "data:")):
            self.hosts.add(urlsplit(request.url).hostname or "")


@pytest.fixture
def opened(browser: Browser, service: Service) -> Iterator[Callable[..., Page]]:
    """Open the page at a path in a new browser context with the given options."""
    watched = Watched()
    contexts: list[BrowserContext] = []

    def open_page(path: str = "/", **options: Any) -> Page:
        context = browser.new_context(base_url=str(service.client.base_url), **options)
        contexts.append(context)
        context.on("page", watched.page)
        page = context.new_page()
        page.goto(path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert watched.errors == []
    assert watched.hosts <= {"127.0.0.1"}


@pytest.fixture
def page(opened: Callable[..., Page]) -> Page:
    return opened()


@pytest.fixture
def shelf(service: Service) -> Service:
    """A service with twelve masters from three photographs, with attributes."""
    for name in ("coffee", "chelsea", "rocket"):
        for number in range(4):
            attributes = f'{{"subject": "{name}", "number": {number}}}'
            service.put_master(
                encoded(part_of(name, number)), f"{name} {number}.jpg", attributes=attributes
            )
    return service


@pytest.fixture
def album(service: Service) -> Service:
    """A service with six masters: from a camera, from a phone, and one that says nothing."""
    upload_album(service)
    return service


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """A part of a photograph that is not among the masters."""
    path = tmp_path / "sample.jpg"
    path.write_bytes(encoded(part_of("coffee", 99)))
    return path
