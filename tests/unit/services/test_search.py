"""Searches and comparisons: what is found, in which order, and what is left out."""

from __future__ import annotations

import io
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from PIL import Image

from app.errors import Conflict, InvalidInput, NotFound
from app.services import ranking as ranking_module
from app.services.queries import FileExample, MasterExample, SearchOptions
from models.calibration import Calibration
from models.imaging import Box, ImageRejected
from storage.filter_parser import parse_filter
from storage.protocols import CaptureChange
from storage.records import VectorHit, VectorRecord
from tests.support.use_cases import UseCases, colours

OPTIONS = SearchOptions("default")


def options(**given: Any) -> SearchOptions:
    return SearchOptions(**({"collection": "default"} | given))


def mirrored(content: bytes) -> bytes:
    output = io.BytesIO()
    turned = Image.open(io.BytesIO(content)).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    turned.save(output, "PNG")
    return output.getvalue()


def turned(content: bytes, quarters: int) -> bytes:
    output = io.BytesIO()
    Image.open(io.BytesIO(content)).rotate(90 * quarters, expand=True).save(output, "PNG")
    return output.getvalue()


def slightly_different(content: bytes) -> bytes:
    pixels = np.asarray(Image.open(io.BytesIO(content))).copy()
    pixels[:4] = 255 - pixels[:4]
    output = io.BytesIO()
    Image.fromarray(pixels).save(output, "PNG")
    return output.getvalue()


def ids(result: Any) -> list[Any]:
    return [hit.master.id for hit in result.hits]


