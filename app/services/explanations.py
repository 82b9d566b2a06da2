"""Explains why a search found a master: which places of two images make them alike."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from app.services.loaded_models import LoadedModels
from app.services.masters import Masters
from app.services.queries import FileExample, MasterExample
from app.services.vision import Source, Vision
from models.attribution import Method
from models.decoding.jobs import DecodedFile
from models.imaging import Box
from models.overlays import SIDE, Fitted, draw_overlay, encode_png, fit_size
from models.transforms import Preprocessing, Region
from storage.records import LOOK

_PICTURE = Fitted()


@dataclass(frozen=True)
class ExplainedImage:
    """An image, and what each place of it adds to the similarity with the other one."""

    width: int  # pixels of the whole upright image
    height: int
    region: Region  # what the grid covers, in these pixels
    grid: NDArray[np.float32]  # (rows, columns), from the top left
    overlay: NDArray[np.uint8] | None  # (height, width, 3) RGB


@dataclass(frozen=True)
class Explanation:
    """Why two images are alike. ``method`` and the grids are those of ``Attribution``."""

    space: str
    version: str
    method: Method
    similarity: float  # cosine of the two embeddings, -1 to 1
    sample: ExplainedImage
    master: ExplainedImage
    warnings: tuple[str, ...]  # ``models.imaging.TRUNCATED`` or nothing


class Explanations:
    """Explains similarities. Every method may raise StoreUnavailable."""

    def __init__(self, models: LoadedModels, masters: Masters, vision: Vision) -> None:
        self._models = models
        self._masters = masters
        self._vision = vision

    def explain(
        self,
        sample: FileExample | MasterExample,
        master_id: UUID,
        space: str | None = None,
        *,
        overlays: bool = False,
    ) -> Explanation:
        """Compare a sample with a master, place by place. ``overlays`` also draws them.

        Raises InvalidInput, NotFound, Conflict, ImageRejected, Unavailable.
        """
        space = space or LOOK
        version = self._models.active_version(space)
        rule = self._models.find_embedder(version).preprocessing
        sources = [self._find_source(each) for each in (sample, MasterExample(master_id))]
        rules = (rule, _PICTURE) if overlays else (rule,)
        boxes = (sample.box, None)
        files = [
            self._vision.decode_inputs(source, rules, box)
            for source, box in zip(sources, boxes, strict=True)
        ]
        found = self._vision.attribute_similarity(version, *(file.inputs[rule] for file in files))
        explained, other = (
            _explain_image(file, box, rule, grid)
            for file, box, grid in zip(files, boxes, found.grids, strict=True)
        )
        warnings = tuple(dict.fromkeys(name for file in files for name in file.warnings))
        return Explanation(
            space, version, found.method, found.similarity, explained, other, warnings
        )

    def _find_source(self, example: FileExample | MasterExample) -> Source:
        if isinstance(example, FileExample):
            return example.file
        return partial(self._masters.read_verified, self._masters.find_master(example.master_id))


def draw_png(*images: ExplainedImage) -> bytes:
    """Return a PNG of the overlays, side by side."""
    return encode_png([image.overlay for image in images if image.overlay is not None])


def _explain_image(
    file: DecodedFile, box: Box | None, rule: Preprocessing, grid: NDArray[np.float32]
) -> ExplainedImage:
    width, height = (file.width, file.height) if box is None else (box.width, box.height)
    region = rule.find_region(width, height)
    overlay = None
    if _PICTURE in file.inputs:
        columns, rows = fit_size(width, height)
        shown = region.scale(SIDE / max(width, height))
        overlay = draw_overlay(file.inputs[_PICTURE][:rows, :columns], grid, shown)
    if box is not None:
        region = replace(region, x=region.x + box.x, y=region.y + box.y)
    return ExplainedImage(file.width, file.height, region, grid, overlay)
