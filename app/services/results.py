"""What a search returns of the masters that it finds, step by step.

1. nearest: the masters in the order of their distances, the one with the sample's bytes first
2. group: the nearest one for each value at a path
3. collapse: one of several that are nearly the same picture
4. page: those from the offset on, or behind a position
5. sort: these in another order
6. facets: the values that the nearest masters have, whatever steps 2 to 5 leave of them
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from app.errors import InvalidInput
from app.metrics import Metrics
from app.services.collapsing import Duplicates, collapse_duplicates
from app.services.facets import Facets, count_values
from app.services.grouping import Group, fill_groups, find_first_of_groups
from app.services.queries import MAX_REACH, HitPosition, Query, SearchOptions
from app.services.ranking import Hit, Ranking
from app.services.stored_vectors import StoredVectors
from storage.sorting import Sort, sort_key

BY_DISTANCE = ("distance",)
MAX_GROUPS = 1000  # offset + k of a search that groups or folds hits
MAX_PASSED = 100_000  # hits that a walk from page to page goes through
MAX_FACETS = 10
MAX_GROUP_SIZE = 10


@dataclass(frozen=True)
class Results:
    """The hits of an answer. ``groups`` and ``duplicates`` are by the ids of hits.

    ``last`` is the hit whose place the next page begins behind; None if there is no next page.
    """

    hits: list[Hit]
    groups: dict[UUID, Group] | None = None
    duplicates: Duplicates | None = None
    facets: Facets | None = None
    last: Hit | None = None

    @property
    def ids(self) -> list[UUID]:
        """The ids of all hits, with those inside the groups."""
        inside = [hit for group in (self.groups or {}).values() for hit in group.more]
        return [hit.master.id for hit in (*self.hits, *inside)]


class FindResults:
    """Answers queries. Every method may raise StoreUnavailable."""

    def __init__(self, ranking: Ranking, vectors: StoredVectors, metrics: Metrics) -> None:
        self._ranking = ranking
        self._vectors = vectors
        self._metrics = metrics

    def find(self, query: Query) -> Results:
        """Return what the options of a query ask for. Raises Conflict, Unavailable."""
        options = query.options
        wanted, asked = options.offset + options.k, options.results
        find_first = partial(self._ranking.find_hits, query)
        groups, duplicates = None, None
        if asked.group_by is not None:
            find_first = partial(find_first_of_groups, self._ranking, query, asked.group_by)
        if asked.collapse_duplicates is not None:
            fetch = partial(self._vectors.fetch, query.views[0][0].version)
            hits, duplicates = collapse_duplicates(
                find_first, fetch, wanted, asked.collapse_duplicates
            )
        elif asked.after is not None:
            hits = self._ranking.find_hits_behind(query, asked.after, wanted)
        else:
            hits = find_first(wanted)
        page = hits[options.offset : wanted]
        if asked.group_by is not None:
            groups = fill_groups(self._ranking, query, asked.group_by, page, asked.group_size)
        self._metrics.searches.inc()
        return Results(
            _in_order(page, asked.sort),
            groups,
            duplicates,
            facets=self._count_facets(query) if asked.facets else None,
            last=page[-1] if len(page) == options.k and _has_pages(options) else None,
        )

    def _count_facets(self, query: Query) -> Facets:
        """Count among the masters within the maximum distance, or among the k nearest."""
        options = query.options
        unlimited = options.max_distance is None and options.min_probability is None
        if unlimited:
            hits, complete = self._ranking.find_hits(query, options.k), True
        else:
            found = self._ranking.find_hits(query, MAX_REACH + 1)
            hits, complete = found[:MAX_REACH], len(found) <= MAX_REACH
        facets = [count_values(hits, path) for path in options.results.facets]
        return Facets(facets, len(hits), complete)


def _in_order(hits: Sequence[Hit], sort: Sort | None) -> list[Hit]:
    if sort is None:
        return list(hits)
    if sort.path == BY_DISTANCE:
        return list(reversed(hits)) if sort.descending else list(hits)
    return sorted(hits, key=lambda hit: sort_key(hit.master, sort), reverse=sort.descending)


def _has_pages(options: SearchOptions) -> bool:
    """Return whether each hit has a place of its own, which later pages can begin behind.

    The vector of a text that follows its first hits changes with them.
    """
    asked = options.results
    return asked.group_by is None and asked.collapse_duplicates is None and not options.feedback


def position_behind(hit: Hit, options: SearchOptions, search: str) -> HitPosition:
    """Return the place behind the last hit of a page."""
    before = options.results.after.passed if options.results.after else options.offset
    distance = -1.0 if hit.exact else hit.distance
    return HitPosition(distance, hit.master.id, before + options.k, search)


def check_results(options: SearchOptions) -> None:
    """Raise InvalidInput for options that contradict each other, or ask for too much."""
    asked, reach = options.results, options.offset + options.k
    grouped = asked.group_by is not None
    if (grouped or asked.collapse_duplicates is not None) and reach > MAX_GROUPS:
        detail = (
            f"offset + k of a search with group_by or collapse_duplicates is at most {MAX_GROUPS}."
        )
        raise InvalidInput("invalid-request", detail)
    if asked.group_size > 1 and not grouped:
        raise InvalidInput("invalid-request", "group_size needs group_by. Add it, or leave it out.")
    if options.k * asked.group_size > MAX_GROUPS:
        detail = f"k times group_size is at most {MAX_GROUPS}."
        raise InvalidInput("invalid-request", detail)
    if asked.after is not None:
        _check_position(options, asked.after)


def _check_position(options: SearchOptions, after: HitPosition) -> None:
    if options.offset:
        detail = "A cursor says where a page begins. Leave out offset or cursor."
        raise InvalidInput("invalid-request", detail)
    if not _has_pages(options):
        detail = (
            "cursor goes with neither group_by, collapse_duplicates nor feedback. Leave them out,"
            " or page with offset."
        )
        raise InvalidInput("invalid-request", detail)
    if after.passed + options.k > MAX_PASSED:
        detail = (
            f"Pages lead through the first {MAX_PASSED} hits. Search for fewer with filter or"
            " max_distance."
        )
        raise InvalidInput("invalid-request", detail)
