"""Copies what people decided about near-identical masters from one installation to another."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from itertools import chain, groupby

from storage.protocols import DecidedPair, MetadataStore
from storage.protocols.duplicates import IdPair

_BATCH = 500


def list_decisions(metadata: MetadataStore) -> Iterator[list[DecidedPair]]:
    """Yield all decisions in batches, in the order of their pairs. Raises StoreUnavailable."""
    after = None
    while batch := metadata.list_all_decisions(_BATCH, after):
        after = batch[-1].masters
        yield batch


def copy_decisions(source: MetadataStore, target: MetadataStore) -> int:
    """Copy decisions about masters that the target has, and return how many were written.

    Of two decisions about the same pair, the later one stays. Raises StoreUnavailable.
    """
    return sum(map(target.import_decisions, list_decisions(source)))


def mirror_decisions(source: MetadataStore, target: MetadataStore) -> int:
    """Give the target the decisions of the source and no others; return how many were written.

    Decisions about masters that the target lacks are left out. Raises StoreUnavailable.
    """
    surplus: list[IdPair] = []
    for pair in _list_differences(source, target):
        surplus.append(pair)
        if len(surplus) == _BATCH:
            target.forget_decisions(surplus)
            surplus = []
    if surplus:
        target.forget_decisions(surplus)
    return copy_decisions(source, target)


def _list_differences(source: MetadataStore, target: MetadataStore) -> Iterator[IdPair]:
    """Yield the pairs about which the target says something that the source does not say."""
    ours, theirs = (
        ((each.masters, in_target, each) for each in chain.from_iterable(list_decisions(store)))
        for in_target, store in enumerate((source, target))
    )
    merged = merge(ours, theirs, key=lambda item: item[:2])
    for pair, items in groupby(merged, key=lambda item: item[0]):
        *in_source, (_, in_target, decided) = items
        if in_target and [each for *_, each in in_source] != [decided]:
            yield pair
