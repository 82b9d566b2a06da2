"""What is specific to Milvus: TLS, passwords, and types of index."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import UUID, uuid4

import numpy as np
import pytest
import trustme
from pymilvus import DataType
from pymilvus.exceptions import MilvusException

from storage.errors import StoreUnavailable
from storage.filter_parser import parse_filter
from storage.metadata import new_id
from storage.records import VectorPart, VectorRecord, whole_image
from storage.store_urls import MilvusOptions
from storage.vectors_milvus import MilvusVectorStore
from tests.support import fleet
from tests.support.servers import milvus
from tests.support.service import eventually

VERSION = "model-1"
SHOP, ARCHIVE = UUID(int=1), UUID(int=2)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, MilvusOptions]]:
    """Start a Milvus that requires TLS and a password; yield its URL and options."""
    fleet.url_of("milvus")  # skips or fails the test if Milvus cannot run
    directory = tmp_path_factory.mktemp("guarded")
    authority = trustme.CA()
    own = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(directory / "ca.pem")
    own.cert_chain_pems[0].write_to_path(directory / "server.pem")
    own.private_key_pem.write_to_path(directory / "server.key")
    server = milvus(
        directory,
        tls_mode=1,
        server_pem_path=str(directory / "server.pem"),
        server_key_path=str(directory / "server.key"),
        ca_pem_path=str(directory / "ca.pem"),
        authorization_enabled=True,
        **{"queryNode.enableDisk": True},
    )
    server.start()
    options = MilvusOptions(
        token="root:Milvus",  # noqa: S106 - the initial password
        ca_certificate=str(directory / "ca.pem"),
        prefix=f"test_{uuid4().hex}",
    )
    yield server.url.replace("http:", "https:"), options
    server.kill()


def unit(count: int) -> np.ndarray:
    vectors = np.random.default_rng(1).normal(size=(count, 512)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


KINDS = ("HNSW", "IVF_SQ8", "DISKANN", "FLAT")
ROWS = 1500  # Milvus builds no index for fewer than 1024


@pytest.fixture(scope="module")
def indexed(
    guarded: tuple[str, MilvusOptions],
) -> Iterator[dict[str, tuple[MilvusVectorStore, list[VectorRecord]]]]:
    """Write the same vectors under each kind of index at once, because Milvus takes seconds."""
    url, options = guarded
    records = [
        VectorRecord(
            new_id(), (SHOP, SHOP, ARCHIVE)[number % 3], whole_image(vector), {"n": number}, 1
        )
        for number, vector in enumerate(unit(ROWS))
    ]

    def write(kind: str) -> MilvusVectorStore:
        own = replace(options, index=kind, prefix=f"{options.prefix}_{kind}")
        store = MilvusVectorStore(url, own, timeout=60.0)
        store.upsert(VERSION, records)
        client = store._connection._client
        assert client is not None
        client.flush(store._name(VERSION))
        return store

    with ThreadPoolExecutor() as pool:
        stores = list(pool.map(write, KINDS))
    yield {kind: (store, records) for kind, store in zip(KINDS, stores, strict=True)}
    for store in stores:
        store.close()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_index_finds_each_vector_under_its_collection(
    indexed: dict[str, tuple[MilvusVectorStore, list[VectorRecord]]], kind: str
) -> None:
    store, records = indexed[kind]
    client, name = store._connection._client, store._name(VERSION)
    assert client is not None

    def built() -> bool:
        told = client.describe_index(name, "vector")
        return (told["index_type"], told["indexed_rows"], told["pending_index_rows"]) == (
            kind,
            ROWS,
            0,
        )

    # The wheel's Milvus is built without DISKANN: it accepts the index and its parameters, but
    # searches without an index.
    if kind != "DISKANN":
        assert eventually(built, 60), client.describe_index(name, "vector")
    chosen = records[::50]
    with ThreadPoolExecutor(10) as pool:  # each search waits for the next tick of Milvus
        found = pool.map(
            lambda one: store.search(VERSION, one.collection_id, one.parts[0].vector, 1), chosen
        )
    for wanted, (hit,) in zip(chosen, found, strict=True):
        assert (hit.master_id, hit.distance) == (wanted.master_id, pytest.approx(0.0, abs=0.01))
    assert len(store.search(VERSION, SHOP, records[0].parts[0].vector, 1000)) == 1000


@pytest.mark.parametrize(
    "wrong",
    [
        {"token": "root:wrong"},
        {"token": ""},
        {"ca_certificate": ""},
    ],
)
def test_a_wrong_password_or_certificate_is_refused(
    guarded: tuple[str, MilvusOptions], wrong: dict[str, str]
) -> None:
    url, options = guarded
    store = MilvusVectorStore(url, replace(options, **wrong), timeout=2.0)  # type: ignore[arg-type]
    with pytest.raises(StoreUnavailable):
        store.versions()
    store.close()
    plain = MilvusVectorStore(url.replace("https:", "http:"), options, timeout=2.0)
    with pytest.raises(StoreUnavailable):
        plain.versions()
    plain.close()


@pytest.fixture(scope="module")
def crowded() -> Iterator[tuple[MilvusVectorStore, list[VectorRecord]]]:
    """Write ten collections, each around two centres, into one HNSW index."""
    count = 4000
    # A simpler graph than usual is built three times as fast.
    options = MilvusOptions(prefix=f"test_{uuid4().hex}", ef_construction=64)
    store = MilvusVectorStore(fleet.url_of("milvus"), options, timeout=60.0)
    random = np.random.default_rng(1)
    centres = random.normal(size=(20, 512)) + 0.3 * random.normal(size=512)
    kinds = random.integers(0, 20, count)
    vectors = centres[kinds] + 0.6 * random.normal(size=(count, 512))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    records = [
        VectorRecord(
            new_id(), UUID(int=int(kind) // 2 + 1), whole_image(vector), {"parity": number % 2}, 1
        )
        for number, (kind, vector) in enumerate(zip(kinds, vectors, strict=True))
    ]
    store.upsert(VERSION, records)
    client, name = store._connection._client, store._name(VERSION)
    assert client is not None
    client.flush(name)

    def built() -> bool:
        told = client.describe_index(name, "vector")
        return (told["indexed_rows"], told["pending_index_rows"]) == (count, 0)

    assert eventually(built, 90)
    client.release_collection(name)
    client.load_collection(name)
    yield store, records
    store.drop_version(VERSION)
    store.close()


@pytest.mark.parametrize("most", [16_384, 2050])
@pytest.mark.parametrize("filter", [None, {"parity": 1}])
def test_a_filter_loses_no_hits(
    crowded: tuple[MilvusVectorStore, list[VectorRecord]],
    filter: dict[str, int] | None,
    most: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Search with samples unlike the collection, for which an HNSW search alone ends too early."""
    # The lower limit simulates larger collections.
    monkeypatch.setattr("storage.vectors_milvus.LARGEST_LIMIT", most)
    store, records = crowded
    chosen = parse_filter(filter) if filter is not None else None
    fitting: dict[UUID, list[VectorRecord]] = defaultdict(list)
    for record in records:
        if filter is None or record.attributes == filter:
            fitting[record.collection_id].append(record)
    assert len(fitting) == 10
    searches = [(sample.parts[0].vector, id_) for sample in records[:6] for id_ in fitting]
    with ThreadPoolExecutor(10) as pool:  # each search waits for the next tick of Milvus
        found = pool.map(lambda one: store.search(VERSION, one[1], one[0], 10, chosen), searches)
    for (vector, id_), hits in zip(searches, found, strict=True):
        distances = [-float(vector @ one.parts[0].vector) for one in fitting[id_]]
        nearest = np.argsort(distances)[:10]
        assert {hit.master_id for hit in hits} == {fitting[id_][n].master_id for n in nearest}


