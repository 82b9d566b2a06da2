"""The training recipe: what is trained, and with which hyperparameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Tune = Literal["projection", "layer4", "layer3", "all"]


@dataclass(frozen=True)
class Recipe:
    """The hyperparameters of a fine-tuning.

    The defaults are those of the shipped weights, except for the number of views and the share of
    held-out classes. With higher learning rates the network forgot what the base knew about other
    subjects.
    """

    loss: str = "supcon"  # a key of losses.LOSSES
    tune: Tune = "layer4"  # the first part that is trained; everything before it is frozen
    pooling: Literal["average", "gem"] = "gem"
    # The initial exponent of "gem". A base with a projection keeps its own exponent, or starts at 1
    # (average pooling) if it has none.
    gem_p: float = 1.5
    norms: Literal["frozen", "tuned"] = "frozen"  # the batch norms' running statistics
    steps: int = 300  # the maximum number of training steps
    classes: int = 16  # per batch
    images: int = 3  # of each class per batch, each in two views
    rate: float = 1e-5  # learning rate of the backbone: a warm-up, then a cosine decay
    decay: float = 1e-4  # weight decay
    instances: float = 1.0  # weight of the loss that keeps views of one image together
    kept: float = 5.0  # weight of the loss that keeps the base network's similarities
    average: float = 0.99  # decay of the moving average of the weights, which is the result
    # Interpolation between the base's weights (0) and the tuned ones (1) (Wortsman et al. 2022).
    blend: float = 1.0
    views: int = 6  # cached per image: the unaltered one, and altered ones
    plain: float = 0.3  # probability that the first view of an image is the unaltered one
    held_out: float = 0.2  # share of the classes for early stopping and for the calibration
    check_every: int = 100  # steps
    patience: int = 3  # checks without a better mAP before training stops
    seed: int = 0
