"""Labelled images for training and evaluation.

A class is a folder at any depth, or a value of one attribute in an exported collection.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.imaging import FORMATS, ImageRejected, decode_image
from models.progress import ProgressCallback, ignore_progress
from models.transforms import CentreSquare, Preprocessing
from storage.cores import available_cores

_SUFFIXES = {f".{extension}" for _, extension in FORMATS.values()} | {".jpeg", ".tiff"}

_RULE = CentreSquare()


class UnusableData(Exception):
    """The labelled images cannot be used. The message says why and what to do."""


@dataclass
class LabelledImages:
    """Image files with their classes: ``labels[i]`` is the class of ``paths[i]``.

    ``broken`` lists the files that were skipped because they cannot be decoded, with the reason.
    """

    root: Path
    paths: list[Path]
    labels: list[str]
    broken: list[tuple[Path, str]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.paths)

    @classmethod
    def read(
        cls, root: Path, progress: ProgressCallback = ignore_progress, *, gallery: bool = False
    ) -> LabelledImages:
        """Find the images below ``root``; the class of each is the path of its folder.

        Every image is decoded once, so that broken files are known from the start. ``gallery``
        marks images that are only searched, never used as queries: then a single class, or one
        image per class, is enough. Raises UnusableData.
        """
        paths = find_image_files(root)
        labels = [path.parent.relative_to(root).as_posix() for path in paths]
        return cls._read_all(root, paths, labels, progress, gallery)

    @classmethod
    def read_export(
        cls,
        directory: Path,
        attribute: str,
        progress: ProgressCallback = ignore_progress,
        *,
        gallery: bool = False,
    ) -> LabelledImages:
        """Read an exported collection; the class of a master is its value of ``attribute``.

        Masters without the attribute are left out. See ``read`` for ``gallery``. Raises
        UnusableData, and OSError if the export cannot be read.
        """
        lines = (directory / "masters.jsonl").read_text(encoding="utf-8").splitlines()
        masters = [json.loads(line) for line in lines]
        named = [each for each in masters if each["attributes"].get(attribute) not in (None, "")]
        if not named:
            raise UnusableData(
                f"None of the {len(masters)} masters in {directory} has the attribute {attribute}."
                " Choose an attribute that names their class."
            )
        paths = [directory / master["file"] for master in named]
        labels = [str(master["attributes"][attribute]) for master in named]
        return cls._read_all(directory, paths, labels, progress, gallery)

    @classmethod
    def _read_all(
        cls,
        root: Path,
        paths: list[Path],
        labels: list[str],
        progress: ProgressCallback,
        gallery: bool,
    ) -> LabelledImages:
        images = cls(root, [], [])
        with ThreadPoolExecutor(available_cores()) as pool:
            problems = pool.map(_find_problem, paths)
            for done, (path, label, problem) in enumerate(
                zip(paths, labels, problems, strict=True), start=1
            ):
                if problem:
                    images.broken.append((path, problem))
                else:
                    images.paths.append(path)
                    images.labels.append(label)
                progress("reading", done, len(paths))
        images._check_classes(gallery)
        return images

    def _check_classes(self, gallery: bool) -> None:
        counts = Counter(self.labels)
        if not counts:
            raise UnusableData(
                f"There is no image that can be read under {self.root}. Name a folder that has one"
                " folder of images for each class."
            )
        if gallery:
            return
        if len(counts) == 1:
            raise UnusableData(
                f"All images under {self.root} are of one class. Name a folder that has one folder"
                " of images for each of several classes."
            )
        if max(counts.values()) == 1:
            raise UnusableData(
                f"Every class under {self.root} has only one image, so nothing shows which images"
                " look alike. Add more images to the classes."
            )

    def select(self, indices: Sequence[int] | NDArray[np.intp]) -> LabelledImages:
        """Return only the images at these indices, in their order."""
        return LabelledImages(
            self.root, [self.paths[i] for i in indices], [self.labels[i] for i in indices]
        )

    def class_indices(self) -> NDArray[np.int64]:
        """Return ``(n,)`` int64: the index of each image's class among the sorted classes."""
        return np.unique(np.array(self.labels), return_inverse=True)[1].astype(np.int64)


def check_disjoint(train: LabelledImages, test: LabelledImages) -> None:
    """Raise UnusableData if a class occurs in both the training and the test images."""
    both = sorted(set(train.labels) & set(test.labels))
    if both:
        shown = ", ".join(both[:3]) + (f" and {len(both) - 3} more" if len(both) > 3 else "")
        raise UnusableData(
            f"Classes occur in both the training and the test images: {shown}. Scores on classes"
            " that the network was trained on mean nothing; remove the classes from one of them."
        )


def find_image_files(root: Path) -> list[Path]:
    """List the files below ``root`` with an image suffix, sorted; hidden files are skipped."""
    return [
        path
        for path in sorted(root.rglob("*"))
        if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".")
    ]


def load_image(path: Path, rule: Preprocessing = _RULE) -> Image.Image:
    """Decode an image as the service does before it applies a preprocessing: upright RGB.

    Raises ImageRejected, and OSError if the file cannot be read.
    """
    with path.open("rb") as file:
        return decode_image(
            file, min_side=rule.min_side, convert_colours=rule.converts_colours
        ).image


def _find_problem(path: Path) -> str:
    """Return why the image cannot be decoded, or an empty string if it can."""
    try:
        load_image(path)
    except (ImageRejected, OSError) as error:
        return str(error)
    return ""
