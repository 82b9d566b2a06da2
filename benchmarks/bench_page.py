"""The page in headless Chromium on a real service with 100,000 masters.

    make bench-page

It measures when the page is usable (at most 500 ms after its first byte), when the hits of a search
are listed (at most 150 ms after the search itself) and shown, and how many image elements exist
while all masters are scrolled through (at most 500).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Browser, Page, sync_playwright
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.direct import embed_bytes
from benchmarks.service import find_free_port, make_parser, make_photographs, run_process
from models.embedder import load_embedder
from storage.factory import open_stores
from storage.metadata import new_id
from storage.records import (
    LOOK,
    Collection,
    Master,
    MasterRecord,
    MasterState,
    VectorRecord,
    whole_image,
)
from storage.store_urls import StoreUrls

MASTERS = 100_000
BATCH = 5_000
PHOTOGRAPHS = 500
ROUNDS = 9
WINDOW = {"width": 1280, "height": 800}
THUMBNAILS_MS = 1500  # wait until the thumbnails of the first window are loaded
# Records when the page is usable, when the hits are listed, and when all hits in the window are
# shown: each after the frame that shows it, in milliseconds of the page's own clock.
WATCH = """
window.times = {};
const note = (what) => {
  if (what in window.times) return;
  window.times[what] = null;
  requestAnimationFrame(() => setTimeout(() => (window.times[what] = performance.now())));
};
const inspect = () => {
  if (document.body?.hasAttribute("data-ready")) note("usable");
  const images = [...document.querySelectorAll("#hits img")];
  if (!images.length) return;
  note("listed");
  const seen = images.filter((image) => image.getBoundingClientRect().top < innerHeight);
  if (seen.every((image) => image.dataset.state === "shown")) note("shown");
};
new MutationObserver(inspect).observe(document, {
  subtree: true, childList: true, attributes: true, attributeFilter: ["data-ready", "data-state"],
});
"""
SCROLL = """
async () => {
  const frames = [];
  let [most, cells, before] = [0, 0, performance.now()];
  const frame = () => new Promise(requestAnimationFrame);
  const end = () => document.documentElement.scrollHeight - innerHeight;
  const step = async (to) => {
    scrollTo(0, to);
    await frame();
    const now = performance.now();
    frames.push(now - before);
    before = now;
    most = Math.max(most, document.images.length);
    cells = Math.max(cells, document.querySelectorAll("#masters .cell").length);
  };
  for (let at = 0; at < 20_000; at += 60) await step(at);  // as the mouse wheel scrolls
  for (let at = 20_000; at < end(); at += end() / 1500) await step(at);  // as the bar is dragged
  await step(end());
  frames.sort((a, b) => a - b);
  const at = (part) => frames[Math.floor(frames.length * part)];
  return { most, cells, frames: frames.length, median: at(0.5), late: at(0.99) };
}
"""
FIRST_BYTE = "() => performance.getEntriesByType('navigation')[0].responseStart"
SEARCH_SENT = (
    "() => performance.getEntriesByType('resource')"
    ".find((entry) => entry.name.endsWith('/search')).startTime"
)
LAST_MASTER_SHOWN = (
    "() => document.querySelector('#masters').textContent.includes('photograph 0.jpg')"
)


@dataclass
class Timings:
    """Milliseconds of each round; hits count from the search's own duration."""

    usable: list[float] = field(default_factory=list)
    listed: list[float] = field(default_factory=list)
    shown: list[float] = field(default_factory=list)


def fill_installation(directory: Path) -> None:
    """Make an embedded installation of 500 photographs, each stored 200 times.

    A number after the end of the JPEG makes each copy a different file.
    """
    embedder = load_embedder()
    photographs = make_photographs(PHOTOGRAPHS, 320, 240)
    tracked = track(photographs, description="embedding")
    vectors = [embed_bytes(embedder, content) for content in tracked]
    stores = open_stores(
        StoreUrls(
            f"sqlite:///{directory}/lookalike.db", f"file://{directory}/objects", "embedded:"
        ),
        load_vectors=False,
    )
    stores.registry.register_active(embedder.model_version, LOOK)
    collection: Collection = stores.metadata.create_collection("default")
    rng = np.random.default_rng(1)
    for start in track(range(0, MASTERS, BATCH), description="filling the stores"):
        records, entries = [], []
        for number in range(start, start + BATCH):
            content = photographs[number % PHOTOGRAPHS] + number.to_bytes(8)
            master = make_master(number, collection, content)
            path = directory / "objects" / master.object_key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            vector = vectors[number % PHOTOGRAPHS]
            vector = vector + rng.normal(0, 0.01, 512).astype(np.float32)
            vector /= np.linalg.norm(vector)
            records.append(MasterRecord(master, {embedder.model_version: 1}))
            entries.append(
                VectorRecord(master.id, collection.id, whole_image(vector), master.attributes, 1)
            )
        stores.metadata.import_records(records)
        stores.vectors.upsert(embedder.model_version, entries)
    stores.close()


