"""Contact sheets: queries and their first hits, right ones framed green and wrong ones red, as PNG and as a page."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

from models.evaluate import Ranked
from models.labelled_images import LabelledImages, load

HITS = 8
_SIDE, _GAP, _FRAME, _TEXT = 128, 10, 5, 20  # pixels
_RIGHT, _WRONG, _INK, _PAPER = "#1a7f37", "#cf222e", "#1f2328", "#ffffff"
_STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; color: #1f2328; margin: 2rem auto; max-width: 90rem; padding: 0 1rem; }
table { border-spacing: 8px; } td { vertical-align: top; font-size: 12px; max-width: 140px; overflow-wrap: anywhere; }
img { width: 128px; height: 128px; object-fit: cover; display: block; border: 5px solid transparent; }
.right img { border-color: #1a7f37; } .wrong img { border-color: #cf222e; } .query { padding-right: 24px; font-weight: 600; }
"""


@dataclass(frozen=True)
class _Shown:
    number: int
    label: str
    right: bool | None  # None: the query
    distance: float


def chosen_queries(ranked: Ranked, count: int) -> dict[str, NDArray[np.intp]]:
    """Places in ``ranked.counted``: spread evenly over all, and those with the lowest average precision."""
    total = len(ranked.counted)
    spread = np.unique(np.linspace(0, total - 1, min(count, total)).astype(np.intp))
    return {
        "sample": spread,
        "worst": np.argsort(ranked.measures["map"], kind="stable")[:count].astype(np.intp),
    }


def write_sheets(
    out: Path,
    ranked: Ranked,
    queries: LabelledImages,
    gallery: LabelledImages,
    vectors: NDArray[np.float32],
    theirs: NDArray[np.float32],
    count: int = 12,
) -> list[Path]:
    """``sample.png``, ``worst.png`` and ``index.html``, with the pictures it shows in ``pictures``; what was written."""
    (out / "pictures").mkdir(parents=True, exist_ok=True)
    written, sections = [], []
    for name, places in chosen_queries(ranked, count).items():
        rows = []
        for place in places:
            query = int(ranked.counted[place])
            precision = ranked.measures["map"][place]
            row = [_Shown(query, f"AP {precision:.2f} {queries.labels[query]}", None, 0.0)]
            for hit in ranked.first[query][:HITS]:
                distance = 1.0 - float(vectors[query] @ theirs[hit])
                row.append(
                    _Shown(
                        int(hit),
                        gallery.labels[hit],
                        gallery.labels[hit] == queries.labels[query],
                        distance,
                    )
                )
            rows.append(row)
        path = out / f"{name}.png"
        _sheet(rows, queries, gallery).save(path)
        written.append(path)
        sections.append(f"<h2>{name.capitalize()}</h2>{_table(out, rows, queries, gallery)}")
    page = out / "index.html"
    title = f"{len(queries)} queries in {len(gallery)} images"
    page.write_text(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f"<h1>{title}</h1><p>Left the query with its average precision, then its nearest with their cosine distances."
        " Green: of its class; red: not.</p>" + "".join(sections) + "</html>",
        encoding="utf-8",
    )
    return [*written, page]


def _thumbnail(images: LabelledImages, number: int) -> Image.Image:
    return ImageOps.fit(load(images.paths[number]), (_SIDE, _SIDE))


def _sheet(
    rows: list[list[_Shown]], queries: LabelledImages, gallery: LabelledImages
) -> Image.Image:
    step, line = _SIDE + 2 * _FRAME + _GAP, _SIDE + 2 * _FRAME + _TEXT + _GAP
    sheet = Image.new("RGB", (step * (HITS + 1) + 3 * _GAP, line * len(rows) + _GAP), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for down, row in enumerate(rows):
        for across, shown in enumerate(row):
            left, top = _GAP + across * step + (2 * _GAP if across else 0), _GAP + down * line
            if shown.right is not None:
                frame = (left, top, left + _SIDE + 2 * _FRAME - 1, top + _SIDE + 2 * _FRAME - 1)
                draw.rectangle(frame, outline=_RIGHT if shown.right else _WRONG, width=_FRAME)
            sheet.paste(
                _thumbnail(queries if shown.right is None else gallery, shown.number),
                (left + _FRAME, top + _FRAME),
            )
            text = shown.label if shown.right is None else f"{shown.distance:.2f} {shown.label}"
            while text and draw.textlength(text, font) > _SIDE + 2 * _FRAME:
                text = text[:-2] + "…"
            draw.text((left, top + _SIDE + 2 * _FRAME + 3), text, fill=_INK, font=font)
    return sheet


def _table(
    out: Path, rows: list[list[_Shown]], queries: LabelledImages, gallery: LabelledImages
) -> str:
    cells = []
    for row in rows:
        cells.append("<tr>")
        for shown in row:
            images, kind = (queries, "query") if shown.right is None else (gallery, "hit")
            path = out / "pictures" / f"{kind}-{shown.number}.jpg"
            _thumbnail(images, shown.number).save(path, quality=85)
            name = kind if shown.right is None else ("right" if shown.right else "wrong")
            text = shown.label if shown.right is None else f"{shown.distance:.3f} {shown.label}"
            cells.append(
                f'<td class="{name}"><img src="pictures/{path.name}" alt="{name}">{escape(text)}</td>'
            )
        cells.append("</tr>")
    return f"<table>{''.join(cells)}</table>"
