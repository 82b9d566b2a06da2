"""Makes the shipped weights: fine-tunes an ImageNet ResNet-50 on images of groceries and clothing.

    python models/weights/make_weights.py BASE.safetensors --grocery GROCERY --clothing CLOTHING

This needs the extra ``train`` and takes a quarter of an hour on two cores. An interrupted run
resumes if it is started again. It trains on the train and validation splits, without every third
coarse grocery class (in sorted order): those classes are reserved for testing.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

from rich.progress import Progress, TaskID

from models.labelled_images import LabelledImages
from models.training.card import write_card
from models.training.finetune import Finetuning
from models.training.recipe import Recipe
from models.weights_file import DEFAULT_WEIGHTS, WeightsFile

RECIPE = Recipe(views=4, held_out=0.15)


def collect_images(grocery: Path, clothing: Path) -> LabelledImages:
    """List the training images of both data sets.

    A class is a folder below the splits. Those of groceries are COARSE/FINE, so that varieties of
    one product are held out together.
    """
    reserved = set(sorted(folder.name for folder in (grocery / "train").iterdir())[2::3])
    images = LabelledImages(grocery.parent, [], [])
    for split in (grocery / "train", grocery / "val", clothing / "train", clothing / "validation"):
        for path in sorted(split.rglob("*.jpg")):
            label = path.parent.relative_to(split).as_posix()
            if label.partition("/")[0] not in reserved:
                images.paths.append(path)
                images.labels.append(label)
    return images


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "base", type=Path, help="ImageNet weights under torchvision's names, with the classifier"
    )
    parser.add_argument("--grocery", type=Path, required=True, help="GroceryStoreDataset")
    parser.add_argument("--clothing", type=Path, required=True, help="clothing-dataset-small")
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("build/weights"),
        help="directory for intermediate files (8 GB), which can be deleted afterwards",
    )
    parser.add_argument("--out", type=Path, default=DEFAULT_WEIGHTS, help="weights file to write")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    images = collect_images(arguments.grocery, arguments.clothing)
    base = WeightsFile.load_base(arguments.base)
    with Progress() as bars:
        tasks: dict[str, TaskID] = {}

        def progress(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done)

        result = Finetuning(images, base, arguments.work, RECIPE).run(progress)
    shutil.copyfile(result.weights, arguments.out)
    result = replace(result, weights=arguments.out)
    write_card(arguments.work, result, images, RECIPE, arguments.base.name)
    card = arguments.out.parent / "card"
    card.mkdir(exist_ok=True)
    for name in ("README.md", "training.png", "recall.png", "distances.png", "reliability.png"):
        shutil.copyfile(arguments.work / name, card / name)
    megabytes = arguments.out.stat().st_size / 1e6
    print(f"Wrote {arguments.out}: model version {result.version}, {megabytes:.1f} MB")


if __name__ == "__main__":
    main()
