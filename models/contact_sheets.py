"""Contact sheets: queries beside their top hits, as PNG files and as an HTML page.

Hits of the query's class have a green frame, others a red one.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

from models.evaluate import RankingMetrics, Vectors
from models.labelled_images import LabelledImages, load_image

HITS = 8  # per query
_SIDE, _GAP, _FRAME, _TEXT = 128, 10, 5, 20  # pixels
_CELL_WIDTH, _CELL_HEIGHT = _SIDE + 2 * _FRAME + _GAP, _SIDE + 2 * _FRAME + _TEXT + _GAP
_RIGHT, _WRONG, _INK, _PAPER = "#1a7f37", "#cf222e", "#1f2328", "#ffffff"
_STYLE = f"""
body {{ font: 14px/1.4 system-ui, sans-serif; color: {_INK}; }}
body {{ margin: 2rem auto; max-width: 90rem; padding: 0 1rem; }}
table {{ border-spacing: 8px; }}
td {{ vertical-align: top; font-size: 12px; max-width: 140px; overflow-wrap: anywhere; }}
img {{ width: {_SIDE}px; height: {_SIDE}px; object-fit: cover; display: block; }}
img {{ border: {_FRAME}px solid transparent; }}
.right img {{ border-color: {_RIGHT}; }}
.wrong img {{ border-color: {_WRONG}; }}
.query {{ padding-right: 24px; font-weight: 600; }}
"""


@dataclass(frozen=True)
class _Cell:
    """One image of a sheet. ``kind`` is query, right or wrong; ``index`` counts in its images."""

    kind: str
    index: int
    path: Path
    caption: str


def choose_queries(metrics: RankingMetrics, count: int) -> dict[str, NDArray[np.intp]]:
    """Choose up to ``count`` positions in ``metrics.queries`` for each of the two sheets.

    ``sample`` is spread evenly over all queries; ``worst`` has the lowest average precision.
    """
    total = len(metrics.queries)
    spread = np.unique(np.linspace(0, total - 1, min(count, total)).astype(np.intp))
    worst = np.argsort(metrics.per_query["map"], kind="stable")[:count].astype(np.intp)
    return {"sample": spread, "worst": worst}


def write_contact_sheets(
    out: Path,
    metrics: RankingMetrics,
    queries: LabelledImages,
    gallery: LabelledImages,
    query_vectors: Vectors,
    gallery_vectors: Vectors,
    count: int = 12,
) -> list[Path]:
    """Write the sheets of ``count`` queries into the directory ``out``.

    The vectors are ``(n, 512)`` float32 with rows of length 1. Returns the paths of ``sample.png``,
    ``worst.png`` and ``index.html``; the page's images are in ``out/pictures``.
    """
    (out / "pictures").mkdir(parents=True, exist_ok=True)
    written, sections = [], []
    for name, positions in choose_queries(metrics, count).items():
        rows = []
        for position in positions:
            query = int(metrics.queries[position])
            caption = f"AP {metrics.per_query['map'][position]:.2f} {queries.labels[query]}"
            row = [_Cell("query", query, queries.paths[query], caption)]
            for hit in metrics.top_hits[query][:HITS]:
                distance = 1.0 - float(query_vectors[query] @ gallery_vectors[hit])
                kind = "right" if gallery.labels[hit] == queries.labels[query] else "wrong"
                caption = f"{distance:.2f} {gallery.labels[hit]}"
                row.append(_Cell(kind, int(hit), gallery.paths[hit], caption))
            rows.append(row)
        path = out / f"{name}.png"
        _draw_sheet(rows).save(path)
        written.append(path)
        sections.append(f"<h2>{name.capitalize()}</h2>{_write_table(out, rows)}")
    page = out / "index.html"
    title = f"{len(queries)} queries in {len(gallery)} images"
    page.write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        f"<title>{title}</title><style>{_STYLE}</style><h1>{title}</h1>"
        "<p>Each row shows a query with its average precision, then its nearest images with their"
        " cosine distances. A green frame marks an image of the query's class, a red frame one of"
        f" another class.</p>{''.join(sections)}</html>",
        encoding="utf-8",
    )
    return [*written, page]


def _make_thumbnail(path: Path) -> Image.Image:
    return ImageOps.fit(load_image(path), (_SIDE, _SIDE))


def _draw_sheet(rows: list[list[_Cell]]) -> Image.Image:
    size = (_CELL_WIDTH * (HITS + 1) + 3 * _GAP, _CELL_HEIGHT * len(rows) + _GAP)
    sheet = Image.new("RGB", size, _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for y, row in enumerate(rows):
        for x, cell in enumerate(row):
            left = _GAP + x * _CELL_WIDTH + (2 * _GAP if x else 0)
            top = _GAP + y * _CELL_HEIGHT
            if cell.kind != "query":
                frame = (left, top, left + _SIDE + 2 * _FRAME - 1, top + _SIDE + 2 * _FRAME - 1)
                colour = _RIGHT if cell.kind == "right" else _WRONG
                draw.rectangle(frame, outline=colour, width=_FRAME)
            sheet.paste(_make_thumbnail(cell.path), (left + _FRAME, top + _FRAME))
            text = cell.caption
            while text and draw.textlength(text, font) > _SIDE + 2 * _FRAME:
                text = text[:-2] + "…"
            draw.text((left, top + _SIDE + 2 * _FRAME + 3), text, fill=_INK, font=font)
    return sheet


def _write_table(out: Path, rows: list[list[_Cell]]) -> str:
    """Write the thumbnails of the page and return their HTML table."""
    parts = []
    for row in rows:
        parts.append("<tr>")
        for cell in row:
            owner = "query" if cell.kind == "query" else "hit"
            path = out / "pictures" / f"{owner}-{cell.index}.jpg"
            _make_thumbnail(cell.path).save(path, quality=85)
            parts.append(
                f'<td class="{cell.kind}"><img src="pictures/{path.name}" alt="{cell.kind}">'
                f"{escape(cell.caption)}</td>"
            )
        parts.append("</tr>")
    return f"<table>{''.join(parts)}</table>"
