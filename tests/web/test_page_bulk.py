"""All pictures that match the filter, changed and deleted at once."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.support.images import encoded, part_of
from tests.support.page import shows
from tests.support.service import Service


def attributes_of(service: Service) -> list[dict[str, Any]]:
    masters = service.client.get("/masters").json()["masters"]
    return [master["attributes"] for master in reversed(masters)]


def take(page: Page, name: str) -> None:
    if folder := os.environ.get("LOOKALIKE_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{name}.png")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_the_dialog_is_accessible_and_fits(
    shelf: Service, opened: Callable[..., Page], width: int, scheme: str
) -> None:
    size = {"width": width, "height": 800}
    query = "/?filter=%7B%22subject%22%3A%22coffee%22%7D"
    page = opened(query, viewport=size, color_scheme=scheme)
    page.get_by_role("button", name="Edit all").click()
    dialog = page.locator("#bulk")
    dialog.get_by_role("button", name="Add attribute").click()
    dialog.get_by_role("button", name="Delete 4 pictures").click()
    dialog.get_by_label("Type 4 to delete them").fill("4")
    rules = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
    found = Axe().run(page, options={"runOnly": rules}).response["violations"]
    assert json.dumps(found) == "[]"
    assert dialog.evaluate("(dialog) => dialog.scrollWidth <= dialog.clientWidth")


def test_all_that_match_are_changed_and_deleted(
    service: Service, opened: Callable[..., Page]
) -> None:
    for number in range(4):
        attributes = json.dumps({"colour": "red" if number else "blue", "n": number})
        content = encoded(part_of("coffee", number))
        service.put_master(content, f"{number}.jpg", attributes=attributes)
    page = opened("/?" + "filter=%7B%22colour%22%3A%22red%22%7D")
    shows(page, "3 pictures")
    page.get_by_role("button", name="Edit all").click()
    dialog = page.locator("#bulk")
    expect(dialog.get_by_role("heading")).to_have_text("Edit 3 pictures")
    dialog.get_by_role("button", name="Add attribute").click()
    dialog.get_by_label("Key").fill("season")
    dialog.get_by_label("Value of the new attribute").fill("autumn")
    dialog.get_by_label("Remove attributes").fill("n, none")
    take(page, "bulk-change")
    dialog.get_by_role("button", name="Change 3 pictures").click()
    expect(page.locator("#toasts")).to_contain_text("3 pictures changed.")
    expect(dialog).to_be_hidden()
    new = {"colour": "red", "season": "autumn"}
    assert attributes_of(service) == [{"colour": "blue", "n": 0}, *[new] * 3]
    page.get_by_role("button", name="Edit all").click()
    dialog.get_by_role("button", name="Delete 3 pictures").click()
    confirm = dialog.get_by_role("button", name="Delete", exact=True)
    expect(confirm).to_be_disabled()
    dialog.get_by_label("Type 3 to delete them").fill("3")
    take(page, "bulk-delete")
    confirm.click()
    toast = page.locator(".toast", has_text="3 pictures deleted.")
    expect(toast).to_be_visible()
    take(page, "bulk-deleted")
    assert attributes_of(service) == [{"colour": "blue", "n": 0}]
    shows(page, "0 pictures")
    toast.get_by_role("button", name="Undo").click()
    expect(page.locator("#toasts")).to_contain_text("3 pictures restored.")
    shows(page, "3 pictures")
    assert attributes_of(service) == [{"colour": "blue", "n": 0}, *[new] * 3]
    page.get_by_role("button", name="Edit all").click()
    dialog.get_by_role("button", name="Delete 3 pictures").click()
    dialog.get_by_label("Type 3 to delete them").fill("3")
    confirm.click()
    expect(toast).to_be_visible()
    page.get_by_role("button", name="Clear the filter").click()
    shows(page, "1 picture")
    expect(page.get_by_role("button", name="Edit all")).to_be_hidden()
