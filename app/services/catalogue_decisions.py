"""The file of the catalogue that has what people decided about near-identical masters."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from typing import Any
from uuid import UUID

from app.services.catalogue_files import CATALOGUE_PREFIX, read_lines, write_lines
from app.services.decision_copy import list_decisions
from storage.protocols import DecidedPair, Decision, ObjectStore, Stores

DECISIONS_KEY = f"{CATALOGUE_PREFIX}decisions.jsonl.gz"


def write_decisions(stores: Stores) -> None:
    """Replace the file; it is deleted if there are no decisions. Raises StoreUnavailable."""
    decisions = chain.from_iterable(list_decisions(stores.metadata))
    write_lines(stores.objects, DECISIONS_KEY, map(line_of_decision, decisions))


def read_decisions(objects: ObjectStore) -> Iterator[DecidedPair]:
    """Yield the decisions. Raises CatalogueDamaged, ObjectMissing, StoreUnavailable."""
    return read_lines(objects, DECISIONS_KEY, _decided_of)


def line_of_decision(decided: DecidedPair) -> bytes:
    """Return the line of the file that has a decision."""
    values = vars(decided) | {"masters": [str(id_) for id_ in decided.masters]}
    return json.dumps(values).encode() + b"\n"


def _decided_of(line: bytes) -> DecidedPair:
    """Return the decision of a line. Raises ValueError, KeyError, TypeError."""
    values: dict[str, Any] = json.loads(line)
    first, second = map(UUID, values["masters"])
    return DecidedPair((first, second), Decision(values["decision"]), values["decided_at"])