def test_a_missing_index_is_created_by_the_next_upsert(monkeypatch: pytest.MonkeyPatch) -> None:
    url, options = fleet.url_of("milvus"), MilvusOptions(prefix=f"test_{uuid4().hex}")
    record = VectorRecord(new_id(), SHOP, whole_image(unit(1)[0]), {}, 1)
    with monkeypatch.context() as patch:
        patch.setattr("pymilvus.MilvusClient.create_index", _killed)
        with pytest.raises(StoreUnavailable):
            MilvusVectorStore(url, options, timeout=60.0).upsert(VERSION, [record])
    store = MilvusVectorStore(url, options, timeout=60.0)
    store.upsert(VERSION, [record])
    assert [hit.master_id for hit in store.search(VERSION, SHOP, record.parts[0].vector, 1)] == [
        record.master_id
    ]
    store.drop_version(VERSION)
    store.close()


def _killed(*_: object, **__: object) -> None:
    raise MilvusException(message="the connection broke")


@pytest.fixture
def store() -> Iterator[MilvusVectorStore]:
    options = MilvusOptions(prefix=f"test_{uuid4().hex}")
    store = MilvusVectorStore(fleet.url_of("milvus"), options, timeout=60.0)
    yield store
    store.drop_version(VERSION)
    store.close()


