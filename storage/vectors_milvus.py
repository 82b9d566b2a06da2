"""The vector store on a Milvus server: one physical collection per model version."""

from __future__ import annotations

import math
import re
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from uuid import UUID

import numpy as np
from cachetools import TTLCache
from numpy.typing import NDArray
from pymilvus import MilvusClient

from storage import filters_milvus, milvus_rows
from storage.filters import Filter
from storage.milvus_connection import LISTS, Layout, MilvusConnection
from storage.milvus_pages import SearchPage, SearchQuery, merge_pages, nearest_parts
from storage.milvus_rows import SLICES
from storage.records import LoadProgress, VectorHit, VectorRecord, check_dimension, check_length
from storage.shared_calls import SharedCalls
from storage.store_urls import MilvusOptions

LARGEST_LIMIT = 16_384  # hits of one search, the bound of Milvus
_BATCH = 500  # rows written or read at once
_ITERATED = 4096  # ids read at once
_HARMLESS_SHARE = 0.5  # HNSW keeps its recall if the filter passes this share of the vectors
_COUNTS_LAST = 10.0  # seconds that a count is remembered
_HAS_SEVERAL = "parts > 1"  # the filter for rows of masters with several parts
_GROWTH = 2000  # vectors by which a remembered count may be wrong
_SPARE = 100  # hits more than a slice has on average


