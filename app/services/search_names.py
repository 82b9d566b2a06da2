"""Names searches, so that the cursor of one is not taken for a place among the hits of another."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from app.services.examples import EmbeddedExample
from app.services.queries import FileExample, MasterExample, Query, VectorExample
from storage.hashing import sha256_of_file

_LENGTH = 16  # bytes


def name_search(examples: Sequence[EmbeddedExample], query: Query) -> str:
    """Return a name for what decides the distances and the selection of a search's hits.

    The number of hits on a page and what is returned of them do not.
    """
    options = query.options
    named = [
        [_name_example(each) for each in examples],
        [str(query.collection.id), repr(options.filter)],
        [options.max_distance, options.min_probability, options.mirror, options.turns],
    ]
    return hashlib.blake2b(repr(named).encode(), digest_size=_LENGTH).hexdigest()


def _name_example(embedded: EmbeddedExample) -> list[str]:
    example = embedded.example
    weight, box = repr(float(example.weight)), ""
    match example:
        case FileExample():
            what = (embedded.sha256 or sha256_of_file(example.file)).hex()
            box = repr(example.box)
        case MasterExample():
            what, box = str(example.master_id), repr(example.box)
        case VectorExample():
            what = embedded.vectors[0].tobytes().hex()
        case _:
            what = repr(example)
    return [type(example).__name__, embedded.version, weight, what, box]