def test_a_collection_of_a_release_without_parts_stays_valid(store: MilvusVectorStore) -> None:
    create_without_parts(store)
    old, new = [one_part(vector) for vector in unit(2)]
    store.upsert(VERSION, [old])
    store.upsert(VERSION, [new])
    store.upsert(VERSION, [replace(old, attributes={"n": 1}, revision=2)])
    assert (store.count(VERSION), store.versions()) == (2, [VERSION])
    assert sorted(next(store.iterate_ids(VERSION))) == sorted([old.master_id, new.master_id])
    (hit,) = store.search(VERSION, SHOP, old.parts[0].vector, 1)
    assert (hit.master_id, hit.part, hit.box) == (old.master_id, 0, None)
    found = store.fetch_vectors(VERSION, [old.master_id])[old.master_id]
    assert (len(found.parts), found.attributes, found.revision) == (1, {"n": 1}, 2)
    for parts in (old.parts * 2, (VectorPart(old.parts[0].vector, (1, 2, 3, 4)),)):
        with pytest.raises(ValueError, match="created by a release without parts"):
            store.upsert(VERSION, [new, replace(old, parts=parts)])
    store.delete(VERSION, [old.master_id])
    assert store.fetch_vectors(VERSION, [old.master_id, new.master_id]).keys() == {new.master_id}


def create_without_parts(store: MilvusVectorStore) -> None:
    """Create the version's collection as the releases without parts did."""
    client = store._connection._connected()
    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=36)
    schema.add_field("collection", DataType.VARCHAR, max_length=36)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=512)
    schema.add_field("attributes", DataType.JSON)
    schema.add_field("revision", DataType.INT64)
    schema.add_field("slice", DataType.INT8)
    schema.add_field("collection_key", DataType.INT64)
    client.create_collection(store._name(VERSION), schema=schema, consistency_level="Strong")


def one_part(vector: np.ndarray) -> VectorRecord:
    return VectorRecord(new_id(), SHOP, whole_image(vector), {}, 1)


def test_a_record_that_lacks_a_part_counts_as_missing(store: MilvusVectorStore) -> None:
    """A write that failed may have written some parts only; the next one writes all of them."""
    three = replace(one_part(unit(1)[0]), parts=tuple(map(VectorPart, unit(3))))
    store.upsert(VERSION, [three])
    for lost in (three.master_id, f"{three.master_id}/2"):
        store._delete_keys(store._name(VERSION), [str(lost)])
        assert store.fetch_vectors(VERSION, [three.master_id]) == {}
        store.upsert(VERSION, [three])
        assert len(store.fetch_vectors(VERSION, [three.master_id])[three.master_id].parts) == 3


def test_another_process_removes_parts_that_it_did_not_write(store: MilvusVectorStore) -> None:
    three = replace(one_part(unit(1)[0]), parts=tuple(map(VectorPart, unit(3))))
    store.upsert(VERSION, [three])
    other = MilvusVectorStore(fleet.url_of("milvus"), store._options, timeout=60.0)
    name = other._name(VERSION)
    other._connection.find_collection(name)
    assert eventually(lambda: other._count(name, "parts > 1", "Bounded"), 20)
    other.upsert(VERSION, [replace(three, parts=three.parts[:1])])
    assert [hit.part for hit in store.search(VERSION, SHOP, unit(3)[2], 5)] == [0]
    other.close()


def test_masters_are_found_behind_more_parts_than_milvus_returns(
    store: MilvusVectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.vectors_milvus.LARGEST_LIMIT", 20)
    vectors = unit(100)
    crowds = [
        replace(one_part(vectors[0]), parts=tuple(VectorPart(vectors[0]) for _ in range(15)))
        for _ in range(4)
    ]
    others = [one_part(vector) for vector in vectors[1:4]]
    # Each master in a slice of its own: a slice returns twenty parts.
    masters = [
        replace(one, master_id=UUID(int=number)) for number, one in enumerate([*crowds, *others])
    ]
    store.upsert(VERSION, masters)
    hits = store.search(VERSION, SHOP, vectors[0], 7)
    assert [hit.master_id.int for hit in hits[:4]] == [0, 1, 2, 3]
    assert {hit.master_id.int for hit in hits[4:]} == {4, 5, 6}


@pytest.mark.parametrize("most", [20, 60, 1000])
def test_hits_are_found_behind_more_masters_than_milvus_returns(
    store: MilvusVectorStore, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """Thousands of nearer masters may be deleted, and wait for the worker."""
    monkeypatch.setattr("storage.vectors_milvus.LARGEST_LIMIT", most)
    vectors = unit(1500)
    masters = sorted(map(one_part, vectors), key=lambda one: -float(one.parts[0].vector[0]))
    store.upsert(VERSION, masters)
    query = np.eye(512, dtype=np.float32)[0]
    for limit in (most, 2 * most, 1400):
        hits = store.search(VERSION, SHOP, query, limit)
        assert {hit.master_id for hit in hits} == {one.master_id for one in masters[:limit]}


def test_hits_are_found_behind_equally_near_masters(
    store: MilvusVectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.vectors_milvus.LARGEST_LIMIT", 10)
    near, far = unit(2)
    crowd = [one_part(near) for _ in range(400)]
    store.upsert(VERSION, [*crowd, behind := one_part(far)])
    hits = store.search(VERSION, SHOP, near, 500)
    assert behind.master_id in {hit.master_id for hit in hits}