def test_the_same_bytes_are_an_exact_hit_before_they_are_indexed(
    use_cases: UseCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(use_cases.indexing, "index_inline", lambda *_: False)
        master = use_cases.upload(colours(1)).master
    result = use_cases.search.search([FileExample(io.BytesIO(colours(1)))], OPTIONS)
    (hit,) = result.hits
    assert (hit.master.id, hit.distance, hit.exact, hit.probability) == (master.id, 0.0, True, None)
    assert result.model_version == "model-1"


def test_hits_are_ordered_by_distance_and_none_comes_twice(use_cases: UseCases) -> None:
    masters = [use_cases.upload(colours(seed)).master.id for seed in range(5)]
    result = use_cases.search.search(
        [FileExample(io.BytesIO(slightly_different(colours(2))))], OPTIONS
    )
    assert ids(result)[0] == masters[2]
    assert sorted(ids(result)) == sorted(masters)
    distances = [hit.distance for hit in result.hits]
    assert distances == sorted(distances)
    assert not any(hit.exact for hit in result.hits)


def test_offset_and_k_select_a_part_of_the_hits(use_cases: UseCases) -> None:
    for seed in range(5):
        use_cases.upload(colours(seed))
    everything = use_cases.search.search([FileExample(io.BytesIO(colours(0)))], options(k=5))
    part = use_cases.search.search([FileExample(io.BytesIO(colours(0)))], options(k=2, offset=2))
    assert ids(part) == ids(everything)[2:4]


def test_hits_that_are_deleted_are_replaced_by_further_ones(use_cases: UseCases) -> None:
    masters = [use_cases.upload(colours(seed)).master for seed in range(8)]
    sample = slightly_different(colours(0))
    order = ids(use_cases.search.search([FileExample(io.BytesIO(sample))], options(k=8)))
    for id_ in order[:3]:
        assert use_cases.stores.metadata.delete_master(id_)  # its vector stays
    result = use_cases.search.search([FileExample(io.BytesIO(sample))], options(k=2))
    assert ids(result) == order[3:5]
    assert len(masters) == 8


def test_a_vector_with_outdated_attributes_does_not_pass_the_filter(
    use_cases: UseCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    master = use_cases.upload(colours(1), attributes={"colour": "red"}).master
    red = options(filter=parse_filter({"colour": "red"}))
    sample = slightly_different(colours(1))
    assert ids(use_cases.search.search([FileExample(io.BytesIO(sample))], red)) == [master.id]
    use_cases.stores.metadata.update_master(master.id, name=None, attributes={"colour": "blue"})
    assert ids(use_cases.search.search([FileExample(io.BytesIO(sample))], red)) == []
    assert ids(use_cases.search.search([FileExample(io.BytesIO(colours(1)))], red)) == []


def test_a_filter_reaches_what_a_file_says_once_it_was_read(use_cases: UseCases) -> None:
    one, two = (use_cases.upload(colours(seed), name=f"IMG_{seed}.png").master for seed in range(2))
    metadata = use_cases.stores.metadata
    captures = [{"time": 1_714_521_600_000, "gps": {"latitude": 47.4, "longitude": 8.5}}, {}]
    changes = [
        CaptureChange(master, capture, master.name, master.attributes)
        for master, capture in zip((one, two), captures, strict=True)
    ]
    assert metadata.save_captures(99, changes) == 2
    for master in (one, two):
        changed = metadata.find_master(master.id)
        assert changed is not None
        use_cases.indexing.reindex_inline(changed, "somebody")
    sample = slightly_different(colours(0))
    for form, found in (
        ({"name": {"$prefix": "IMG_"}}, {one.id, two.id}),
        ({"name": {"$like": "%_1.png"}}, {two.id}),
        ({"mime": "image/png", "width": {"$gte": 64}}, {one.id, two.id}),
        ({"capture.time": {"$gte": "2024-05-01", "$lt": "2024-05-02"}}, {one.id}),
        ({"capture.gps": {"$within": [5.9, 45.8, 10.5, 47.8]}}, {one.id}),
        ({"capture.time": {"$exists": False}}, {two.id}),
        ({"created_at": {"$lt": "2000-01-01"}}, set()),
    ):
        result = use_cases.search.search(
            [FileExample(io.BytesIO(sample))], options(filter=parse_filter(form))
        )
        assert set(ids(result)) == found, form


def test_a_maximum_distance_leaves_farther_hits_out(use_cases: UseCases) -> None:
    near = use_cases.upload(colours(0)).master.id
    use_cases.upload(colours(1))
    sample = io.BytesIO(slightly_different(colours(0)))
    nearest = use_cases.search.search([FileExample(sample)], OPTIONS).hits[0].distance
    for limit, found in ((nearest, [near]), (nearest - 1e-4, [])):
        result = use_cases.search.search([FileExample(sample)], options(max_distance=limit))
        assert ids(result) == found


def test_a_box_searches_with_a_part_of_the_sample(use_cases: UseCases) -> None:
    whole = use_cases.upload(colours(1)).master.id
    result = use_cases.search.search(
        [FileExample(io.BytesIO(colours(1)), Box(0, 0, 64, 48))], OPTIONS
    )
    (hit,) = result.hits
    assert (hit.master.id, hit.exact) == (whole, False)


def test_a_mirrored_search_takes_the_smaller_distance(use_cases: UseCases) -> None:
    master = use_cases.upload(colours(1)).master.id
    sample = mirrored(colours(1))
    (plain,) = use_cases.search.search([FileExample(io.BytesIO(sample))], OPTIONS).hits
    (both,) = use_cases.search.search([FileExample(io.BytesIO(sample))], options(mirror=True)).hits
    assert plain.master.id == both.master.id == master
    assert both.distance < 1e-5 < plain.distance


@pytest.mark.parametrize("quarters", [1, 2, 3])
@pytest.mark.parametrize("flip", [False, True])
def test_a_search_with_turns_takes_the_smallest_distance(
    use_cases: UseCases, quarters: int, flip: bool
) -> None:
    master = use_cases.upload(colours(1)).master.id
    use_cases.upload(colours(2))
    sample = turned(mirrored(colours(1)) if flip else colours(1), quarters)

    def distance(**given: Any) -> float:
        hits = use_cases.search.search([FileExample(io.BytesIO(sample))], options(**given)).hits
        assert len(hits) == 2
        return next(hit.distance for hit in hits if hit.master.id == master)

    plain, turns = distance(), distance(turns=True)
    every = distance(turns=True, mirror=True)
    assert every < 1e-5 < plain
    assert (turns < 1e-5) == (not flip)


def test_the_exact_master_stays_first_in_every_view(use_cases: UseCases) -> None:
    masters = [
        use_cases.upload(turned(colours(1), quarters)).master.id for quarters in (1, 0, 2, 3)
    ]
    found = use_cases.search.search(
        [FileExample(io.BytesIO(turned(colours(1), 0)))], options(turns=True, mirror=True)
    )
    assert set(ids(found)) == set(masters)
    assert (found.hits[0].master.id, found.hits[0].exact) == (masters[1], True)
    assert all(hit.distance < 1e-5 for hit in found.hits)
    by_master = use_cases.search.search([MasterExample(masters[1])], options(turns=True))
    assert by_master.hits == found.hits


@pytest.mark.parametrize(
    ("count", "given", "allowed"),
    [
        (20, {"mirror": True}, True),
        (10, {"turns": True}, True),
        (11, {"turns": True}, False),
        (5, {"turns": True, "mirror": True}, True),
        (6, {"turns": True, "mirror": True}, False),
    ],
)
def test_the_views_of_a_search_are_bounded(
    use_cases: UseCases, count: int, given: dict[str, bool], allowed: bool
) -> None:
    master = use_cases.upload(colours(1)).master.id
    calls = use_cases.embedder.calls
    examples = [MasterExample(master)] * count
    if allowed:
        assert use_cases.search.search(examples, options(**given)).hits
        return
    with pytest.raises(InvalidInput, match="at most 40 views"):
        use_cases.search.search(examples, options(**given))
    assert use_cases.embedder.calls == calls


def test_a_search_by_a_master_uses_its_stored_vector(use_cases: UseCases) -> None:
    masters = [use_cases.upload(colours(seed)).master.id for seed in range(3)]
    calls = use_cases.embedder.calls
    by_master = use_cases.search.search([MasterExample(masters[1])], OPTIONS)
    assert use_cases.embedder.calls == calls
    by_sample = use_cases.search.search([FileExample(io.BytesIO(colours(1)))], OPTIONS)
    assert ids(by_master) == ids(by_sample)
    assert by_master.hits[0].exact


@pytest.mark.parametrize(("box", "mirror"), [(None, True), (Box(0, 0, 32, 32), False)])
def test_a_changed_master_is_embedded_anew(
    use_cases: UseCases, box: Box | None, mirror: bool
) -> None:
    master = use_cases.upload(colours(1)).master.id
    calls = use_cases.embedder.calls
    assert use_cases.search.search([MasterExample(master, box)], options(mirror=mirror)).hits
    assert use_cases.embedder.calls > calls


def test_a_master_without_a_vector_is_searched_by_its_bytes(use_cases: UseCases) -> None:
    master = use_cases.upload(colours(1)).master.id
    use_cases.stores.vectors.delete("model-1", [master])
    assert ids(use_cases.search.search([MasterExample(master)], OPTIONS)) == [master]


def test_what_does_not_exist_is_not_found(use_cases: UseCases) -> None:
    with pytest.raises(NotFound, match="no master"):
        use_cases.search.search([MasterExample(uuid4())], OPTIONS)
    with pytest.raises(NotFound, match="no collection"):
        use_cases.search.search([FileExample(io.BytesIO(colours(1)))], options(collection="cats"))


def test_a_probability_needs_a_calibrated_model(use_cases: UseCases) -> None:
    with pytest.raises(Conflict, match="has no calibration") as caught:
        use_cases.search.search([FileExample(io.BytesIO(colours(1)))], options(min_probability=0.5))
    assert caught.value.code == "not-calibrated"


def test_a_minimum_probability_selects_by_what_is_shown(use_cases: UseCases) -> None:
    use_cases.embedder.calibration = Calibration(intercept=2.0, slope=4.0)
    for seed in range(4):
        use_cases.upload(colours(seed))
    sample = slightly_different(colours(0))
    hits = use_cases.search.search([FileExample(io.BytesIO(sample))], OPTIONS).hits
    shown = [hit.probability for hit in hits]
    assert shown == sorted(shown, reverse=True)
    for count, probability in enumerate(shown, 1):
        kept = use_cases.search.search(
            [FileExample(io.BytesIO(sample))], options(min_probability=probability)
        )
        assert len(kept.hits) == count
    nearer = options(min_probability=shown[-1], max_distance=hits[0].distance)
    assert len(use_cases.search.search([FileExample(io.BytesIO(sample))], nearer).hits) == 1


def test_a_probability_of_one_finds_exact_hits_alone(use_cases: UseCases) -> None:
    use_cases.embedder.calibration = Calibration(intercept=-50.0, slope=20.0)
    master = use_cases.upload(colours(0)).master.id
    use_cases.upload(colours(1))
    certain = options(min_probability=1.0)
    (hit,) = use_cases.search.search([FileExample(io.BytesIO(colours(0)))], certain).hits
    assert (hit.master.id, hit.probability) == (master, 1.0)


def test_more_hits_are_requested_until_enough_are_live(
    use_cases: UseCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    master = use_cases.upload(colours(0)).master.id
    vectors, reaches = use_cases.stores.vectors, []

    def crowded(_version: str, _collection: Any, _vector: Any, reach: int, *_: Any) -> Any:
        reaches.append(reach)
        unknown = [VectorHit(uuid4(), 0.1) for _ in range(reach)]
        return unknown if reach < 8 else [*unknown[:5], VectorHit(master, 0.2)]

    monkeypatch.setattr(vectors, "search", crowded)
    sample = io.BytesIO(slightly_different(colours(0)))
    assert ids(use_cases.search.search([FileExample(sample)], options(k=2))) == [master]
    assert reaches == [2, 4, 8]


def test_two_images_are_compared(use_cases: UseCases) -> None:
    same = use_cases.search.compare_images(io.BytesIO(colours(1)), io.BytesIO(colours(1)))
    assert (same.distance, same.exact, same.probability) == (0.0, True, None)
    use_cases.embedder.calibration = Calibration(intercept=2.0, slope=20.0)
    near = use_cases.search.compare_images(
        io.BytesIO(colours(1)), io.BytesIO(slightly_different(colours(1)))
    )
    far = use_cases.search.compare_images(io.BytesIO(colours(1)), io.BytesIO(colours(2)))
    assert 0 < near.distance < far.distance <= 2
    assert near.probability > far.probability
    assert not near.exact


def test_bytes_that_are_no_image_are_not_the_same_image(use_cases: UseCases) -> None:
    with pytest.raises(ImageRejected):
        use_cases.search.compare_images(io.BytesIO(b"no image"), io.BytesIO(b"no image"))


class TestManyHitsThatAreNotLive:
    """Deleted masters whose vectors are left, or a filter that the vector store cannot express."""

    @pytest.fixture
    def shop(self, use_cases: UseCases, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
        """Four live masters behind forty deleted ones."""
        monkeypatch.setattr(ranking_module, "_FAR", 8)
        masters = [
            use_cases.upload(colours(seed), attributes={"n": seed}).master for seed in range(4)
        ]
        collection = masters[0].collection_id
        sample = use_cases.stores.vectors.fetch_vectors("model-1", [masters[0].id])
        near = sample[masters[0].id].parts
        deleted = [VectorRecord(uuid4(), collection, near, {"n": 9}, 1) for _ in range(40)]
        use_cases.stores.vectors.upsert("model-1", deleted)
        return masters

    @pytest.mark.parametrize("few", [1, 3, 4, 10_000])
    @pytest.mark.parametrize("given", [{}, {"max_distance": 1.9}, {"mirror": True}])
    def test_all_live_masters_are_found(
        self,
        use_cases: UseCases,
        shop: list[Any],
        monkeypatch: pytest.MonkeyPatch,
        few: int,
        given: dict[str, Any],
    ) -> None:
        """Whether they are few enough to be compared one by one or not, the answer is the same."""
        monkeypatch.setattr(ranking_module, "_FEW", few)
        sample = io.BytesIO(slightly_different(colours(0)))
        expected = use_cases.search.search([FileExample(sample)], options(k=100, **given)).hits
        assert len(expected) == 4
        for k in range(1, 6):
            hits = use_cases.search.search([FileExample(sample)], options(k=k, **given)).hits
            assert hits == expected[:k]

    def test_the_reach_stays_bounded_if_few_masters_match(
        self, use_cases: UseCases, shop: list[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The vector store ignores the filter here, as Milvus does with a negation."""
        vectors, reaches = use_cases.stores.vectors, []
        search = vectors.search

        def search_without_filter(*given: Any) -> Any:
            reaches.append(given[3])
            return search(*given[:4], None, *given[5:])

        monkeypatch.setattr(vectors, "search", search_without_filter)
        rare = options(k=3, filter=parse_filter({"n": {"$nin": [0, 1, 9]}}))
        result = use_cases.search.search([FileExample(io.BytesIO(colours(0)))], rare)
        assert sorted(ids(result)) == sorted(master.id for master in shop[2:])
        assert max(reaches) < 16

    def test_masters_that_an_approximate_index_loses_behind_the_others_are_found(
        self, use_cases: UseCases, shop: list[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        search = use_cases.stores.vectors.search
        monkeypatch.setattr(use_cases.stores.vectors, "search", lambda *given: search(*given)[:12])
        sample = io.BytesIO(slightly_different(colours(0)))
        result = use_cases.search.search([FileExample(sample)], options(k=4))
        assert sorted(ids(result)) == sorted(master.id for master in shop)
