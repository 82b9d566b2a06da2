"""Labelled photographs: one folder a class, at any depth; or an exported collection and one of its attributes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.imaging import FORMATS, ImageRejected, decode
from models.transforms import INPUT_SIDE

_SUFFIXES = {f".{extension}" for _, extension in FORMATS.values()} | {".jpeg", ".tif"}


class UnusableData(Exception):
    """The labelled images cannot be used; the message says what to do."""


class Advance(Protocol):
    """Told after each of ``total`` steps of a stage."""

    def __call__(self, stage: str, done: int, total: int) -> None: ...


def silent(stage: str, done: int, total: int) -> None:
    """Tells nobody."""


@dataclass
class LabelledImages:
    """``labels[i]`` is the class of ``paths[i]``, such as the path of its folder. ``broken``: what was skipped, and why."""

    root: Path
    paths: list[Path]
    labels: list[str]
    broken: list[tuple[Path, str]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.paths)

    @classmethod
    def read(
        cls, root: Path, advance: Advance = silent, *, gallery: bool = False
    ) -> LabelledImages:
        """Of folders. Decodes every image once, so that what is broken is known now. Raises UnusableData.

        ``gallery``: it is only looked in, so one class, or one image a class, will do.
        """
        found = images_in(root)
        return cls._checked(
            root,
            found,
            [path.parent.relative_to(root).as_posix() for path in found],
            advance,
            gallery,
        )

    @classmethod
    def read_export(
        cls, directory: Path, attribute: str, advance: Advance = silent, *, gallery: bool = False
    ) -> LabelledImages:
        """Of an exported collection: the class of a master is its value of the attribute. Raises UnusableData, OSError."""
        masters = [
            json.loads(line)
            for line in (directory / "masters.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        named = [
            master for master in masters if master["attributes"].get(attribute) not in (None, "")
        ]
        if not named:
            raise UnusableData(f"no master of {len(masters)} has the attribute {attribute}")
        labels = [str(master["attributes"][attribute]) for master in named]
        return cls._checked(
            directory, [directory / master["file"] for master in named], labels, advance, gallery
        )

    @classmethod
    def _checked(
        cls, root: Path, found: list[Path], labels: list[str], advance: Advance, gallery: bool
    ) -> LabelledImages:
        images = cls(root, [], [])
        with ThreadPoolExecutor() as pool:
            for number, (path, problem) in enumerate(
                zip(found, pool.map(_problem, found), strict=True), start=1
            ):
                if problem:
                    images.broken.append((path, problem))
                else:
                    images.paths.append(path)
                    images.labels.append(labels[number - 1])
                advance("reading", number, len(found))
        images._check(gallery)
        return images

    def _check(self, gallery: bool) -> None:
        counts = Counter(self.labels)
        if not counts:
            raise UnusableData(
                f"there is no image under {self.root}: give a folder that has one folder of images for each class"
            )
        if gallery:
            return
        if len(counts) == 1:
            raise UnusableData(
                f"all images under {self.root} are of one class: give a folder that has a folder for each of them"
            )
        if max(counts.values()) == 1:
            raise UnusableData(
                f"every class under {self.root} has one image: nothing says what looks alike. Give some of each"
            )

    def chosen(self, numbers: Sequence[int] | NDArray[np.intp]) -> LabelledImages:
        """Only those of the numbers."""
        return LabelledImages(
            self.root, [self.paths[i] for i in numbers], [self.labels[i] for i in numbers]
        )

    def class_numbers(self) -> NDArray[np.int64]:
        """``(n,)``: the place of each image's class among the sorted classes."""
        return np.unique(np.array(self.labels), return_inverse=True)[1].astype(np.int64)


def check_disjoint(train: LabelledImages, test: LabelledImages) -> None:
    """Raises UnusableData if a class is in both."""
    both = sorted(set(train.labels) & set(test.labels))
    if both:
        shown = ", ".join(both[:3]) + (f" and {len(both) - 3} more" if len(both) > 3 else "")
        raise UnusableData(
            f"{shown}: in the data to train on and in the data to test on. Scores of classes that were learned say nothing"
        )


def images_in(root: Path) -> list[Path]:
    """What looks like an image, at any depth, in a stable order."""
    return [
        path
        for path in sorted(root.rglob("*"))
        if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".")
    ]


def load(path: Path) -> Image.Image:
    """Upright, RGB, of 224 pixels or more on the shorter side where the file has them. Raises ImageRejected, OSError."""
    with path.open("rb") as file:
        return decode(file, min_side=INPUT_SIDE).image


def _problem(path: Path) -> str:
    try:
        load(path)
    except (ImageRejected, OSError) as error:
        return str(error)
    return ""


def batches(count: int, size: int) -> Iterator[range]:
    for start in range(0, count, size):
        yield range(start, min(start + size, count))