def make_master(number: int, collection: Collection, content: bytes) -> Master:
    return Master(
        id=new_id(),
        collection_id=collection.id,
        collection="default",
        sha256=hashlib.sha256(content).digest(),
        size=len(content),
        mime="image/jpeg",
        extension="jpg",
        width=320,
        height=240,
        name=f"photograph {number}.jpg",
        attributes={
            "colour": ("red", "green", "blue", "black")[number % 4],
            "price": number / 100,
        },
        revision=1,
        state=MasterState.STORED,
        created_at=1_700_000_000_000,
        updated_at=1_700_000_000_000,
    )


def open_page(browser: Browser, url: str) -> Page:
    """Open the page in a fresh context and wait until it is usable."""
    page = browser.new_context(viewport=WINDOW).new_page()  # type: ignore[arg-type]
    page.add_init_script(WATCH)
    page.goto(url)
    page.wait_for_function("() => window.times.usable")
    return page


def time_search(browser: Browser, url: str, sample: Path, timings: Timings) -> None:
    """Open the page, search with a file, and add the times of this round."""
    page = open_page(browser, url)
    timings.usable.append(page.evaluate("() => window.times.usable") - page.evaluate(FIRST_BYTE))
    page.wait_for_timeout(THUMBNAILS_MS)
    page.set_input_files("#choose", sample)
    page.wait_for_function("() => window.times.shown")
    took = float(page.get_attribute("#results", "data-took-ms") or 0)
    answered = page.evaluate(SEARCH_SENT) + took
    timings.listed.append(page.evaluate("() => window.times.listed") - answered)
    timings.shown.append(page.evaluate("() => window.times.shown") - answered)
    page.context.close()


def scroll_through(browser: Browser, url: str) -> tuple[dict[str, Any], float]:
    """Scroll from the first master to the last; return what was counted, and the seconds."""
    page = open_page(browser, url)
    start = time.perf_counter()
    counted: dict[str, Any] = page.evaluate(SCROLL)
    seconds = time.perf_counter() - start
    page.wait_for_function(LAST_MASTER_SHOWN)
    return counted, seconds


def print_report(timings: Timings, scrolled: dict[str, Any], seconds: float) -> None:
    console = Console()
    table = Table(box=None)
    for column in ("page on loopback, ms", "median", "rounds", "target"):
        table.add_column(column, justify="left" if column.startswith("page") else "right")
    for name, values, target in (
        ("usable, after the first byte", timings.usable, "500"),
        ("hits listed, after took_ms", timings.listed, "150"),
        ("images of the first window shown, after took_ms", timings.shown, ""),
    ):
        table.add_row(name, f"{statistics.median(values):.0f}", str(len(values)), target)
    console.print(table)
    console.print(
        f"Scrolling through {MASTERS:,} masters took {seconds:.0f} s: at most {scrolled['most']}"
        f" image elements (target 500) and {scrolled['cells']} cells; {scrolled['frames']} frames,"
        f" median {scrolled['median']:.0f} ms, 99th percentile {scrolled['late']:.0f} ms."
    )


def main() -> None:
    make_parser(__doc__).parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("Chromium is not installed. Install it, on Debian with: apt-get install chromium")
    samples = make_photographs(ROUNDS, 1600, 1200, seed=7)
    timings = Timings()
    with (
        tempfile.TemporaryDirectory(prefix="lookalike-bench-") as name,
        sync_playwright() as playwright,
    ):
        directory = Path(name)
        fill_installation(directory / "data")
        port = find_free_port()
        environment = {"LOOKALIKE_DATA_DIR": str(directory / "data"), "LOOKALIKE_PORT": str(port)}
        with run_process([sys.executable, "api.py"], "/readyz", environment, port):
            # Chromium refuses to run as root with its sandbox.
            arguments = ["--no-sandbox"] if os.getuid() == 0 else []
            browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
            url = f"http://127.0.0.1:{port}/"
            for content in samples:
                sample = directory / "sample.jpg"
                sample.write_bytes(content)
                time_search(browser, url, sample, timings)
            scrolled, seconds = scroll_through(browser, url)
            browser.close()
    print_report(timings, scrolled, seconds)


if __name__ == "__main__":
    main()
