"""The report of a scrub: what it checked, found and repaired."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

_EXAMPLES = 20  # per kind of finding

KINDS = {
    "object-missing": "a master whose bytes are gone",
    "object-wrong": "a master whose bytes are not those that were uploaded",
    "object-unreadable": "a master whose bytes cannot be read from the store; check the disk",
    "object-unknown": "an object without a master",
    "object-foreign": "an object whose key is not one of Lookalike's; check it yourself",
    "vector-missing": "a master without its vector",
    "vector-outdated": "a master whose vector has other attributes than the master",
    "vector-unknown": "a vector without a master",
    "healed": "a damaged master whose bytes are right again",
}


@dataclass
class ScrubReport:
    """The counts of a scrub so far, with the ids and keys of the first findings of each kind."""

    repair: bool  # whether findings are repaired; false if the repair was refused
    allow_removal: bool = False
    refused: str = ""  # why nothing was repaired, or why the repair was stopped
    surveyed: int = 0  # objects and vectors that were counted before the repair
    masters: int = 0
    hashed: int = 0  # objects that were read and compared with their hash
    objects: int = 0
    vectors: int = 0
    waiting: int = 0  # pending embeddings, which are no findings
    expired: int = 0  # objects that were in quarantine long enough, and are deleted
    aborted: int = 0  # uploads to the object store that never ended, and are aborted
    seconds: float = 0.0
    found: dict[str, int] = field(default_factory=dict)  # by kind
    repaired: dict[str, int] = field(default_factory=dict)  # by kind
    examples: dict[str, list[str]] = field(default_factory=dict)  # by kind

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not self.found

    @property
    def checked(self) -> int:
        """The number of masters, objects and vectors that were checked, or counted before."""
        return self.surveyed + self.masters + self.objects + self.vectors

    def refuse(self, reason: str) -> None:
        """Stop repairing: the rest of the scrub only reports."""
        self.repair = False
        self.refused = reason

    def add_finding(self, kind: str, what: object, *, repaired: bool) -> None:
        """Count a finding of one of KINDS; ``what`` is the id or key that it is about."""
        self.found[kind] = self.found.get(kind, 0) + 1
        if repaired:
            self.repaired[kind] = self.repaired.get(kind, 0) + 1
        examples = self.examples.setdefault(kind, [])
        if len(examples) < _EXAMPLES:
            examples.append(str(what))

    def as_json(self) -> dict[str, Any]:
        """Return the report as the API and the log show it."""
        return vars(self) | {"seconds": round(self.seconds, 1), "clean": self.clean}
