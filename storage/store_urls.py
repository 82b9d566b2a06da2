"""How to reach the stores: their URLs and the options that a URL does not carry."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_LOCAL = ("sqlite:", "file:", "embedded:")  # URLs that contain no secret
_SERVER = re.compile(r"([\w.-]+|\[[0-9a-f:.]+\])(:\d+)?(/[\w.-]*)?", re.IGNORECASE)


def hide_secrets(url: str) -> str:
    """Return a URL without user, password and options; also if it is malformed.

    A secret may contain ``/``, ``?``, ``#`` and ``@`` that are not percent-encoded, so everything
    up to the last ``@`` goes. If the rest is not a host with a port and a name, it goes, too.
    """
    if url.startswith(_LOCAL):
        return url.partition("?")[0]
    scheme, _, rest = url.partition("://")
    server = re.split(r"[?#]", rest.rpartition("@")[2])[0]
    shown = server if _SERVER.fullmatch(server) else "…"
    return f"{scheme}://{shown}" if scheme.replace("+", "").isalnum() and rest else "…"


@dataclass(frozen=True)
class MilvusOptions:
    """How to use a Milvus server. Defined here so that it does not need pymilvus."""

    token: str = field(default="", repr=False)  # user:password or an API key
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

    database: str = field(repr=False)  # sqlite:///path or mysql+pymysql://user:password@host/name
    objects: str = field(repr=False)  # file:///path or s3://KEY:SECRET@host:port/bucket
    vectors: str = field(repr=False)  # embedded: or http://milvus:19530
    timeout: float = 10.0  # seconds; bounds every call to a server
    database_pool: int = 32  # connections at most
    create_bucket: bool = True
    public_objects: str = ""  # where clients reach the same S3; empty if they cannot
    milvus: MilvusOptions = MilvusOptions()

    @property
    def shown(self) -> dict[str, str]:
        """The URLs without user, password and options, for messages."""
        urls = {"database": self.database, "objects": self.objects, "vectors": self.vectors}
        return {name: hide_secrets(url) for name, url in urls.items()}

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
