"""The settings, read from environment variables with the prefix LOOKALIKE_ or from a file .env."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from storage.cores import available_cores
from storage.records import FARTHEST

MIB = 1024 * 1024


def _refuse_int8(precision: object) -> object:
    """Say how to get int8, which is not an arithmetic of other weights but a version of its own."""
    if precision == "int8":
        raise ValueError(
            "int8 is a model version: leave this at auto, and run `lookalike models quantize`"
        )
    return precision


class Settings(BaseSettings):
    """The settings of one process; frozen. A test holds docs/settings.md to this class."""

    model_config = SettingsConfigDict(
        env_prefix="LOOKALIKE_",
        env_file=".env",
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,  # it may be a secret in the wrong variable
    )

    host: str = Field(
        "127.0.0.1",
        description="Address to listen on. Any address but a loopback one needs an API key.",
    )
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on. 0 picks a free port.")
    api_keys: SecretStr = Field(
        SecretStr(""),
        description="API keys with their scopes: `read:KEY,write:KEY,admin:KEY`. write includes"
        " read, and admin includes both. Clients send `Authorization: Bearer KEY`. Without keys,"
        " everybody who reaches the service may do everything.",
    )
    allowed_hosts: str = Field(
        "",
        description="Host names that the service answers to, separated by commas. Empty: loopback"
        " names if there are no API keys, any name if there are.",
    )
    data_dir: Annotated[Path, AfterValidator(Path.absolute)] = Field(
        Path("lookalike-data"),
        description="Directory of the embedded stores. Only one process at a time may use it.",
    )
    database_url: str = Field(
        "",
        repr=False,
        description="Metadata database. Empty: `sqlite:///DATA_DIR/lookalike.db`. For MySQL or"
        " MariaDB: `mysql+pymysql://USER:PASSWORD@HOST/NAME`.",
    )
    objects_url: str = Field(
        "",
        repr=False,
        description="Object store for the images. Empty: `file://DATA_DIR/objects`. For MinIO or"
        " any other S3-compatible store: `s3://KEY:SECRET@HOST:PORT/BUCKET?secure=false&region=REGION`.",
    )
    vectors_url: str = Field(
        "embedded:",
        repr=False,
        description="Vector store. `embedded:` searches exactly, in memory, and keeps the vectors"
        " in the metadata database. For Milvus: `http://HOST:19530`.",
    )
    store_timeout: float = Field(
        10.0, gt=0, description="Maximum time of one call to a server, in seconds."
    )
    database_pool: int = Field(
        32, ge=1, description="Maximum number of connections to MySQL or MariaDB."
    )
    create_bucket: bool = Field(
        True, description="Whether to create the S3 bucket if it does not exist."
    )
    public_objects_url: str = Field(
        "",
        pattern="^(https?://[^/]+)?$",
        description="Address at which clients reach the object store, such as `https://HOST:PORT`."
        " If it is set, `GET /masters/{id}/content` redirects there, to a link that is valid for"
        " five minutes.",
    )
    milvus_token: SecretStr = Field(
        SecretStr(""), description="Milvus credentials: `USER:PASSWORD` or an API key."
    )
    milvus_ca_certificate: str = Field(
        "", description="File with the CA certificate of a Milvus that is reached over https."
    )
    milvus_prefix: str = Field(
        "lookalike",
        pattern="^[A-Za-z_][A-Za-z0-9_]*$",
        description="Prefix of the names of the Milvus collections.",
    )
    milvus_index: Literal["HNSW", "IVF_SQ8", "DISKANN", "FLAT"] = Field(
        "HNSW", description="Index type of new Milvus collections."
    )
    milvus_m: int = Field(16, ge=2, le=2048, description="HNSW: number of links per vector.")
    milvus_ef_construction: int = Field(
        200, ge=8, description="HNSW: number of candidates while the index is built."
    )
    milvus_ef: int = Field(
        128,
        ge=1,
        description="Breadth of a search: `ef` of HNSW, `search_list` of DISKANN, `nprobe` (of"
        " 1024 lists) of IVF_SQ8. More is slower and finds more.",
    )
    milvus_consistency: Literal["Strong", "Session", "Bounded", "Eventually"] = Field(
        "Strong",
        description="Milvus consistency level. With Strong, a search sees every earlier upload of"
        " any process. The other levels are faster and may miss recent uploads.",
    )
    worker: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Whether this process runs the worker in a thread. auto: only if its stores"
        " are embedded. Otherwise start `lookalike worker`.",
    )
    engine: Literal["openvino", "torch"] = Field(
        "openvino", description="Engine that runs the network. `torch` needs the extra `torch`."
    )
    precision: Annotated[Literal["auto", "bf16", "f32"], BeforeValidator(_refuse_int8)] = Field(
        "auto",
        description="Arithmetic of the OpenVINO engine. auto: bf16 if the CPU has instructions for"
        " it, otherwise f32. bf16 moves a vector by a cosine distance of about 0.0001. int8 is not"
        " set here: `lookalike models quantize` makes a model version of it.",
    )
    weights: Path | None = Field(
        None,
        description="Encoder of a new installation: a weights file or a bundle that"
        " `lookalike encoders check` accepts. Empty: the shipped weights.",
    )
    slots: int = Field(
        default_factory=available_cores,
        ge=1,
        description="Number of images decoded and embedded at the same time, each on one core. An"
        " image that is alone is embedded on as many cores.",
    )
    memory_limit: int = Field(
        0,
        ge=0,
        description="Memory in bytes that this process and those in which it decodes images may"
        " take together, without vectors and the encoders of further spaces. It bounds how large"
        " an image may be. 0: 1.6 GB with two slots, and 143 MB more for each further one.",
    )
    decode_seconds: float = Field(
        5.0, gt=0, description="CPU time that decoding one image may take, in seconds."
    )
    max_megapixels: int = Field(
        64,
        ge=1,
        le=4000,
        description="Maximum size of an image, in megapixels. A JPEG of 200 megapixels takes little"
        " memory, because it is decoded at a fraction of its size; most others also need a higher"
        " LOOKALIKE_MEMORY_LIMIT.",
    )
    accept_truncated: bool = Field(
        False,
        description="Whether to accept uploads of JPEGs that lack up to about 1 % of their bytes at"
        " the end. Truncated samples are always accepted. The response has a warning.",
    )
    keep_gps: bool = Field(
        True,
        description="Whether to keep the position at which a picture was taken. It applies to files"
        " that are read from then on; `lookalike capture --reread` applies it to all.",
    )
    max_file_bytes: int = Field(
        32 * MIB, ge=1, description="Maximum size of an image file, in bytes."
    )
    max_request_bytes: int = Field(
        256 * MIB, ge=1, description="Maximum size of a request body, in bytes."
    )
    max_encoder_bytes: int = Field(
        2048 * MIB, ge=1, description="Maximum size of an uploaded encoder, in bytes."
    )
    max_request_files: int = Field(100, ge=1, description="Maximum number of files in one request.")
    max_spool_bytes: int = Field(
        1024 * MIB,
        ge=1,
        description="Maximum number of bytes of all request bodies that are held at the same time."
        " Further requests get 503.",
    )
    max_requests: int = Field(
        256,
        ge=1,
        description="Maximum number of requests with a body at a time. Further ones get 503.",
    )
    body_timeout: float = Field(
        30.0,
        gt=0,
        description="How long a client may send nothing of a request body, in seconds, and how far"
        " it may fall behind LOOKALIKE_BODY_MIN_RATE in total.",
    )
    body_min_rate: int = Field(
        64 * 1024,
        ge=1,
        description="Minimum transfer rate of a request body, in bytes per second. Slower ones get"
        " 408.",
    )
    response_timeout: float = Field(
        30.0,
        gt=0,
        description="How long a client may read nothing of a response, in seconds, and how far it"
        " may fall behind LOOKALIKE_RESPONSE_MIN_RATE in total. Then it is disconnected.",
    )
    response_min_rate: int = Field(
        16 * 1024,
        ge=1,
        description="Minimum rate at which a client must read a response, in bytes per second.",
    )
    head_timeout: float = Field(
        15.0,
        gt=0,
        description="How long the head of a request may take, in seconds: from the connection, or"
        " on a connection in use from the request's first byte. Slower ones get 408, and silent"
        " connections are closed.",
    )
    idle_timeout: float = Field(
        30.0,
        gt=0,
        description="How long a connection stays open without a further request, in seconds.",
    )
    max_connections: int = Field(
        2048,
        ge=1,
        description="Maximum number of connections. Beyond it, the connection that has waited"
        " longest for its client is closed. If none waits, new ones get 503, except for `/livez`"
        " and `/readyz`. The limit of the operating system on open files may lower it.",
    )
    max_connections_per_address: int = Field(
        0,
        ge=0,
        description="Maximum number of connections from one address; further ones are closed at"
        " once. 0: unlimited. Behind a reverse proxy every connection has the proxy's address, so"
        " set such a limit in the proxy instead.",
    )
    lease_seconds: float = Field(
        60.0,
        gt=0,
        le=FARTHEST,
        description="How long an upload or the worker holds a row before another process may take"
        " it over, in seconds.",
    )
    upload_wait: float = Field(
        30.0,
        gt=0,
        description="How long an upload waits for another upload of the same bytes, in seconds.",
    )
    index_attempts: int = Field(
        8,
        ge=1,
        description="Number of attempts to index a master, with growing pauses, before it becomes"
        " a dead letter. Outages of a store do not count.",
    )
    worker_interval: float = Field(
        1.0,
        gt=0,
        description="How often the idle worker polls for work, and how often every process polls"
        " the model versions, in seconds.",
    )
    reembed_rate: float = Field(
        0.0,
        ge=0,
        description="Approximate number of images per second that a worker embeds for a model"
        " version that is not active. 0: unlimited.",
    )
    capture_rate: float = Field(
        100.0,
        gt=0,
        description="Maximum number of masters per second whose capture metadata a worker reads"
        " after an upgrade or `lookalike capture --reread`.",
    )
    duplicate_rate: float = Field(
        0.0,
        ge=0,
        description="Approximate number of masters per second that a worker reads and compares to"
        " find duplicates. 0: unlimited.",
    )
    scrub_interval: float = Field(
        86_400.0, ge=0, description="Time between two scrubs by the worker, in seconds. 0: never."
    )
    scrub_rate: float = Field(
        100.0,
        gt=0,
        description="Maximum number of masters, objects and vectors per second that such a scrub"
        " checks.",
    )
    scrub_repair: bool = Field(
        False, description="Whether such a scrub repairs what it finds. Otherwise it only reports."
    )
    scrub_grace: float = Field(
        3600.0,
        ge=0,
        description="Age up to which an object without a master may belong to an upload under way,"
        " in seconds.",
    )
    quarantine_days: int = Field(
        30,
        ge=0,
        description="How long an object that a repair has moved to quarantine is kept, in days."
        " The worker's scrub deletes older ones. 0: for ever.",
    )
    undo_hours: float = Field(
        24.0,
        ge=0,
        le=8760,
        description="How long the deletion of several masters can be undone, in hours. Their bytes"
        " take space until then. 0: such a deletion is permanent at once.",
    )
    catalogue_interval: float = Field(
        3600.0,
        ge=0,
        description="Time after which the worker updates the catalogue in the object store, which"
        " keeps names and attributes if the metadata database is lost, in seconds. 0: never.",
    )
    thumbnail_cache_bytes: int = Field(
        32 * MIB, ge=0, description="Memory for cached thumbnails, in bytes."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Minimum level of log messages."
    )

    @property
    def effective_database_url(self) -> str:
        """The database URL, or that of the database in the data directory."""
        return self.database_url or f"sqlite:///{quote(str(self.data_dir / 'lookalike.db'))}"

    @property
    def effective_objects_url(self) -> str:
        """The object store's URL, or that of the folder in the data directory."""
        return self.objects_url or (self.data_dir / "objects").as_uri()


def default_text(name: str) -> str:
    """Return a setting's default as the documentation shows it."""
    field = Settings.model_fields[name]
    if name == "slots":
        return "number of cores"
    value = (
        field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
    )
    if isinstance(value, int) and value % MIB == 0 and value:
        return f"`{value}` ({value // MIB} MiB)"
    return f"`{value}`" if value not in ("", None) else "none"
