"""Groups of near-identical masters, made of verified pairs and of what people decided."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from storage.protocols import RawPair


@dataclass(frozen=True)
class DuplicateGroup:
    """A representative and the masters that each make a verified pair with it.

    ``common`` has the number of local features that each member shares with the representative, and
    ``distances`` those of their vectors; the representative itself is left out of both.
    """

    members: tuple[bytes, ...]  # ids: the representative first, then by falling ``common``
    common: tuple[int, ...]
    distances: tuple[float, ...]

    @property
    def representative(self) -> bytes:
        """The id of the member with which all others were compared."""
        return self.members[0]

    @property
    def certainty(self) -> int:
        """The smallest number of features that a member shares with the representative."""
        return self.common[-1]


def group_pairs(
    pairs: Iterable[RawPair], apart: Iterable[frozenset[bytes]] = ()
) -> list[DuplicateGroup]:
    """Group masters around representatives, largest groups first; each is in one group at most.

    A master joins a group only if it makes a pair with the representative, so a chain of pictures
    that change little by little does not become one group. ``apart`` has pairs of masters that
    were decided not to be duplicates: no group has both. The order of ``pairs`` does not matter.
    """
    different: dict[bytes, set[bytes]] = defaultdict(set)
    for first, second in apart:
        different[first].add(second)
        different[second].add(first)
    nothing: set[bytes] = set()
    found: dict[bytes, dict[bytes, tuple[int, float]]] = defaultdict(dict)
    for first, second, common, distance in pairs:
        if first != second and second not in different.get(first, nothing):
            found[first][second] = found[second][first] = (common, distance)
    strength = {id_: sum(common for common, _ in near.values()) for id_, near in found.items()}
    order = sorted(found, key=lambda id_: (-len(found[id_]), -strength[id_], id_))
    free, groups = set(order), []
    for representative in order:
        if representative not in free:
            continue
        members = [representative]
        near = found[representative]
        excluded: set[bytes] = set()  # those that differ from a member
        for other in sorted(near.keys() & free, key=lambda id_: (-near[id_][0], id_)):
            if other not in excluded:
                members.append(other)
                excluded |= different.get(other, nothing)
        if len(members) > 1:
            free.difference_update(members)
            common_counts, distances = zip(*(near[id_] for id_ in members[1:]), strict=True)
            groups.append(DuplicateGroup(tuple(members), common_counts, distances))
    return sorted(groups, key=lambda each: (-len(each.members), each.representative))
