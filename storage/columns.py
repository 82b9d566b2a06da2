"""The column types that every database stores alike, and the base of the declarative classes."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import (
    BINARY,
    BigInteger,
    Dialect,
    Double,
    LargeBinary,
    String,
    TypeDecorator,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase


def binary(length: int) -> BINARY:
    """Return the column type of exactly ``length`` bytes."""
    return BINARY(length).with_variant(LargeBinary(length), "sqlite")


class UuidBytes(TypeDecorator[UUID]):
    """A UUID, stored as its 16 bytes so that UUIDv7 sort by time."""

    impl = binary(16)
    cache_ok = True

    def process_bind_param(self, value: UUID | None, dialect: Dialect) -> bytes | None:
        return None if value is None else value.bytes

    def process_result_value(self, value: Any | None, dialect: Dialect) -> UUID | None:
        return None if value is None else UUID(bytes=value)


class _CodePoints(mysql.VARCHAR):
    """Text that is compared by code point, in which a space at the end counts."""


@compiles(_CodePoints, "mysql")
def _code_points_type(type_: _CodePoints, compiler: Any, **kw: Any) -> str:
    collation = code_point_collation(mariadb=compiler.dialect.is_mariadb)
    return f"VARCHAR({type_.length}) CHARACTER SET utf8mb4 COLLATE {collation}"


def code_point_collation(*, mariadb: bool) -> str:
    """Return the collation without padding, for which MySQL and MariaDB have no common name."""
    return "utf8mb4_nopad_bin" if mariadb else "utf8mb4_0900_bin"


def text(length: int) -> String:
    """Return the column type of text that every database compares by code point."""
    return String(length).with_variant(_CodePoints(length), "mysql")


class Base(DeclarativeBase):
    type_annotation_map: ClassVar[dict[Any, Any]] = {int: BigInteger, float: Double}
