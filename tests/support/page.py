"""Pictures that say when, where and with what they were taken, and how tests use the page."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Locator, Page, expect

from tests.support.images import encoded, part_of
from tests.support.metadata import (
    PHONE_CAMERA,
    PHONE_GPS,
    PHONE_MAIN,
    exif_block,
    xmp_list,
    xmp_packet,
)
from tests.support.service import Service, eventually

CANON = {"Make": "Canon", "Model": "Canon EOS R5"}
LENS = {"LensModel": "RF50mm F1.8 STM", "FocalLength": 50.0, "ExposureTime": 0.004}
SETTINGS = LENS | {"FNumber": 2.8, "ISOSpeedRatings": 100}
SOUTH = PHONE_GPS | {"GPSLatitudeRef": "S", "GPSLatitude": (33.0, 30.0, 0.0)}
WORDS = xmp_packet(xmp_list("dc:subject", "Bag", "cat", "garden"), 'xmp:Rating="4"')


def taken_at(when: str, gps: dict[str, Any] | None = None) -> bytes:
    """Return the EXIF block of a camera at that time."""
    return exif_block(CANON, SETTINGS | {"DateTimeOriginal": when}, gps)


ALBUM: dict[str, dict[str, bytes]] = {  # EXIF and XMP by name
    "May 1.jpg": {"exif": taken_at("2024:05:01 08:00:00"), "xmp": WORDS},
    "May 31.jpg": {"exif": taken_at("2024:05:31 23:59:59")},
    "June 1.jpg": {"exif": taken_at("2024:06:01 00:00:00")},
    "phone.jpg": {"exif": exif_block(PHONE_MAIN, PHONE_CAMERA, PHONE_GPS)},
    "south.jpg": {"exif": taken_at("2023:12:24 18:00:00", SOUTH)},
    "plain.jpg": {},
}


def upload_album(service: Service) -> None:
    """Upload the album; every second picture has attributes."""
    for number, (name, blocks) in enumerate(ALBUM.items()):
        attributes = {"price": 10 - number, "shelf": "A"} if number % 2 else {}
        content = encoded(part_of("coffee", number), **blocks)
        service.put_master(content, name, attributes=json.dumps(attributes))


def lists(page: Page, *expected: str) -> None:
    """Wait until the page shows these pictures, whose names end with ``.jpg``, in this order."""
    names = page.locator("#masters .name")
    assert eventually(lambda: names.all_inner_texts() == [f"{name}.jpg" for name in expected]), (
        names.all_inner_texts()
    )


def shows(page: Page, count: str) -> None:
    """Wait until the heading says this."""
    expect(page.locator("#count")).to_have_text(count)


def asked(page: Page) -> dict[str, str]:
    """Return the query of the page's address."""
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def filter_of(page: Page) -> Any:
    """Return the filter in the page's address, or None."""
    return json.loads(asked(page).get("filter", "null"))


def bar(page: Page, month: str) -> Locator:
    """Return the bar of a month in the timeline."""
    return page.locator("#months").get_by_role("button", name=month)


def open_filter(page: Page) -> None:
    page.get_by_role("button", name="Filter", exact=True).click()
