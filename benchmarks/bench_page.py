"""The page in headless Chromium on the real service: how soon it can be used, how soon hits are on the screen, and how many
elements stand for 100 000 masters while they are scrolled from end to end.

    make bench-page
"""

from __future__ import annotations

import hashlib
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Browser, Page, sync_playwright
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.service import free_port, photographs, running
from models.embedder import load_embedder
from models.imaging import decode
from models.transforms import INPUT_SIDE, to_input
from storage.factory import open_stores
from storage.metadata import new_id
from storage.records import Collection, Master, MasterRecord, MasterState, VectorRecord
from storage.store_urls import StoreUrls

MASTERS = 100_000
BATCH = 5_000
ROUNDS = 9
WINDOW = {"width": 1280, "height": 800}
# When the pictures are listed, when the hits are, and when all those in the window are shown; each after the frame that shows
# it, in milliseconds of the page's own clock.
WATCH = """
window.times = {};
const note = (what) => {
  if (what in window.times) return;
  window.times[what] = null;
  requestAnimationFrame(() => setTimeout(() => (window.times[what] = performance.now())));
};
const look = () => {
  if (document.body?.hasAttribute("data-ready")) note("usable");
  const images = [...document.querySelectorAll("#hits img")];
  if (!images.length) return;
  note("listed");
  const seen = images.filter((image) => image.getBoundingClientRect().top < innerHeight);
  if (seen.every((image) => image.dataset.state === "shown")) note("shown");
};
new MutationObserver(look).observe(document, {
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
  for (let at = 0; at < 20_000; at += 60) await step(at);  // as a wheel turns
  for (let at = 20_000; at < end(); at += end() / 1500) await step(at);  // as the bar is pulled
  await step(end());
  frames.sort((a, b) => a - b);
  const at = (part) => frames[Math.floor(frames.length * part)];
  return { most, cells, frames: frames.length, median: at(0.5), late: at(0.99) };
}
"""


def fill(directory: Path) -> None:
    """An embedded installation of that many masters: 500 photographs, told apart by bytes behind their end."""
    embedder = load_embedder()
    pictures = photographs(500, 320, 240)
    pixels = [
        to_input(decode(_file(picture), min_side=INPUT_SIDE).image)[None] for picture in pictures
    ]
    vectors = [embedder.embed(some)[0] for some in track(pixels, description="embedding")]
    stores = open_stores(
        StoreUrls(
            f"sqlite:///{directory}/lookalike.db", f"file://{directory}/objects", "embedded:"
        ),
        load_vectors=False,
    )
    stores.registry.register_active(embedder.model_version)
    collection: Collection = stores.metadata.create_collection("default")
    random = np.random.default_rng(1)
    for start in track(range(0, MASTERS, BATCH), description="filling"):
        records, entries = [], []
        for number in range(start, start + BATCH):
            content = pictures[number % 500] + number.to_bytes(8)
            attributes = {
                "colour": ("red", "green", "blue", "black")[number % 4],
                "price": number / 100,
            }
            master = Master(
                new_id(), collection.id, "default", hashlib.sha256(content).digest(), len(content), "image/jpeg", "jpg", 320, 240,
                f"photograph {number}.jpg", attributes, 1, MasterState.STORED, 1_700_000_000_000, 1_700_000_000_000,
            )  # fmt: skip
            path = directory / "objects" / master.object_key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            vector = vectors[number % 500] + random.normal(0, 0.01, 512).astype(np.float32)
            records.append(MasterRecord(master, {embedder.model_version: 1}))
            entries.append(
                VectorRecord(
                    master.id, collection.id, vector / np.linalg.norm(vector), attributes, 1
                )
            )
        stores.metadata.import_records(records)
        stores.vectors.upsert(embedder.model_version, entries)
    stores.close()


def _file(content: bytes) -> Any:
    file = tempfile.SpooledTemporaryFile(len(content) + 1)  # noqa: SIM115 - closed with the process
    file.write(content)
    file.seek(0)
    return file


def opened(browser: Browser, url: str) -> Page:
    page = browser.new_context(viewport=WINDOW).new_page()  # type: ignore[arg-type]
    page.add_init_script(WATCH)
    page.goto(url)
    page.wait_for_function("() => window.times.usable")
    return page


def main() -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("chromium is not installed: apt-get install chromium")
    console = Console()
    sample = photographs(ROUNDS, 1600, 1200, seed=7)
    with (
        tempfile.TemporaryDirectory(prefix="lookalike-bench-") as name,
        sync_playwright() as playwright,
    ):
        directory = Path(name)
        fill(directory / "data")
        port = free_port()
        environment = {"LOOKALIKE_DATA_DIR": str(directory / "data"), "LOOKALIKE_PORT": str(port)}
        with running([sys.executable, "api.py"], "/readyz", environment, port):
            browser = playwright.chromium.launch(
                executable_path=chromium, args=["--no-sandbox"] if os.getuid() == 0 else []
            )
            usable, listed, shown = [], [], []
            for round_ in range(ROUNDS):
                page = opened(browser, f"http://127.0.0.1:{port}/")
                first = page.evaluate(
                    "() => performance.getEntriesByType('navigation')[0].responseStart"
                )
                usable.append(page.evaluate("() => window.times.usable") - first)
                page.wait_for_timeout(1500)  # the thumbnails of the first window
                (directory / "sample.jpg").write_bytes(sample[round_])
                page.set_input_files("#choose", directory / "sample.jpg")
                page.wait_for_function("() => window.times.shown")
                sent = page.evaluate(
                    "() => performance.getEntriesByType('resource').find((e) => e.name.endsWith('/search')).startTime"
                )
                took = float(page.get_attribute("#results", "data-took-ms") or 0)
                listed.append(page.evaluate("() => window.times.listed") - sent - took)
                shown.append(page.evaluate("() => window.times.shown") - sent - took)
                page.context.close()
            page = opened(browser, f"http://127.0.0.1:{port}/")
            start = time.perf_counter()
            scrolled = page.evaluate(SCROLL)
            seconds = time.perf_counter() - start
            page.wait_for_function(
                "() => document.querySelector('#masters').textContent.includes('photograph 0.jpg')"
            )
            browser.close()
    table = Table(box=None)
    for column in ("the page on loopback", "median", "of", "target"):
        table.add_column(column, justify="left" if column == "the page on loopback" else "right")
    for what, values, target in (
        ("usable after the first byte, ms", usable, "500"),
        ("hits listed after took_ms, ms", listed, "150"),
        ("pictures of the first window shown after took_ms, ms", shown, ""),
    ):
        table.add_row(what, f"{statistics.median(values):.0f}", str(len(values)), target)
    console.print(table)
    console.print(
        f"{MASTERS} masters scrolled from end to end in {seconds:.0f} s: {scrolled['most']} image elements at most (target 500), "
        f"{scrolled['cells']} cells, {scrolled['frames']} frames, median {scrolled['median']:.0f} ms, 99th percentile "
        f"{scrolled['late']:.0f} ms"
    )


if __name__ == "__main__":
    main()
