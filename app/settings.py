"""Every setting, from environment variables with the prefix LOOKALIKE_ or from a file .env."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from storage.cores import available_cores
from storage.records import FARTHEST

MIB = 1024 * 1024


class Settings(BaseSettings):
    """Frozen. The README's table of settings is held to this class by a test."""

    model_config = SettingsConfigDict(
        env_prefix="LOOKALIKE_", env_file=".env", extra="ignore", frozen=True
    )

    host: str = Field(
        "127.0.0.1", description="Address to listen on. Anything but loopback needs an API key."
    )
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    api_keys: SecretStr = Field(
        SecretStr(""),
        description="Keys with their scope, `read:KEY,write:KEY,admin:KEY`. write includes read, admin includes both. "
        "Sent as `Authorization: Bearer KEY`. None: whoever reaches the service may do all.",
    )
    allowed_hosts: str = Field(
        "",
        description="Host names the service answers to, comma-separated. Empty: loopback names without keys, any with keys.",
    )
    data_dir: Annotated[Path, AfterValidator(Path.absolute)] = Field(
        Path("lookalike-data"),
        description="Directory of the embedded stores. One process at a time.",
    )
    database_url: str = Field(
        "",
        description="Metadata. Empty: `sqlite:///DATA_DIR/lookalike.db`; or `mysql+pymysql://USER:PASSWORD@HOST/NAME`.",
    )
    objects_url: str = Field(
        "",
        description="Bytes. Empty: `file://DATA_DIR/objects`; or `s3://KEY:SECRET@HOST:PORT/BUCKET?secure=false&region=…`.",
    )
    vectors_url: str = Field(
        "embedded:",
        description="Vectors. `embedded:` is exact search in memory, rows in the database; or `http://HOST:19530`, a Milvus.",
    )
    store_timeout: float = Field(
        10.0, gt=0, description="Seconds that a call to a server may take."
    )
    database_pool: int = Field(32, ge=1, description="Connections to MySQL at most.")
    create_bucket: bool = Field(True, description="Whether to make the bucket if it is not there.")
    public_objects_url: str = Field(
        "",
        pattern="^(https?://[^/]+)?$",
        description="`https://HOST:PORT` where clients reach the S3. Set, `/content` redirects there, by a link of five minutes.",
    )
    milvus_token: SecretStr = Field(
        SecretStr(""), description="`USER:PASSWORD` or API key of the Milvus."
    )
    milvus_ca_certificate: str = Field(
        "", description="File with the certificate to trust, for a Milvus behind https."
    )
    milvus_prefix: str = Field(
        "lookalike",
        pattern="^[A-Za-z_][A-Za-z0-9_]*$",
        description="Begins the names of our Milvus collections.",
    )
    milvus_index: Literal["HNSW", "IVF_SQ8", "DISKANN", "FLAT"] = Field(
        "HNSW", description="Index of new Milvus collections."
    )
    milvus_m: int = Field(16, ge=2, le=2048, description="HNSW: links of a vector.")
    milvus_ef_construction: int = Field(200, ge=8, description="HNSW: candidates when building.")
    milvus_ef: int = Field(
        128,
        ge=1,
        description="How widely a search looks: HNSW's `ef`, DISKANN's `search_list`, IVF_SQ8's `nprobe` of 1024 lists.",
    )
    milvus_consistency: Literal["Strong", "Session", "Bounded", "Eventually"] = Field(
        "Strong",
        description="Strong: a search sees what any replica put in before. The others are faster and may miss it.",
    )
    worker: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Whether this process runs the worker, too. auto: if its stores are embedded; else `lookalike worker` does.",
    )
    engine: Literal["openvino", "torch"] = Field(
        "openvino", description="What runs the network; `torch` needs the extra `torch`."
    )
    precision: Literal["auto", "bf16", "f32"] = Field(
        "auto", description="OpenVINO's arithmetic. auto: bf16 where the CPU has it."
    )
    weights: Path | None = Field(None, description="Weights file. Empty: the shipped one.")
    slots: int = Field(
        default_factory=available_cores,
        ge=1,
        description="Images decoded and embedded at a time. Default: one per core.",
    )
    max_file_bytes: int = Field(32 * MIB, ge=1, description="Largest image file, in bytes.")
    max_request_bytes: int = Field(256 * MIB, ge=1, description="Largest request body, in bytes.")
    max_request_files: int = Field(100, ge=1, description="Most files in one request.")
    max_spool_bytes: int = Field(
        1024 * MIB, ge=1, description="Most bytes of request bodies held at a time; beyond: 503."
    )
    max_requests: int = Field(
        256, ge=1, description="Most requests with a body at a time; beyond: 503."
    )
    body_timeout: float = Field(
        30.0,
        gt=0,
        description="Seconds a body may take, plus the time its bytes need at LOOKALIKE_BODY_MIN_RATE.",
    )
    body_min_rate: int = Field(
        64 * 1024, ge=1, description="Bytes per second under which a body is given up with 408."
    )
    lease_seconds: float = Field(
        60.0,
        gt=0,
        le=FARTHEST,
        description="How long an upload or the worker holds a row before others may take it.",
    )
    upload_wait: float = Field(
        30.0, gt=0, description="Seconds an upload waits for another one of the same bytes."
    )
    index_attempts: int = Field(
        8,
        ge=1,
        description="Attempts to index a master, with growing pauses, until it is a dead letter. Outages do not count.",
    )
    worker_interval: float = Field(
        1.0,
        gt=0,
        description="Seconds between two looks of the idle worker, and of every process at the model versions.",
    )
    reembed_rate: float = Field(
        0.0,
        ge=0,
        description="Images a second that a worker embeds for a model version that is not active, about; 0: no limit.",
    )
    scrub_interval: float = Field(
        86_400.0, ge=0, description="Seconds between two scrubs by the worker; 0: none."
    )
    scrub_rate: float = Field(
        100.0,
        gt=0,
        description="Masters, objects and vectors a second that such a scrub looks at, at most.",
    )
    scrub_repair: bool = Field(
        False, description="Whether such a scrub repairs what it finds, or only reports it."
    )
    scrub_grace: float = Field(
        3600.0,
        ge=0,
        description="Seconds for which an object without a master may belong to an upload under way.",
    )
    thumbnail_cache_bytes: int = Field(
        32 * MIB, ge=0, description="Memory for thumbnails, in bytes."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least level that is logged."
    )

    @property
    def effective_database_url(self) -> str:
        return self.database_url or f"sqlite:///{quote(str(self.data_dir / 'lookalike.db'))}"

    @property
    def effective_objects_url(self) -> str:
        return self.objects_url or (self.data_dir / "objects").as_uri()


def default_text(name: str) -> str:
    """A setting's default as documentation shows it."""
    field = Settings.model_fields[name]
    if name == "slots":
        return "cores"
    value = (
        field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
    )
    if isinstance(value, int) and value % MIB == 0 and value:
        return f"`{value}` ({value // MIB} MiB)"
    return f"`{value}`" if value not in ("", None) else "none"
