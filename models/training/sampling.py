"""Chooses which classes are held out, and which images form each training batch."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from models.labelled_images import LabelledImages, UnusableData
from models.training.recipe import Recipe


def split_classes(
    data: LabelledImages, held_out: float, seed: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Hold out the share ``held_out`` of the classes, at least two.

    Returns the indices of the images to train on, and of the images of the held-out classes. If
    there are at least four top-level folders, whole folders are held out: varieties of one thing
    lie side by side there, and training on some of them would make the held-out ones too easy.
    Raises UnusableData if there are too few classes.
    """
    folders = [label.partition("/")[0] for label in data.labels]
    groups = folders if len(set(folders)) >= 4 else list(data.labels)
    names = sorted(set(groups))
    count = max(2, round(len(names) * held_out))
    several = {label for label, images in Counter(data.labels).items() if images > 1}
    # An image that is the only one of its class has no match, so it cannot be scored.
    eligible = sorted(
        {group for group, label in zip(groups, data.labels, strict=True) if label in several}
    )
    if len(eligible) < 2:
        raise UnusableData(
            "Fewer than two classes have two images or more. Two such classes are held out to"
            " measure quality; add images to the classes."
        )
    if len(names) < count + 2:
        raise UnusableData(
            f"{len(names)} classes are too few: {count} are held out to measure quality, and at"
            " least two are needed to train on. Add classes."
        )
    rng = np.random.default_rng(seed)
    held = set(rng.choice(eligible, min(count, len(eligible)), replace=False))
    is_held = np.array([group in held for group in groups])
    return np.flatnonzero(~is_held), np.flatnonzero(is_held)


class BatchSampler:
    """Draws training batches: some images of some classes, each in two views.

    A batch depends only on the random seed and the step, so an interrupted run repeats it exactly.
    """

    def __init__(self, classes: NDArray[np.int64], train: NDArray[np.intp], recipe: Recipe) -> None:
        """``classes`` ``(n,)`` has the class of every image, ``train`` the indices to train on."""
        self._classes = classes
        self._recipe = recipe
        self._trained_classes = np.unique(classes[train])
        self._images_by_class = [train[classes[train] == n] for n in self._trained_classes]

    @property
    def class_count(self) -> int:
        return len(self._trained_classes)

    def draw_batch(self, step: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return ``(2 n,)`` image indices, each image twice, and ``(2 n,)`` the view of each."""
        recipe, rng = self._recipe, np.random.default_rng([self._recipe.seed, step])
        count = min(recipe.classes, self.class_count)
        classes = rng.choice(self.class_count, count, replace=False)
        chosen = [
            rng.choice(images, recipe.images, replace=len(images) < recipe.images)
            for images in (self._images_by_class[n] for n in classes)
        ]
        images = np.concatenate(chosen)

        def draw_altered_views() -> NDArray[np.intp]:
            if recipe.views > 1:
                return rng.integers(1, recipe.views, len(images))
            return np.zeros_like(images)

        first = np.where(rng.random(len(images)) < recipe.plain, 0, draw_altered_views())
        return np.concatenate([images, images]), np.concatenate([first, draw_altered_views()])

    def class_indices_of(self, images: NDArray[np.intp]) -> NDArray[np.int64]:
        """Return the ``(n,)`` class indices of these images, counted among the trained classes."""
        return np.searchsorted(self._trained_classes, self._classes[images]).astype(np.int64)
