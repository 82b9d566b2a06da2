"""The vector store on a Milvus server: one physical collection per model version, HNSW + COSINE by default."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

import grpc
import numpy as np
from cachetools import TTLCache
from numpy.typing import NDArray
from pymilvus import DataType, MilvusClient
from pymilvus.exceptions import MilvusException

from storage import filters_milvus
from storage.errors import StoreUnavailable
from storage.filters import Filter
from storage.records import VectorHit, VectorRecord

DIMENSION = 512
LARGEST_LIMIT = 16_384  # hits of one search, Milvus' own bound
_BATCH = 500
_WALK_BATCH = 4096
_LISTS = 1024  # clusters of an IVF index
_MOST = 0.5  # of the vectors: a filter that lets more than these through does not hinder HNSW
_SLICES = 16  # of the masters, by the last bits of their ids
_COUNTS_LAST = 10.0  # seconds
_GROWTH = 2000  # by which a count may be out of date
_T = TypeVar("_T")


@dataclass(frozen=True)
class MilvusOptions:
    """``index`` with its building parameters ``m`` and ``ef_construction`` (HNSW), and ``ef``, how widely a search looks.

    ``consistency``: Strong reads what any replica wrote before; Session, Bounded and Eventually are faster and may miss it.
    ``timeout`` in seconds bounds every call.
    """

    uri: str
    token: str = ""
    index: str = "HNSW"
    m: int = 16
    ef_construction: int = 200
    ef: int = 128
    consistency: str = "Strong"
    timeout: float = 10.0
    prefix: str = "lookalike"
    ca_certificate: str = ""


class MilvusVectorStore:
    """Connects when it is first used, so that a service may start before its Milvus."""

    def __init__(self, options: MilvusOptions) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._client: MilvusClient | None = None
        self._known: set[str] = set()
        self._counts: TTLCache[tuple[str, str], int] = TTLCache(maxsize=1024, ttl=_COUNTS_LAST)
        self._counts_lock = threading.Lock()
        self._pool = ThreadPoolExecutor(2 * _SLICES, thread_name_prefix="milvus-search")

    def upsert(self, version: str, records: Sequence[VectorRecord]) -> None:
        name = self._name(version)
        self._call(lambda client: self._ensure(client, name))
        for start in range(0, len(records), _BATCH):
            rows = [_row(record) for record in records[start : start + _BATCH]]
            self._call(partial(self._upsert_rows, name, rows))

    def delete(self, version: str, ids: Sequence[UUID]) -> None:
        name = self._name(version)
        if not self._exists(name):
            return
        for start in range(0, len(ids), _BATCH):
            some = [str(id_) for id_ in ids[start : start + _BATCH]]
            self._call(partial(self._delete_rows, name, some))

    def _upsert_rows(self, name: str, rows: list[dict[str, Any]], client: MilvusClient) -> None:
        client.upsert(name, rows, timeout=self._options.timeout)

    def _delete_rows(self, name: str, ids: list[str], client: MilvusClient) -> None:
        client.delete(name, ids=ids, timeout=self._options.timeout)

    def versions(self) -> list[str]:
        prefix = self._name("")
        names = self._call(lambda client: client.list_collections(timeout=self._options.timeout))
        return sorted(
            _version(name.removeprefix(prefix)) for name in names if name.startswith(prefix)
        )

    def iterate_ids(self, version: str) -> Iterator[list[UUID]]:
        name = self._name(version)
        if not self._exists(name):
            return
        rows = self._call(
            lambda client: client.query_iterator(
                name,
                batch_size=_WALK_BATCH,
                output_fields=["id"],
                consistency_level="Strong",
                timeout=self._options.timeout,
            )
        )
        while batch := self._call(lambda _: rows.next()):
            yield [UUID(row["id"]) for row in batch]
        rows.close()

    def fetch_vectors(self, version: str, ids: Sequence[UUID]) -> dict[UUID, VectorRecord]:
        name = self._name(version)
        found: dict[UUID, VectorRecord] = {}
        if not ids or not self._exists(name):
            return found
        for start in range(0, len(ids), _BATCH):
            chosen = _ids(ids[start : start + _BATCH])
            rows = self._query(
                name, chosen, ["id", "collection", "vector", "attributes", "revision"]
            )
            for row in rows:
                vector = np.asarray(row["vector"], dtype=np.float32)
                record = VectorRecord(
                    UUID(row["id"]),
                    UUID(row["collection"]),
                    vector,
                    row["attributes"],
                    row["revision"],
                )
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
        if not self._exists(name):
            return []
        chosen = f"collection_key == {_key(collection_id)}"
        if filter is not None:
            chosen += f" && {filters_milvus.expression(filter)}"
        limit = min(limit, LARGEST_LIMIT)
        plan = self._plan(name, chosen, limit)
        side_by_side = (
            self._pool.map if len(plan) > 1 else map
        )  # at Strong each waits for the next tick
        answers = side_by_side(
            lambda part: self._ask(name, f"{chosen}{part[0]}", vector, part[1]), plan
        )
        found = [hit for answer in answers for hit in answer]
        hits = [VectorHit(UUID(hit["id"]), _distance(hit["distance"])) for hit in found]
        hits.sort(key=lambda hit: (hit.distance, hit.master_id))
        return [hit for hit in hits[:limit] if max_distance is None or hit.distance <= max_distance]

    def _ask(
        self, name: str, chosen: str, vector: NDArray[np.float32], limit: int
    ) -> list[dict[str, Any]]:
        parameters = _searching(self._options.index, self._options.ef, limit)
        answer = self._call(
            lambda client: client.search(
                name,
                data=[vector.tolist()],
                anns_field="vector",
                filter=chosen,
                limit=limit,
                search_params={
                    "metric_type": "COSINE",
                    "params": parameters,
                },  # outside `params` they are silently ignored
                consistency_level=self._options.consistency,
                timeout=self._options.timeout,
            )
        )
        return list(answer[0])

    def _plan(self, name: str, chosen: str, limit: int) -> list[tuple[str, int]]:
        """What to add to the filter, and how many hits to ask for: one search, or several whose hits are merged.

        A walk through HNSW's graph ends early when most of what it meets does not fit the filter, with few hits or none. Milvus
        compares with every one that fits instead if at least half as many hits are asked for, or if less than 7 % fit. So it is
        asked for that many; where that is more than it gives, by slices, each of which is small enough.
        """
        if self._options.index != "HNSW":
            return [("", limit)]
        matching = self._counted(name, chosen)
        if matching >= self._counted(name, "") * _MOST:
            return [("", limit)]
        reach = max(limit, matching // 2 + _GROWTH)
        if reach <= LARGEST_LIMIT:
            return [("", reach)]
        return [(f" && slice == {number}", limit) for number in range(_SLICES)]

    def _counted(self, name: str, chosen: str) -> int:
        """The number of vectors that fit, not older than some seconds."""
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
        if not self._exists(name):
            return 0
        return self._count(name, "", "Strong")

    def drop_version(self, version: str) -> None:
        """Forget a model version with all its vectors."""
        name = self._name(version)
        self._known.discard(name)
        self._call(lambda client: client.drop_collection(name, timeout=self._options.timeout))

    def ping(self) -> None:
        self._call(lambda client: client.get_server_version(timeout=self._options.timeout))

    def close(self) -> None:
        self._pool.shutdown()
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def _name(self, version: str) -> str:
        return f"{self._options.prefix}_{re.sub('[^A-Za-z0-9_]', _hex, version)}"

    def _query(
        self, name: str, chosen: str, fields: list[str], consistency: str = "Strong"
    ) -> list[dict[str, Any]]:
        """At Strong unless said otherwise: the setting is for searches, this reads what is to be changed."""
        rows: list[dict[str, Any]] = self._call(
            lambda client: client.query(
                name,
                filter=chosen,
                output_fields=fields,
                consistency_level=consistency,
                timeout=self._options.timeout,
            )
        )
        return rows

    def _exists(self, name: str) -> bool:
        if name in self._known:
            return True
        there = self._call(
            lambda client: bool(client.has_collection(name, timeout=self._options.timeout))
        )
        if there:
            self._call(lambda client: self._load(client, name))
        return there

    def _ensure(self, client: MilvusClient, name: str) -> None:
        if name in self._known:
            return
        if not client.has_collection(name, timeout=self._options.timeout):
            self._create(client, name)
        self._load(client, name)

    def _create(self, client: MilvusClient, name: str) -> None:
        """No partition key: 2.3 computes it from the wrong field on an upsert and loses the rows."""
        schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=36)
        schema.add_field("collection", DataType.VARCHAR, max_length=36)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIMENSION)
        schema.add_field("attributes", DataType.JSON)
        schema.add_field("revision", DataType.INT64)
        schema.add_field("slice", DataType.INT8)
        schema.add_field("collection_key", DataType.INT64)
        client.create_collection(
            name,
            schema=schema,
            consistency_level=self._options.consistency,
            timeout=max(60.0, self._options.timeout),
        )

    def _index(self, client: MilvusClient, name: str) -> None:
        """Build the index if it is not there: whoever made the collection may have come no further."""
        if client.list_indexes(name, field_name="vector"):
            return
        index = client.prepare_index_params()
        building = {
            "HNSW": {"M": self._options.m, "efConstruction": self._options.ef_construction},
            "IVF_SQ8": {"nlist": _LISTS},
        }
        index.add_index(
            "vector",
            index_type=self._options.index,
            metric_type="COSINE",
            params=building.get(self._options.index, {}),
        )
        client.create_index(name, index, timeout=max(60.0, self._options.timeout))

    def _load(self, client: MilvusClient, name: str) -> None:
        self._index(client, name)
        client.load_collection(
            name, timeout=max(10.0, self._options.timeout)
        )  # goes on by itself if that is not enough
        self._known.add(name)

    def _call(self, work: Callable[[MilvusClient], _T]) -> _T:
        """Run one call with a connected client; what goes wrong means that the store is unavailable."""
        if not self._lock.acquire(
            timeout=self._options.timeout
        ):  # others are still trying to connect
            raise StoreUnavailable("vector", "no connection yet")
        try:
            try:
                if self._client is None:
                    options = self._options
                    secure = (
                        {"server_pem_path": options.ca_certificate}
                        if options.ca_certificate
                        else {}
                    )
                    # dedicated: shared ones are told apart by address and token alone, never closed, and may not be ours in TLS
                    self._client = MilvusClient(
                        uri=options.uri,
                        token=options.token,
                        timeout=options.timeout,
                        dedicated=True,
                        **secure,
                    )
                client = self._client
            finally:
                self._lock.release()
            return work(client)
        except (
            MilvusException,
            grpc.RpcError,
        ) as error:  # the client lets gRPC's own through where it does not try again
            self._known.clear()
            raise StoreUnavailable("vector", _reason(error)) from error


def _searching(index: str, ef: int, limit: int) -> dict[str, int]:
    """How widely a search looks, in each index's own terms."""
    match index:
        case "HNSW":
            return {"ef": max(ef, limit)}
        case "DISKANN":
            return {"search_list": max(ef, limit)}
        case "IVF_SQ8":
            return {"nprobe": min(ef, _LISTS)}
    return {}


def _reason(error: MilvusException | grpc.RpcError) -> str:
    if isinstance(error, MilvusException):
        return str(error.message)
    return (
        f"{error.code().name}: {error.details()}"
        if isinstance(error, grpc.Call)
        else type(error).__name__
    )


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


def _key(collection_id: UUID) -> int:
    """63 random bits of the id: to filter a million integers takes a tenth of the time that as many texts take."""
    return collection_id.int & (1 << 63) - 1


def _ids(ids: Sequence[UUID]) -> str:
    return "id in [" + ", ".join(f'"{id_}"' for id_ in ids) + "]"


def _distance(similarity: float) -> float:
    return min(2.0, max(0.0, round(1.0 - similarity, 6)))


def _hex(match: re.Match[str]) -> str:
    return f"_{ord(match.group()):x}_"


def _version(name: str) -> str:
    return re.sub("_([0-9a-f]+)_", lambda match: chr(int(match.group(1), 16)), name)
