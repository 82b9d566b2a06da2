"""The vector store on a Milvus server: one physical collection per model version."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from uuid import UUID

import numpy as np
from cachetools import TTLCache
from numpy.typing import NDArray
from pymilvus import MilvusClient

from storage import filters_milvus
from storage.filters import Filter
from storage.milvus_connection import LISTS, MilvusConnection
from storage.records import VectorHit, VectorRecord, check_dimension, check_length
from storage.store_urls import MilvusOptions

LARGEST_LIMIT = 16_384  # hits of one search, the bound of Milvus
_BATCH = 500  # rows written or read at once
_ITERATED = 4096  # ids read at once
_SLICES = 16  # of the masters, by the last bits of their ids
_HARMLESS_SHARE = 0.5  # HNSW keeps its recall if the filter passes this share of the vectors
_COUNTS_LAST = 10.0  # seconds that a count is remembered
_GROWTH = 2000  # vectors by which a remembered count may be wrong


class MilvusVectorStore:
    """VectorStore on Milvus 2.3.5 or later, for any number of processes."""

    def __init__(self, uri: str, options: MilvusOptions, *, timeout: float = 10.0) -> None:
        """Prepare the store. ``timeout`` in seconds bounds every call."""
        self._options = options
        self._timeout = timeout
        self._connection = MilvusConnection(uri, options, timeout)
        self._counts: TTLCache[tuple[str, str], int] = TTLCache(maxsize=1024, ttl=_COUNTS_LAST)
        self._counts_lock = threading.Lock()
        self._pool = ThreadPoolExecutor(2 * _SLICES, thread_name_prefix="milvus-search")

    def upsert(self, version: str, records: Sequence[VectorRecord]) -> None:
        name = self._name(version)
        dimension = check_dimension(records, None)
        if dimension is None:
            return
        check_dimension(records, self._connection.ensure_collection(name, dimension))
        for start in range(0, len(records), _BATCH):
            rows = [_row(record) for record in records[start : start + _BATCH]]
            self._connection.call(partial(self._upsert_rows, name, rows))

    def _upsert_rows(self, name: str, rows: list[dict[str, Any]], client: MilvusClient) -> None:
        client.upsert(name, rows, timeout=self._timeout)

    def delete(self, version: str, ids: Sequence[UUID]) -> None:
        name = self._name(version)
        if self._connection.find_collection(name) is None:
            return
        for start in range(0, len(ids), _BATCH):
            some = [str(id_) for id_ in ids[start : start + _BATCH]]
            self._connection.call(partial(self._delete_rows, name, some))

    def _delete_rows(self, name: str, ids: list[str], client: MilvusClient) -> None:
        client.delete(name, ids=ids, timeout=self._timeout)

    def versions(self) -> list[str]:
        prefix = self._name("")
        names = self._connection.call(lambda client: client.list_collections(timeout=self._timeout))
        ours = (name.removeprefix(prefix) for name in names if name.startswith(prefix))
        return sorted(_version(name) for name in ours)

    def drop_version(self, version: str) -> None:
        self._connection.drop_collection(self._name(version))

    def iterate_ids(self, version: str) -> Iterator[list[UUID]]:
        name = self._name(version)
        if self._connection.find_collection(name) is None:
            return
        rows = self._connection.call(
            lambda client: client.query_iterator(
                name,
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
        fields = ["id", "collection", "vector", "attributes", "revision"]
        found: dict[UUID, VectorRecord] = {}
        if not ids or self._connection.find_collection(name) is None:
            return found
        for start in range(0, len(ids), _BATCH):
            for row in self._query(name, _among(ids[start : start + _BATCH]), fields):
                record = _record(row)
                found[record.master_id] = record
        return found

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
        dimension = self._connection.find_collection(name)
        if dimension is None:
            return []
        check_length(vector, dimension)
        chosen = f"collection_key == {_key(collection_id)}"
        if filter is not None:
            chosen += f" && {filters_milvus.expression(filter)}"
        limit = min(limit, LARGEST_LIMIT)
        plan = self._plan(name, chosen, limit)
        # With Strong consistency a search waits for the server's next tick: run them in parallel.
        run = self._pool.map if len(plan) > 1 else map
        answers = run(lambda part: self._search_once(name, chosen + part[0], vector, part[1]), plan)
        found = [hit for answer in answers for hit in answer]
        hits = [VectorHit(UUID(hit["id"]), _distance(hit["distance"])) for hit in found]
        hits.sort(key=lambda hit: (hit.distance, hit.master_id))
        return [hit for hit in hits[:limit] if max_distance is None or hit.distance <= max_distance]

    def _search_once(
        self, name: str, chosen: str, vector: NDArray[np.float32], limit: int
    ) -> list[dict[str, Any]]:
        # Milvus silently ignores parameters of the index outside `params`.
        parameters = {
            "metric_type": "COSINE",
            "params": _search_width(self._options.index, self._options.ef, limit),
        }
        answer = self._connection.call(
            lambda client: client.search(
                name,
                data=[vector.tolist()],
                anns_field="vector",
                filter=chosen,
                limit=limit,
                search_params=parameters,
                consistency_level=self._options.consistency,
                timeout=self._timeout,
            )
        )
        return list(answer[0])

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
        return [(f" && slice == {number}", limit) for number in range(_SLICES)]

    def _recent_count(self, name: str, chosen: str) -> int:
        """Return the number of vectors that match, which may be some seconds old."""
        with self._counts_lock:
            known = self._counts.get((name, chosen))
        if known is None:
            known = self._count(name, chosen, "Bounded")
            with self._counts_lock:
                self._counts[name, chosen] = known
        return known

    def _count(self, name: str, chosen: str, consistency: str) -> int:
        return int(self._query(name, chosen, ["count(*)"], consistency)[0]["count(*)"])

    def count(self, version: str) -> int:
        name = self._name(version)
        if self._connection.find_collection(name) is None:
            return 0
        return self._count(name, "", "Strong")

    def ping(self) -> None:
        self._connection.call(lambda client: client.get_server_version(timeout=self._timeout))

    def close(self) -> None:
        self._pool.shutdown()
        self._connection.close()

    def _name(self, version: str) -> str:
        """Return the name of the version's collection in Milvus, which allows few characters."""
        return f"{self._options.prefix}_{re.sub('[^A-Za-z0-9_]', _escape, version)}"

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


