"""Search by words over 100,000 masters in the service's own process, compared with other searches.

    make bench-text-search

Each round searches with a class name, with a sentence, with a stored master, whose vector needs no
embedding, and in the vector store alone. over_vectors_ms and over_master_ms say how much longer a
search with a class name takes than the vector store alone and than the search with a master. All
are medians.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from app.bootstrap import run_service
from app.container import Services
from app.services.queries import MasterExample, SearchOptions, TextExample
from app.settings import Settings
from benchmarks.bench_search import (
    ROUNDS,
    WARM_UP,
    draw_unit_vectors,
    fill_installation,
    print_times,
    time_rounds,
)
from benchmarks.service import make_parser
from models.weights_file import DEFAULT_WEIGHTS, WeightsFile
from models.words.look_words import LookWords

COLLECTION = "default"
VECTORS, EMBED = "vector store alone", "embed a class name alone"
MASTER, NAME, SENTENCE = "search by master", "search by class name", "search by sentence"


def list_searches(services: Services, weights: WeightsFile) -> dict[str, Callable[[int], object]]:
    """Return the searches to compare, by name; each takes the number of the round."""
    count = ROUNDS + WARM_UP
    rng = np.random.default_rng(3)
    words = LookWords()
    names = rng.permutation(sorted(set(words.class_names)))[:count].tolist()
    vectors = draw_unit_vectors(rng, count)
    page = services.masters.list_masters(COLLECTION, None, count, None)
    masters = [master.id for master in page.masters]
    collection = services.collections.find_collection(COLLECTION).id
    search, store = services.search, services.stores.vectors
    options = SearchOptions(COLLECTION)

    def search_words(text: str) -> object:
        return search.search([TextExample(text)], options)

    return {
        VECTORS: lambda n: store.search(weights.version, collection, vectors[n], 10),
        EMBED: lambda n: words.embed_text(names[n], weights),
        MASTER: lambda n: search.search([MasterExample(masters[n])], options),
        NAME: lambda n: search_words(names[n]),
        SENTENCE: lambda n: search_words(f"a photograph of a {names[n]} beside an open window"),
    }


def main() -> None:
    make_parser(__doc__).parse_args()
    weights = WeightsFile.load(DEFAULT_WEIGHTS)
    with tempfile.TemporaryDirectory() as directory:
        fill_installation(Path(directory), weights.version)
        settings = Settings(data_dir=Path(directory), worker="off")
        with run_service(settings) as services:
            times = time_rounds(list_searches(services, weights))
    print_times(times)
    medians = {name: statistics.median(values) for name, values in times.items()}
    result = {
        "text_ms": round(medians[NAME], 1),
        "sentence_ms": round(medians[SENTENCE], 1),
        "master_ms": round(medians[MASTER], 1),
        "vectors_ms": round(medians[VECTORS], 1),
        "over_vectors_ms": round(medians[NAME] - medians[VECTORS], 1),
        "over_master_ms": round(medians[NAME] - medians[MASTER], 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
