"""Answers searches in the form in which clients get them."""

from __future__ import annotations

import time
from collections.abc import Sequence

from app.http import schemas
from app.http.cursors import write_hit_cursor
from app.services.facets import Facets
from app.services.queries import Example, SearchOptions
from app.services.ranking import Hit
from app.services.search import Search, SearchResult

_IDS_SHOWN = 100  # of the duplicates of a hit


def answer_search(
    search: Search, examples: Sequence[Example], options: SearchOptions
) -> schemas.SearchAnswer:
    """Search, and return the answer. Raises what ``Search.search`` raises."""
    start = time.perf_counter()
    found = search.search(examples, options)
    return schemas.SearchAnswer.model_construct(
        hits=[_hit(hit, found, options) for hit in found.hits],
        model_version=found.model_version,
        took_ms=round((time.perf_counter() - start) * 1000, 2),
        space=found.space,
        understood=found.understood,
        warnings=list(found.warnings),
        model_versions=found.versions,
        next_cursor=None if found.next_page is None else write_hit_cursor(found.next_page),
        facets=None if found.facets is None else _facets(found.facets),
    )


def _hit(hit: Hit, found: SearchResult, options: SearchOptions) -> schemas.Hit:
    parts = group = duplicates = None
    id_ = hit.master.id
    if found.parts is not None:
        parts = [
            schemas.Part.of(
                space, found.versions[space], part, with_vector="vector" in options.include
            )
            for space, part in found.parts[id_].items()
        ]
    if found.groups is not None and id_ in found.groups:
        value, more = found.groups[id_].value, found.groups[id_].more
        group = schemas.Group.model_construct(
            value=value, more=[_hit(each, found, options) for each in more]
        )
    if found.duplicates is not None and id_ in found.duplicates:
        ids = found.duplicates[id_]
        duplicates = schemas.Duplicates.model_construct(count=len(ids), ids=ids[:_IDS_SHOWN])
    return schemas.Hit.model_construct(
        master=schemas.Master.of(hit.master),
        distance=hit.distance,
        score=schemas.score_of(hit.distance),
        exact=hit.exact,
        probability=hit.probability,
        parts=parts,
        group=group,
        duplicates=duplicates,
    )


def _facets(found: Facets) -> schemas.Facets:
    return schemas.Facets(
        masters=found.masters,
        complete=found.complete,
        paths=[
            schemas.Facet(
                path=".".join(facet.path),
                masters=facet.masters,
                values=[
                    schemas.FacetValue.model_construct(value=value, count=count)
                    for value, count in facet.values
                ],
                others=facet.others,
            )
            for facet in found.facets
        ],
    )
