"""A connection to a Milvus server, and the physical collections in it, one per model version."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
from pymilvus import DataType, MilvusClient
from pymilvus.exceptions import MilvusException

from storage.errors import StoreUnavailable
from storage.milvus_rows import KEY_LENGTH
from storage.store_urls import MilvusOptions

LISTS = 1024  # clusters of an IVF index
_SLOW = 60.0  # seconds, the least timeout for creating a collection or an index
_LOADING = 10.0  # seconds, the least timeout for loading a collection
_T = TypeVar("_T")


@dataclass(frozen=True)
class Layout:
    """What a collection can hold."""

    dimension: int
    has_parts: bool  # False if an earlier release created it, for one part per master without a box


class MilvusConnection:
    """A thread-safe connection that is made on first use, so Milvus may start after the service."""

    def __init__(self, uri: str, options: MilvusOptions, timeout: float) -> None:
        """Prepare the connection. ``timeout`` in seconds bounds every call."""
        self._uri = uri
        self._options = options
        self._timeout = timeout
        self._lock = threading.Lock()
        self._client: MilvusClient | None = None
        # The layout of each collection that is known to be usable.
        self._loaded: dict[str, Layout] = {}

    def call(self, work: Callable[[MilvusClient], _T]) -> _T:
        """Return ``work(client)``, with a connected client. Raises StoreUnavailable."""
        try:
            return work(self._connected())
        except (MilvusException, grpc.RpcError) as error:
            # The client passes gRPC's own errors on where it does not retry.
            self._loaded.clear()
            raise StoreUnavailable("vector", _reason(error)) from error

    def _connected(self) -> MilvusClient:
        if not self._lock.acquire(timeout=self._timeout):  # other threads still try to connect
            raise StoreUnavailable("vector", "the connection is not established yet")
        try:
            if self._client is None:
                certificate = self._options.ca_certificate
                secure = {"server_pem_path": certificate} if certificate else {}
                # pymilvus identifies a shared connection by address and token alone, and never
                # closes it, so it might have other TLS options. This one is dedicated.
                self._client = MilvusClient(
                    uri=self._uri,
                    token=self._options.token,
                    timeout=self._timeout,
                    dedicated=True,
                    **secure,
                )
            return self._client
        finally:
            self._lock.release()

    def find_collection(self, name: str) -> Layout | None:
        """Return the layout of a collection, or None if it does not exist.

        A collection that exists is loaded, so that it can be searched.
        """
        known = self._loaded.get(name)
        return known if known is not None else self.call(lambda client: self._find(client, name))

    def _find(self, client: MilvusClient, name: str) -> Layout | None:
        exists = client.has_collection(name, timeout=self._timeout)
        return self._load(client, name) if exists else None

    def ensure_collection(self, name: str, dimension: int) -> Layout:
        """Create the collection and its index if they do not exist, and load it.

        Returns its layout, because another process may have created it with another dimension.
        """
        found = self.find_collection(name)
        if found is not None:
            return found
        self.call(lambda client: self._create(client, name, dimension))
        return self.call(lambda client: self._load(client, name))

    def _create(self, client: MilvusClient, name: str, dimension: int) -> None:
        """Create the collection, without a partition key.

        Milvus 2.3 computes a partition key from the wrong field on an upsert and loses the rows.
        """
        schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=KEY_LENGTH)
        schema.add_field("collection", DataType.VARCHAR, max_length=36)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
        schema.add_field("attributes", DataType.JSON)
        schema.add_field("revision", DataType.INT64)
        schema.add_field("slice", DataType.INT8)
        schema.add_field("collection_key", DataType.INT64)
        schema.add_field("part", DataType.INT16)
        schema.add_field("parts", DataType.INT16)  # of the master
        schema.add_field("box", DataType.JSON)  # {} for the whole image
        client.create_collection(
            name,
            schema=schema,
            consistency_level=self._options.consistency,
            timeout=max(_SLOW, self._timeout),
        )

    def _load(self, client: MilvusClient, name: str) -> Layout:
        # The index is checked each time: the process that created the collection may have died.
        if not client.list_indexes(name, field_name="vector"):
            self._create_index(client, name)
        # Loading continues in the server if the timeout is not enough.
        client.load_collection(name, timeout=max(_LOADING, self._timeout))
        described = client.describe_collection(name, timeout=self._timeout)["fields"]
        fields = {field["name"]: field["params"] for field in described}
        layout = Layout(int(fields["vector"]["dim"]), "parts" in fields)
        self._loaded[name] = layout
        return layout

    def _create_index(self, client: MilvusClient, name: str) -> None:
        options = self._options
        parameters: dict[str, dict[str, Any]] = {
            "HNSW": {"M": options.m, "efConstruction": options.ef_construction},
            "IVF_SQ8": {"nlist": LISTS},
        }
        index = client.prepare_index_params()
        index.add_index(
            "vector",
            index_type=options.index,
            metric_type="COSINE",
            params=parameters.get(options.index, {}),
        )
        # The collection is still empty, so there is nothing to wait for. With sync=True the client
        # would sleep for half a second before it checks.
        client.create_index(name, index, timeout=max(_SLOW, self._timeout), sync=False)

    def drop_collection(self, name: str) -> None:
        """Delete the collection; do nothing if it does not exist."""
        self._loaded.pop(name, None)
        self.call(lambda client: client.drop_collection(name, timeout=self._timeout))

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None


def _reason(error: MilvusException | grpc.RpcError) -> str:
    if isinstance(error, MilvusException):
        return str(error.message)
    if isinstance(error, grpc.Call):
        return f"{error.code().name}: {error.details()}"
    return type(error).__name__
