"""Decisions about near-identical masters, in stores that tests copy or lose."""

from __future__ import annotations

from storage.protocols import DecidedPair, Decision, MetadataStore


def decide(metadata: MetadataStore) -> list[DecidedPair]:
    """Decide about the first three masters, and return the three decisions."""
    ids = [record.master.id for record in metadata.list_records(None, 3)]
    metadata.save_decisions(ids, Decision.DIFFERENT)
    metadata.save_decisions(ids[:2], Decision.KEEP)
    decided = decisions_of(metadata)
    assert len(decided) == 3
    return decided


def decisions_of(metadata: MetadataStore) -> list[DecidedPair]:
    return metadata.list_all_decisions(100, None)
