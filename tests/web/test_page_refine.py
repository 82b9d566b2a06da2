"""Results that refine a search: more like this, less like this."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, Route, expect

from tests.support.page import asked, shows
from tests.support.service import Service


@pytest.fixture
def queries(page: Page) -> list[dict[str, Any]]:
    """The query of each refined search that the page sends."""
    sent: list[dict[str, Any]] = []

    def watch(route: Route) -> None:
        body = (route.request.post_data_buffer or b"").decode("latin-1")
        found = re.findall(r'name="query"\r\n\r\n(.*?)\r\n--', body, re.DOTALL)
        sent.extend(map(json.loads, found))
        route.continue_()

    page.route("**/search", watch)
    return sent


def ids(service: Service) -> dict[str, str]:
    masters = service.client.get("/masters").json()["masters"]
    return {master["name"]: master["id"] for master in masters}


def names(page: Page) -> list[str]:
    return page.locator("#hits .name").all_inner_texts()


def mark(page: Page, label: str, name: str) -> None:
    page.locator("#hits .card").filter(has_text=name).hover()
    page.get_by_role("button", name=f"{label} {name}", exact=True).click()


def test_results_refine_a_search_with_a_file(
    shelf: Service, page: Page, sample: Path, queries: list[dict[str, Any]]
) -> None:
    known = ids(shelf)
    page.set_input_files("#choose", sample)
    shows(page, "12 results")
    expect(page.locator("#refinements")).to_be_hidden()
    mark(page, "More like", "rocket 1.jpg")
    expect(page.locator("#refinements img[data-state=shown]")).to_have_count(1)
    mark(page, "Less like", "coffee 2.jpg")
    expect(page.locator("#refinements img[data-state=shown]")).to_have_count(2)
    shows(page, "12 results")
    assert queries[-1]["examples"] == [
        {"upload": "sample", "weight": 1},
        {"master_id": known["rocket 1.jpg"], "weight": 0.5},
        {"master_id": known["coffee 2.jpg"], "weight": -0.4},
    ]
    page.get_by_role("button", name="Remove coffee 2.jpg from “Less like”").click()
    expect(page.locator("#refinements button")).to_have_count(1)
    mark(page, "More like", "rocket 1.jpg")  # takes it back
    expect(page.locator("#refinements")).to_be_hidden()
    shows(page, "12 results")
    assert "more" not in asked(page)


def test_a_link_has_the_refinements(
    shelf: Service, page: Page, opened: Callable[..., Page]
) -> None:
    page.locator("#masters .card").nth(2).hover()
    page.get_by_role("button", name="Find similar to rocket 1.jpg").click()
    shows(page, "12 results")
    mark(page, "More like", "chelsea 3.jpg")
    mark(page, "Less like", "coffee 0.jpg")
    expect(page.locator("#refinements button")).to_have_count(2)
    known = ids(shelf)
    examples: list[dict[str, Any]] = [{"master_id": known["rocket 1.jpg"]}]
    examples += [{"master_id": known["chelsea 3.jpg"], "weight": 0.5}]
    examples += [{"master_id": known["coffee 0.jpg"], "weight": -0.4}]
    hits = shelf.client.post("/search", json={"examples": examples, "k": 12}).json()["hits"]
    expect(page.locator("#hits .name")).to_have_text([hit["master"]["name"] for hit in hits])
    other = opened(page.url.removeprefix(str(shelf.client.base_url)))
    shows(other, "12 results")
    assert names(other) == names(page)
    mark(page, "Less like", "chelsea 3.jpg")  # changes its mark
    expect(page.locator("#refinements p")).to_have_text(["Less like"])
    page.locator("#hits .card").filter(has_text="coffee 1.jpg").hover()
    page.get_by_role("button", name="Find similar to coffee 1.jpg").click()
    expect(page.locator("#refinements")).to_be_hidden()


def test_the_refined_results_are_accessible(shelf: Service, page: Page, sample: Path) -> None:
    page.set_input_files("#choose", sample)
    shows(page, "12 results")
    mark(page, "More like", "rocket 1.jpg")
    expect(page.locator("#refinements img[data-state=shown]")).to_have_count(1)
    pressed = page.get_by_role("button", name="More like rocket 1.jpg", exact=True)
    expect(pressed).to_have_attribute("aria-pressed", "true")
    rules = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
    assert Axe().run(page, options={"runOnly": rules}).response["violations"] == []
