"""Contact sheet of free phrases: what the built-in words find among the pictures of a folder.

    python -m benchmarks.phrases_sheet PICTURES docs/words.webp

The pictures are uploaded to a service, which is searched for each phrase over HTTP. The remarks
below are a person's judgement of the sheet in the documentation; with other pictures, or after a
change of the built-in words, judge the sheet again. The names of the pictures shown are printed,
because their licences must be stated beside the sheet.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from benchmarks.service import Client, encode_form, make_parser, run_lookalike
from models.labelled_images import find_image_files, load_image

REMARKS = {
    "dog": "Both dogs are found, but after a lion and a donkey.",
    "musical instrument": "All seven are right.",
    "vehicle": "All seven are right.",
    "fruit": "Five are right, the other fruits are missed.",
    "something to sit on": "The only seat comes first.",
    "red sports car": "Fails: cars of any colour. Colours are not known.",
    "person": "Fails: the two persons lead by chance. ImageNet has no class for persons.",
    "breakfast": "Fails: ImageNet lacks most meals, and the collection has none.",
}
HITS = 7
SIDE, GAP, LINE = 104, 8, 18  # pixels
INK, FAINT, PAPER = "#1f2328", "#59636e", "#ffffff"


@dataclass(frozen=True)
class Answer:
    """The hits of a phrase, nearest first, as picture and distance."""

    phrase: str
    understood: float
    hits: list[tuple[Path, float]]


def search_phrases(pictures: list[Path]) -> list[Answer]:
    """Upload the pictures to an empty service, and search it for all phrases."""
    with run_lookalike() as service:
        client, paths = Client(service.port), {}
        for path in pictures:
            uploaded = json.loads(
                client.post("/masters", encode_form([("file", path.read_bytes())]))
            )
            paths[uploaded["results"][0]["master"]["id"]] = path
        answers = []
        for phrase in REMARKS:
            body = encode_form([], {"text": phrase, "k": str(HITS)})
            found = json.loads(client.post("/search", body))
            hits = [(paths[hit["master"]["id"]], hit["distance"]) for hit in found["hits"]]
            answers.append(Answer(phrase, found["understood"], hits))
    return answers


def draw_sheet(answers: list[Answer]) -> Image.Image:
    """Draw a row per phrase: the phrase with its remark, then its hits with their distances."""
    row = LINE + SIDE + LINE + GAP
    sheet = Image.new("RGB", (GAP + HITS * (SIDE + GAP), GAP + len(answers) * row), PAPER)
    draw = ImageDraw.Draw(sheet)
    large, small = ImageFont.load_default(14), ImageFont.load_default(11)
    for number, answer in enumerate(answers):
        top = GAP + number * row
        draw.text((GAP, top), answer.phrase, fill=INK, font=large)
        right = GAP + draw.textlength(answer.phrase, large) + GAP
        remark = f"understood {answer.understood:.2f}. {REMARKS[answer.phrase]}"
        draw.text((right, top + 3), remark, fill=FAINT, font=small)
        for place, (path, distance) in enumerate(answer.hits):
            left = GAP + place * (SIDE + GAP)
            picture = ImageOps.pad(load_image(path), (SIDE, SIDE), color=PAPER)
            sheet.paste(picture, (left, top + LINE))
            draw.text((left, top + LINE + SIDE), f"{distance:.2f}", fill=FAINT, font=small)
    return sheet


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("pictures", type=Path, help="folder of pictures, at any depth")
    parser.add_argument("sheet", type=Path, help="WebP file to write")
    arguments = parser.parse_args()
    pictures = find_image_files(arguments.pictures)
    if len(pictures) < HITS:
        parser.error(f"{arguments.pictures} has {len(pictures)} pictures: name a folder with more")
    answers = search_phrases(pictures)
    draw_sheet(answers).save(arguments.sheet, quality=80, method=6)
    for answer in answers:
        print(f"{answer.phrase} (understood {answer.understood:.2f})")
        for path, distance in answer.hits:
            print(f"  {distance:.2f} {path.relative_to(arguments.pictures)}")


if __name__ == "__main__":
    main()
