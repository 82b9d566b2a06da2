"""Groups of near-identical masters, made of verified pairs and of what people decided."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class DuplicatePair:
    """Two masters that show one photograph. ``common`` counts the local features they share."""

    first: str
    second: str
    common: int
    distance: float  # in the space ``look``


@dataclass(frozen=True)
class DuplicateGroup:
    """A representative and the masters that each make a verified pair with it.

    ``certainty`` is the smallest number of features that a member shares with it.
    """

    representative: str
    members: tuple[str, ...]  # the representative first, then by certainty
    certainty: int


def group_pairs(
    pairs: Iterable[DuplicatePair], apart: Collection[frozenset[str]] = ()
) -> list[DuplicateGroup]:
    """Group masters around representatives, largest groups first; each is in one group at most.

    A master joins a group only if it makes a pair with the representative, so a chain of pictures
    that change little by little does not become one group. ``apart`` has pairs of masters that
    were decided not to be duplicates: no group has both. The order of ``pairs`` does not matter.
    """
    common: dict[str, dict[str, int]] = defaultdict(dict)
    for pair in pairs:
        if pair.first != pair.second and frozenset((pair.first, pair.second)) not in apart:
            common[pair.first][pair.second] = common[pair.second][pair.first] = pair.common
    order = sorted(common, key=lambda each: (-len(common[each]), -sum(common[each].values()), each))
    free, groups = set(order), []
    for representative in order:
        if representative not in free:
            continue
        members = [representative]
        near = common[representative]
        for other in sorted(near.keys() & free, key=lambda each: (-near[each], each)):
            if all(frozenset((other, member)) not in apart for member in members):
                members.append(other)
        if len(members) > 1:
            free.difference_update(members)
            groups.append(DuplicateGroup(representative, tuple(members), near[members[-1]]))
    return sorted(groups, key=lambda each: (-len(each.members), each.representative))