def _row(record: VectorRecord) -> dict[str, Any]:
    return {
        "id": str(record.master_id),
        "collection": str(record.collection_id),
        "vector": np.asarray(record.vector, dtype=np.float32).tolist(),
        "attributes": record.attributes,
        "revision": record.revision,
        "slice": record.master_id.int % _SLICES,
        "collection_key": _key(record.collection_id),
    }


def _record(row: dict[str, Any]) -> VectorRecord:
    return VectorRecord(
        UUID(row["id"]),
        UUID(row["collection"]),
        np.asarray(row["vector"], dtype=np.float32),
        row["attributes"],
        row["revision"],
    )


def _key(collection_id: UUID) -> int:
    """Return 63 random bits of the id.

    Filtering a million integers takes a tenth of the time that as many texts take.
    """
    return collection_id.int & (1 << 63) - 1


def _among(ids: Sequence[UUID]) -> str:
    return "id in [" + ", ".join(f'"{id_}"' for id_ in ids) + "]"


def _distance(similarity: float) -> float:
    return min(2.0, max(0.0, round(1.0 - similarity, 6)))


def _escape(match: re.Match[str]) -> str:
    return f"_{ord(match.group()):x}_"


def _version(name: str) -> str:
    """Return the version in an escaped name."""
    return re.sub("_([0-9a-f]+)_", lambda match: chr(int(match.group(1), 16)), name)
