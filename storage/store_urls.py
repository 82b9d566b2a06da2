"""How to reach the stores: their URLs and the options that a URL does not carry."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class MilvusOptions:
    """How to use a Milvus server. Defined here so that it does not need pymilvus."""

    token: str = ""  # user:password or an API key
    ca_certificate: str = ""  # path of a PEM file; empty trusts the system's authorities
    prefix: str = "lookalike"  # of the names of all collections in Milvus
    index: str = "HNSW"  # or DISKANN, IVF_SQ8, FLAT
    m: int = 16  # of HNSW: neighbours of a vector in the graph
    ef_construction: int = 200  # of HNSW: candidates considered while the graph is built
    ef: int = 128  # candidates considered by a search
    # Strong reads what any process wrote before; Session, Bounded and Eventually are faster but
    # may miss it.
    consistency: str = "Strong"


@dataclass(frozen=True)
class StoreUrls:
    """Where the four stores are; a URL's scheme selects the backend."""

    database: str  # sqlite:///path or mysql+pymysql://user:password@host/name
    objects: str  # file:///path or s3://KEY:SECRET@host:port/bucket
    vectors: str  # embedded: or http://milvus:19530
    timeout: float = 10.0  # seconds; bounds every call to a server
    database_pool: int = 32  # connections at most
    create_bucket: bool = True
    public_objects: str = ""  # where clients reach the same S3; empty if they cannot
    milvus: MilvusOptions = MilvusOptions()

    @property
    def shown(self) -> dict[str, str]:
        """The URLs without user, password and options, for messages."""
        urls = {"database": self.database, "objects": self.objects, "vectors": self.vectors}
        return {
            name: re.sub(r"//[^/]*@", "//", url.partition("?")[0]) for name, url in urls.items()
        }

    @property
    def mixed(self) -> bool:
        """Whether the database is on a server but another store is embedded: rarely intended."""
        return self.embedded and not self.database.startswith("sqlite:")

    @property
    def embedded(self) -> bool:
        """Whether any store is embedded in this process, which must then be the only one."""
        return (
            self.database.startswith("sqlite:")
            or self.objects.startswith("file:")
            or self.vectors == "embedded:"
        )
