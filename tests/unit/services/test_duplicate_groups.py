"""Groups of near-identical masters."""

from __future__ import annotations

from itertools import permutations

from app.services.duplicate_groups import group_pairs
from storage.protocols import RawPair


def pair(first: str, second: str, common: int = 20, distance: float = 0.1) -> RawPair:
    return RawPair(first.encode(), second.encode(), common, distance)


def members_of(pairs: list[RawPair], *apart: tuple[str, str]) -> list[tuple[str, ...]]:
    decided = {frozenset((first.encode(), second.encode())) for first, second in apart}
    return [tuple(map(bytes.decode, each.members)) for each in group_pairs(pairs, decided)]


def test_a_pair_is_a_group_with_its_certainty() -> None:
    (group,) = group_pairs([pair("a", "b", 12)])
    assert (group.representative, group.members, group.certainty) == (b"a", (b"a", b"b"), 12)


def test_copies_of_one_original_are_one_group_sorted_by_certainty() -> None:
    pairs = [pair("b", "a", 10, 0.3), pair("b", "c", 30, 0.1), pair("b", "d", 20, 0.2)]
    assert members_of(pairs) == [("b", "c", "d", "a")]
    (group,) = group_pairs(pairs)
    assert (group.common, group.distances) == ((30, 20, 10), (0.1, 0.2, 0.3))


def test_a_chain_does_not_become_one_group() -> None:
    chain = [pair("a", "b"), pair("b", "c"), pair("c", "d"), pair("d", "e")]
    assert members_of(chain) == [("b", "a", "c"), ("d", "e")]


def test_a_master_is_in_one_group_at_most() -> None:
    pairs = [pair(*each) for each in ("ab", "ac", "ad", "dx", "xy", "xz")]
    members = [each for group in members_of(pairs) for each in group]
    assert len(members) == len(set(members))


def test_masters_that_were_decided_to_differ_are_never_in_one_group() -> None:
    pairs = [pair("a", "b"), pair("a", "c"), pair("b", "c", 5)]
    assert members_of(pairs, ("b", "c")) == [("a", "b")]
    assert members_of([pair("a", "b")], ("b", "a")) == []


def test_the_order_of_the_pairs_does_not_matter() -> None:
    pairs = [pair("a", "b", 9), pair("b", "c", 9), pair("c", "d", 9), pair("d", "a", 9)]
    groups = {tuple(members_of(list(order))) for order in permutations(pairs)}
    assert len(groups) == 1


def test_thousands_of_copies_are_not_each_compared_with_all_others() -> None:
    hashed = 0

    class Counted(bytes):
        def __hash__(self) -> int:
            nonlocal hashed
            hashed += 1
            return super().__hash__()

    ids = [Counted(number.to_bytes(2)) for number in range(2000)]
    pairs = [RawPair(ids[0], other, 20, 0.1) for other in ids[1:]]
    (group,) = group_pairs(pairs, {frozenset((ids[1], ids[2]))})
    assert len(group.members) == len(ids) - 1
    assert hashed < 50 * len(ids)


def test_a_pair_of_a_master_with_itself_is_no_group() -> None:
    assert members_of([pair("a", "a")]) == []
