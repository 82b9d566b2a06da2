"""Records what a client sends to MySQL or MariaDB."""

from __future__ import annotations

from typing import Any

import pymysql
import pytest


def record_statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list to which each statement is added as it is sent; a ping is empty."""
    statements: list[str] = []
    execute = pymysql.connections.Connection._execute_command

    def record(self: Any, command: int, statement: bytes | bytearray | str) -> None:
        sent = statement.encode() if isinstance(statement, str) else statement
        statements.append(sent.decode(errors="replace"))
        execute(self, command, statement)

    monkeypatch.setattr(pymysql.connections.Connection, "_execute_command", record)
    return statements


def name_statements(statements: list[str]) -> list[str]:
    """Return the first word of each statement, and the table of one that writes."""
    names = []
    for statement in statements:
        words = statement.split()
        table = {"INSERT": 2, "UPDATE": 1}.get(words[0]) if words else None
        names.append(f"{words[0]} {words[table]}" if table else " ".join(words[:1]) or "ping")
    return names