class MilvusVectorStore:
    """VectorStore on Milvus 2.3.5 or later, for any number of processes."""

    def __init__(self, uri: str, options: MilvusOptions, *, timeout: float = 10.0) -> None:
        """Prepare the store. ``timeout`` in seconds bounds every call."""
        self._options = options
        self._timeout = timeout
        self._connection = MilvusConnection(uri, options, timeout)
        self._counts: TTLCache[tuple[str, str], int] = TTLCache(maxsize=1024, ttl=_COUNTS_LAST)
        self._counts_lock = threading.Lock()
        self._pool = ThreadPoolExecutor(2 * SLICES, thread_name_prefix="milvus-search")
        self._upserts = SharedCalls(self._upsert_shared, patience=timeout / 2)

    def upsert(self, version: str, records: Sequence[VectorRecord]) -> None:
        name = self._name(version)
        dimension = check_dimension(records, None)
        if dimension is None:
            return
        layout = self._connection.ensure_collection(name, dimension)
        check_dimension(records, layout.dimension)
        rows = [
            row
            for record in records
            for row in milvus_rows.make_rows(record, has_parts=layout.has_parts)
        ]
        # Surplus parts are deleted first. The upsert overwrites the stored number of parts, without
        # which a retry could not find them.
        parts = {record.master_id: len(record.parts) for record in records}
        self._delete_keys(name, self._list_surplus(name, layout, parts))
        if len(records) == 1:
            self._upserts.send((name, rows), group=name, key=records[0].master_id)
        else:
            self._upsert_batches(name, rows)
        if len(rows) > len(records):
            self._remember_count(name, _HAS_SEVERAL, len(rows))

    def _upsert_shared(self, sent: list[tuple[str, list[dict[str, Any]]]]) -> list[None]:
        """Upsert the rows of several masters, whose threads wait, into one collection.

        Milvus would keep both rows if it got the same master twice at once.
        """
        self._upsert_batches(sent[0][0], [row for _, rows in sent for row in rows])
        return [None] * len(sent)

    def _upsert_batches(self, name: str, rows: list[dict[str, Any]]) -> None:
        for start in range(0, len(rows), _BATCH):
            some = rows[start : start + _BATCH]
            self._connection.call(partial(self._upsert_rows, name, some))

    def _upsert_rows(self, name: str, rows: list[dict[str, Any]], client: MilvusClient) -> None:
        client.upsert(name, rows, timeout=self._timeout)

    def delete(self, version: str, ids: Sequence[UUID]) -> None:
        name = self._name(version)
        layout = self._connection.find_collection(name)
        if layout is None:
            return
        keys = [str(id_) for id_ in ids]
        keys += self._list_surplus(name, layout, dict.fromkeys(ids, 1))
        self._delete_keys(name, keys)

    def _list_surplus(self, name: str, layout: Layout, kept: dict[UUID, int]) -> list[str]:
        """Return the keys of the stored parts of each master from the number ``kept[id]`` on.

        Nothing is read while no master of the version has several parts, so that versions with one
        part per master stay fast to write. This process notices within ten seconds that another one
        has written the first master with several parts.
        """
        if not layout.has_parts or not self._recent_count(name, _HAS_SEVERAL):
            return []
        found = self._query_keys(name, [str(id_) for id_ in kept], ["id", "parts"])
        return [
            milvus_rows.make_key(id_, number)
            for id_, parts in ((UUID(row["id"]), row["parts"]) for row in found)
            for number in range(kept[id_], parts)
        ]

    def _delete_keys(self, name: str, keys: list[str]) -> None:
        for start in range(0, len(keys), _BATCH):
            some = keys[start : start + _BATCH]
            self._connection.call(partial(self._delete_rows, name, some))

    def _delete_rows(self, name: str, keys: list[str], client: MilvusClient) -> None:
        client.delete(name, ids=keys, timeout=self._timeout)

    def versions(self) -> list[str]:
        prefix = self._name("")
        names = self._connection.call(lambda client: client.list_collections(timeout=self._timeout))
        ours = (name.removeprefix(prefix) for name in names if name.startswith(prefix))
        return sorted(_version(name) for name in ours)

    def drop_version(self, version: str) -> None:
        self._connection.drop_collection(self._name(version))

    def iterate_ids(self, version: str) -> Iterator[list[UUID]]:
        name = self._name(version)
        layout = self._connection.find_collection(name)
        if layout is None:
            return
        rows = self._connection.call(
            lambda client: client.query_iterator(
                name,
                filter=_first_parts(layout),
                batch_size=_ITERATED,
                output_fields=["id"],
                consistency_level="Strong",
                timeout=self._timeout,
            )
        )
        while batch := self._connection.call(lambda _: rows.next()):
            yield [UUID(row["id"]) for row in batch]
        rows.close()

    def fetch_vectors(self, version: str, ids: Sequence[UUID]) -> dict[UUID, VectorRecord]:
        name = self._name(version)
        layout = self._connection.find_collection(name) if ids else None
        if layout is None:
            return {}
        fields = milvus_rows.list_fields(has_parts=layout.has_parts)
        rows = self._query_keys(name, [str(id_) for id_ in ids], fields)
        others = [
            milvus_rows.make_key(UUID(row["id"]), number)
            for row in rows
            for number in range(1, row.get("parts", 1))
        ]
        by_master: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in rows + self._query_keys(name, others, fields):
            by_master[row["id"].partition("/")[0]].append(row)
        records = map(milvus_rows.read_record, by_master.values())
        return {record.master_id: record for record in records if record is not None}

    def search(
        self,
        version: str,
        collection_id: UUID,
        vector: NDArray[np.float32],
        limit: int,
        filter: Filter | None = None,
        max_distance: float | None = None,
    ) -> list[VectorHit]:
        name = self._name(version)
        layout = self._connection.find_collection(name)
        if layout is None:
            return []
        check_length(vector, layout.dimension)
        chosen = f"collection_key == {milvus_rows.make_collection_key(collection_id)}"
        if filter is not None and (expression := filters_milvus.expression(filter)):
            chosen += f" && {expression}"
        query = SearchQuery(name, chosen, vector, ("box",) if layout.has_parts else ())
        farthest = math.inf if max_distance is None else max_distance
        for hits, horizon in self._reach_farther(query, limit):
            enough = len(hits) >= limit and hits[limit - 1].distance <= horizon
            if enough or horizon > farthest:
                break
        return [hit for hit in hits[:limit] if hit.distance <= farthest]

    def _reach_farther(
        self, query: SearchQuery, reach: int
    ) -> Iterator[tuple[list[VectorHit], float]]:
        """Search for at least ``reach`` parts, and then for more and more of them.

        Yields the masters that have them, each by its nearest part, and the distance up to which no
        master is missing, which is infinite at the end. Several parts of one master may be the
        nearest, and so may thousands of masters that the caller knows to be deleted.
        """
        while reach <= LARGEST_LIMIT:
            plan = [SearchPage(*one) for one in self._plan(query.name, query.chosen, reach)]
            hits, horizon = merge_pages(plan, self._search_pages(query, plan))
            yield hits, horizon
            if horizon == math.inf:
                return
            reach *= 4
        # A slice has so few of the vectors that Milvus compares with each of them.
        slices = [f" && slice == {number}" for number in range(SLICES)]
        for most in sorted({min(2 * reach // SLICES + _SPARE, LARGEST_LIMIT), LARGEST_LIMIT}):
            plan = [SearchPage(one, most) for one in slices]
            answers = self._search_pages(query, plan)
            hits, horizon = merge_pages(plan, answers)
            yield hits, horizon
            if horizon == math.inf:
                return
        found = [hit for answer in answers for hit in answer]
        while plan := [
            page.next(answer)
            for page, answer in zip(plan, answers, strict=True)
            if len(answer) >= page.most
        ]:
            answers = self._search_pages(query, plan)
            found += [hit for answer in answers for hit in answer]
            yield nearest_parts(found), merge_pages(plan, answers)[1]

    def _search_pages(self, query: SearchQuery, plan: list[SearchPage]) -> list[list[VectorHit]]:
        # With Strong consistency a search waits for the server's next tick: run them in parallel.
        run = self._pool.map if len(plan) > 1 else map
        return list(run(partial(self._search_page, query), plan))

    def _search_page(self, query: SearchQuery, page: SearchPage) -> list[VectorHit]:
        name, chosen, vector = query.name, query.chosen + page.condition, query.vector
        limit, output = page.most, list(query.output)
        # Milvus silently ignores parameters of the index outside `params`.
        parameters = {
            "metric_type": "COSINE",
            "params": _search_width(self._options.index, self._options.ef, limit) | page.bounds,
        }
        answer = self._connection.call(
            lambda client: client.search(
                name,
                data=[vector.tolist()],
                anns_field="vector",
                filter=chosen,
                limit=limit,
                output_fields=output,
                search_params=parameters,
                consistency_level=self._options.consistency,
                timeout=self._timeout,
            )
        )
        return [milvus_rows.read_hit(found) for found in answer[0]]

    def _plan(self, name: str, chosen: str, limit: int) -> list[tuple[str, int]]:
        """Return one search, or several whose hits are merged, as (addition to the filter, limit).

        A walk through the graph of HNSW ends early, with few hits or none, if most vectors on its
        way do not match the filter. Milvus compares with every match instead if less than 7 % of
        the vectors match, or if the limit is at least half the number of matches. The limit is
        therefore raised to that. If this is more than Milvus returns, the matches are searched in
        slices, each of which is small enough.
        """
        if self._options.index != "HNSW":
            return [("", limit)]
        matching = self._recent_count(name, chosen)
        if matching >= self._recent_count(name, "") * _HARMLESS_SHARE:
            return [("", limit)]
        reach = max(limit, matching // 2 + _GROWTH)
        if reach <= LARGEST_LIMIT:
            return [("", reach)]
        return [(f" && slice == {number}", limit) for number in range(SLICES)]

    def _recent_count(self, name: str, chosen: str) -> int:
        """Return the number of vectors that match, which may be some seconds old."""
        with self._counts_lock:
            known = self._counts.get((name, chosen))
        if known is None:
            known = self._count(name, chosen, "Bounded")
            self._remember_count(name, chosen, known)
        return known

    def _remember_count(self, name: str, chosen: str, count: int) -> None:
        with self._counts_lock:
            self._counts[name, chosen] = count

    def _count(self, name: str, chosen: str, consistency: str) -> int:
        return int(self._query(name, chosen, ["count(*)"], consistency)[0]["count(*)"])

    def count(self, version: str) -> int:
        name = self._name(version)
        layout = self._connection.find_collection(name)
        return 0 if layout is None else self._count(name, _first_parts(layout), "Strong")

    def loading(self) -> dict[str, LoadProgress]:
        return {}  # Milvus loads collections by itself

    def ping(self) -> None:
        self._connection.call(lambda client: client.get_server_version(timeout=self._timeout))

    def close(self) -> None:
        self._pool.shutdown()
        self._connection.close()

    def _name(self, version: str) -> str:
        """Return the name of the version's collection in Milvus, which allows few characters."""
        return f"{self._options.prefix}_{re.sub('[^A-Za-z0-9_]', _escape, version)}"

    def _query_keys(self, name: str, keys: list[str], fields: list[str]) -> list[dict[str, Any]]:
        """Query the rows with these primary keys."""
        rows: list[dict[str, Any]] = []
        for start in range(0, len(keys), _BATCH):
            rows += self._query(name, milvus_rows.select_keys(keys[start : start + _BATCH]), fields)
        return rows

    def _query(
        self, name: str, chosen: str, fields: list[str], consistency: str = "Strong"
    ) -> list[dict[str, Any]]:
        """Query rows; Strong by default, because the configured consistency is for searches."""
        rows: list[dict[str, Any]] = self._connection.call(
            lambda client: client.query(
                name,
                filter=chosen,
                output_fields=fields,
                consistency_level=consistency,
                timeout=self._timeout,
            )
        )
        return rows


def _search_width(index: str, ef: int, limit: int) -> dict[str, int]:
    """Return how many candidates a search considers, as the parameter of each kind of index."""
    match index:
        case "HNSW":
            return {"ef": max(ef, limit)}
        case "DISKANN":
            return {"search_list": max(ef, limit)}
        case "IVF_SQ8":
            return {"nprobe": min(ef, LISTS)}
    return {}


def _first_parts(layout: Layout) -> str:
    """Return the filter that selects one row per master."""
    return "part == 0" if layout.has_parts else ""


def _escape(match: re.Match[str]) -> str:
    return f"_{ord(match.group()):x}_"


def _version(name: str) -> str:
    """Return the version in an escaped name."""
    return re.sub("_([0-9a-f]+)_", lambda match: chr(int(match.group(1), 16)), name)
