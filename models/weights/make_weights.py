"""Makes the shipped weights: the ImageNet network, fine-tuned for retrieval on groceries and clothing.

    python models/weights/make_weights.py BASE.safetensors --grocery GROCERY --clothing CLOTHING

Needs the extra ``train``; a quarter of an hour on two cores; started again it goes on from where it was. Learns from the
train and validation splits, without every third coarse grocery class (sorted): those are kept for testing.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

from rich.progress import Progress, TaskID

from models.labelled_images import LabelledImages
from models.training.card import write_card
from models.training.finetune import Finetuning, Recipe
from models.weights_file import DEFAULT_WEIGHTS, WeightsFile

RECIPE = Recipe(views=4, held_out=0.15)


def photographs(grocery: Path, clothing: Path) -> LabelledImages:
    """Classes are folders below the splits; a grocery's is COARSE/FINE, so that sister varieties are held out together."""
    tested = set(sorted(folder.name for folder in (grocery / "train").iterdir())[2::3])
    images = LabelledImages(grocery.parent, [], [])
    for split in (grocery / "train", grocery / "val", clothing / "train", clothing / "validation"):
        for path in sorted(split.rglob("*.jpg")):
            label = path.parent.relative_to(split).as_posix()
            if label.partition("/")[0] not in tested:
                images.paths.append(path)
                images.labels.append(label)
    return images


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "base", type=Path, help="ImageNet weights under torchvision's names, with their classifier"
    )
    parser.add_argument("--grocery", type=Path, required=True)
    parser.add_argument("--clothing", type=Path, required=True)
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("build/weights"),
        help="for what can be removed afterwards (8 GB)",
    )
    parser.add_argument("--out", type=Path, default=DEFAULT_WEIGHTS)
    arguments = parser.parse_args()
    images = photographs(arguments.grocery, arguments.clothing)
    with Progress() as progress:
        tasks: dict[str, TaskID] = {}

        def advance(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total)
            progress.update(tasks[stage], completed=done)

        outcome = Finetuning(
            images, WeightsFile.load_base(arguments.base), arguments.work, RECIPE
        ).run(advance)
    shutil.copyfile(outcome.weights, arguments.out)
    write_card(
        arguments.work, replace(outcome, weights=arguments.out), images, RECIPE, arguments.base.name
    )
    card = arguments.out.parent / "card"
    card.mkdir(exist_ok=True)
    for name in ("README.md", "training.png", "recall.png", "distances.png", "reliability.png"):
        shutil.copyfile(arguments.work / name, card / name)
    print(f"{arguments.out}: {outcome.version}, {arguments.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
