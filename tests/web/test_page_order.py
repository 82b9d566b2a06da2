"""The page sorts pictures, and shows the months in which they were taken."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing

from playwright.sync_api import Page, expect

from app.settings import Settings
from tests.support.images import encoded, part_of
from tests.support.page import asked, bar, filter_of, lists, open_filter, shows, taken_at
from tests.support.service import Service, eventually

# sort


def test_pictures_are_sorted_and_the_address_keeps_the_order(
    album: Service, page: Page, opened: Callable[..., Page]
) -> None:
    newest_first = ("plain", "south", "phone", "June 1", "May 31", "May 1")
    lists(page, *newest_first)
    page.select_option("#sort", label="Name")
    lists(page, "June 1", "May 1", "May 31", "phone", "plain", "south")
    assert asked(page) == {"sort": "name"}
    page.get_by_role("button", name="A to Z").click()
    lists(page, "south", "plain", "phone", "May 31", "May 1", "June 1")
    expect(page.get_by_role("button", name="Z to A")).to_be_focused()
    page.select_option("#sort", label="Taken")
    by_date = ("June 1", "May 31", "phone", "May 1", "south", "plain")
    lists(page, *by_date)
    assert asked(page) == {"sort": "-capture.time"}
    page.get_by_role("button", name="Newest first").click()
    lists(page, "south", "May 1", "phone", "May 31", "June 1", "plain")  # no date: last both ways
    page.go_back()
    lists(page, *by_date)
    page.reload()
    lists(page, *by_date)
    expect(page.locator("#sort")).to_have_value("capture.time")
    lists(opened(page.url), *by_date)
    page.locator("#home").click()
    lists(page, *newest_first)


def test_pictures_are_sorted_by_an_attribute(album: Service, page: Page) -> None:
    shows(page, "6 pictures")
    page.select_option("#sort", label="Attribute")
    expect(page.locator("#sort-attribute")).to_be_focused()
    assert asked(page) == {}  # nothing is chosen yet
    page.select_option("#sort-attribute", "price")
    lists(page, "plain", "phone", "May 31", "May 1", "June 1", "south")
    page.get_by_role("button", name="Ascending").click()
    lists(page, "May 31", "phone", "plain", "south", "June 1", "May 1")
    assert asked(page) == {"sort": "-price"}
    page.reload()
    lists(page, "May 31", "phone", "plain", "south", "June 1", "May 1")
    expect(page.locator("#sort-attribute")).to_have_value("price")
    page.select_option("#sort-attribute", "shelf")  # the others are offered as well
    assert eventually(lambda: asked(page) == {"sort": "shelf"})


def test_the_order_stays_while_pictures_are_searched_for(album: Service, page: Page) -> None:
    page.select_option("#sort", label="Name")
    page.get_by_role("link", name="phone.jpg").click()
    page.locator("#detail-like").click()
    shows(page, "6 results")
    expect(page.locator("#sort")).to_be_hidden()
    page.get_by_role("button", name="End search").click()
    lists(page, "June 1", "May 1", "May 31", "phone", "plain", "south")


# timeline


def months(page: Page) -> list[str]:
    bars = page.locator("#months button").all()
    return [str(bar.get_attribute("aria-label")) for bar in bars]


def test_a_month_of_the_timeline_narrows_the_list_and_widens_it_again(
    album: Service, page: Page
) -> None:
    expect(page.locator("#timeline")).to_be_visible()
    assert months(page) == [
        "December 2023: 1 picture",
        "May 2024: 3 pictures",
        "June 2024: 1 picture",
    ]
    may = bar(page, "May 2024: 3 pictures")
    may.click()
    lists(page, "phone", "May 31", "May 1")  # until the last second, in UTC
    assert filter_of(page) == {"capture.time": {"$gte": "2024-05-01", "$lt": "2024-06-01"}}
    expect(may).to_have_attribute("aria-pressed", "true")
    expect(may).to_be_focused()
    assert len(months(page)) == 3  # the others can still be chosen
    expect(page.locator(".chip")).to_have_text("Taken: May 2024")
    bar(page, "June 2024").click()
    lists(page, "June 1")
    bar(page, "June 2024").click()
    shows(page, "6 pictures")
    assert asked(page) == {}
    page.locator("#undated").click()
    lists(page, "plain")
    expect(page.locator(".chip")).to_have_text("Taken: unknown")
    page.locator("#undated").click()
    shows(page, "6 pictures")


def test_the_timeline_counts_what_the_rest_of_the_filter_selects(
    album: Service, page: Page
) -> None:
    page.goto("/?filter=" + json.dumps({"capture.camera": {"$in": ["Apple iPhone 12"]}}))
    lists(page, "phone")
    expect(page.locator("#months button")).to_have_count(1)
    expect(page.locator("#undated")).to_be_hidden()
    bar(page, "May 2024: 1 picture").click()
    assert eventually(lambda: len(filter_of(page).get("$and", [])) == 2)
    lists(page, "phone")
    page.get_by_role("button", name="Clear filters").click()
    expect(page.locator("#months button")).to_have_count(3)


def test_the_timeline_works_by_keyboard(album: Service, page: Page) -> None:
    expect(page.locator("#months button")).to_have_count(3)
    page.locator("#filter-toggle").focus()
    page.keyboard.press("Tab")
    expect(bar(page, "June 2024")).to_be_focused()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    lists(page, "phone", "May 31", "May 1")
    expect(bar(page, "May 2024")).to_be_focused()
    page.keyboard.press("Home")
    expect(bar(page, "December 2023")).to_be_focused()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("End")
    page.keyboard.press("Space")
    lists(page, "June 1")
    page.keyboard.press("Tab")
    expect(page.locator("#undated")).to_be_focused()


def test_the_timeline_follows_uploads_and_hides_from_searches(album: Service, page: Page) -> None:
    expect(page.locator("#months button")).to_have_count(3)
    july = taken_at("2024:07:01 08:00:00")
    album.put_master(encoded(part_of("coffee", 9), exif=july), "July.jpg")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # polls now
    expect(bar(page, "July 2024: 1 picture")).to_be_visible()
    page.locator("#masters .card").first.hover()
    page.get_by_role("button", name="Find similar to July.jpg").click()
    shows(page, "7 results")
    expect(page.locator("#timeline")).to_be_hidden()
    page.go_back()
    expect(page.locator("#months button")).to_have_count(4)


def test_the_timeline_says_that_files_are_still_being_read(
    album: Service, page: Page, settings: Settings
) -> None:
    expect(page.locator("#unread")).to_be_empty()
    with closing(sqlite3.connect(settings.data_dir / "lookalike.db")) as database:
        change = "UPDATE masters SET capture = ?, captured_at = ? WHERE name = 'phone.jpg'"
        select = "SELECT capture, captured_at FROM masters WHERE name = 'phone.jpg'"
        known = database.execute(select).fetchone()
        database.execute(change, (None, None))
        database.commit()
        page.reload()
        expect(page.locator("#unread")).to_have_text("Dates of 1 picture are still being read.")
        expect(page.locator("#undated .hint")).to_have_text("2")
        expect(bar(page, "May 2024")).to_have_attribute("aria-label", "May 2024: 2 pictures")
        page.get_by_role("link", name="phone.jpg").click()
        expect(page.locator("#capture")).to_contain_text("has not been read")
        page.keyboard.press("Escape")
        database.execute(change, known)
        database.commit()
    expect(page.locator("#unread")).to_be_empty()  # without a reload of the page
    expect(bar(page, "May 2024")).to_have_attribute("aria-label", "May 2024: 3 pictures")


def test_without_a_date_there_is_no_timeline_and_one_request_for_it(
    shelf: Service, opened: Callable[..., Page]
) -> None:
    page = opened("/livez")
    asked_for: list[str] = []
    page.on("request", lambda sent: asked_for.append(sent.url) if "/timeline" in sent.url else None)
    with page.expect_response(re.compile("/collections/.*/timeline")) as answered:
        page.goto("/")
    assert answered.value.json()["months"] == []
    open_filter(page)
    page.locator("#filters label").filter(has_text="coffee").locator("input").check()
    shows(page, "4 pictures")
    expect(page.locator("#timeline")).to_be_hidden()
    assert len([url for url in asked_for if "/collections/" in url]) == 1
