"""The list of the writes of each scenario, so that every kill is a separate test.

``test_the_list_names_the_writes_of_a_run`` compares this list with what the scenarios write.
"""

from __future__ import annotations

from tests.crash.scenarios import kills_at
from tests.crash.watch import WRITES, Kill, Moment

_UPLOAD = (
    "metadata.reserve_master",
    "objects.put",
    "metadata.commit_stored",
    "vectors.upsert",
    "metadata.mark_indexed",
)
_REMOVAL = (
    "metadata.claim_deleting",
    "vectors.delete",
    "objects.delete",
    "metadata.forget_master",
)
_READING = ("metadata.acquire_lease", "metadata.save_captures", "metadata.release_lease")
WRITES_OF: dict[str, tuple[str, ...]] = {
    "uploads": ("metadata.create_collection", *_UPLOAD),
    "changes": (
        "metadata.update_master",
        "metadata.claim_embedding",
        "vectors.upsert",
        "metadata.mark_indexed",
    ),
    "matching": (
        "metadata.update_masters",
        "metadata.claim_embeddings",
        "vectors.upsert",
        "metadata.mark_indexed",
        "metadata.delete_masters",
        *_REMOVAL,
    ),
    "undoing": (
        "metadata.remove_masters",
        "metadata.claim_removed",
        "vectors.delete",
        "metadata.settle_removed",
        *_UPLOAD,
        "metadata.restore_attributes",
        "metadata.restore_masters",
        "metadata.claim_embeddings",
        "metadata.expire_deletions",
        *_REMOVAL[:1],
        *_REMOVAL[2:],
    ),
    "resolving": (
        "metadata.remove_masters",
        "metadata.claim_embeddings",
        "vectors.upsert",
        "metadata.mark_indexed",
        "metadata.claim_removed",
        "vectors.delete",
        "metadata.settle_removed",
        "metadata.restore_attributes",
        "metadata.restore_masters",
    ),
    "deletions": ("metadata.delete_master", *_UPLOAD, *_REMOVAL),
    "collections": (
        "metadata.delete_collection",
        "metadata.create_collection",
        *_UPLOAD,
        "metadata.empty_collection",
        "metadata.drain_collections",
        *_REMOVAL,
    ),
    "building": (
        "registry.start_building",
        "registry.record_heartbeat",
        *_UPLOAD,
        "metadata.acquire_lease",
        "registry.backfill_embeddings",
        "metadata.release_lease",
        "metadata.claim_embeddings",
    ),
    "switching": (
        "metadata.acquire_lease",
        "registry.backfill_embeddings",
        "metadata.release_lease",
        "registry.activate_model",
        "registry.record_heartbeat",
        "registry.retire_model",
        "registry.drain_retired",
        "vectors.drop_version",
        "objects.delete",
        "registry.forget_retired",
    ),
    "repairs": (
        "metadata.mark_damaged",
        "metadata.requeue_embedding",
        "objects.copy",
        "objects.delete",
        "metadata.claim_embeddings",
        "vectors.upsert",
        "metadata.mark_indexed",
        "metadata.reserve_master",
        "objects.put",
        "metadata.restore_damaged",
    ),
}
WRITES_OF["reading"] = (
    *_READING,
    "metadata.claim_embeddings",
    "vectors.upsert",
    "metadata.mark_indexed",
    "metadata.forget_readers",
)
WRITES_OF["building_words"] = WRITES_OF["building"]
WRITES_OF["switching_words"] = WRITES_OF["switching"]
WRITES_OF["removing"] = (
    "registry.retire_model",
    "registry.record_heartbeat",
    *_UPLOAD,
    "metadata.acquire_lease",
    "registry.drain_retired",
    "vectors.drop_version",
    "objects.delete",
    "registry.forget_retired",
    "metadata.release_lease",
)
# A worker that starts backfills the model that is being built once more, sometimes before the
# scenario begins.
_BACKFILL = {"metadata.acquire_lease", "registry.backfill_embeddings", "metadata.release_lease"}
OCCASIONAL: dict[str, set[str]] = {"switching": _BACKFILL, "switching_words": _BACKFILL}
# On a busy machine, the worker polls between a change's commit and the request's own claim.
# A master whose bytes are back is read again.
UNLISTED: dict[str, set[str]] = {
    "changes": {"metadata.claim_embeddings"},
    "repairs": set(_READING),
}
# A kill after a write is nearly one before the next. So the changes of a model are killed at one
# of these moments in `look`, and at the other in `words`.
MOMENTS: dict[str, tuple[Moment, ...]] = {
    "building": ("before", "during"),
    "building_words": ("after",),
    "switching": ("before", "during"),
    "switching_words": ("after",),
    "removing": ("after",),
}
# A busy machine needs a third of the short lease, after which it is renewed.
RENEWALS = {"metadata.claim_embedding", "metadata.reserve_write", "metadata.renew_reservation"}
UNREACHED = {  # writes that no scenario reaches, and what would cause them
    "metadata.renew_reservation",  # an upload that takes longer than a third of its lease
    "metadata.reserve_write",  # an embedding that takes as long
    "metadata.abandon_reservation",  # a store that fails
    "metadata.release_embedding",
    "metadata.retry_embedding",  # an image that cannot be embedded
    "metadata.requeue_dead_letters",
    "metadata.expire_reservations",  # only during recovery
    "registry.register_active",  # the first start
    "metadata.claim_database_id",
    "objects.create",
}
ALL_WRITES = {f"{store}.{write}" for store, writes in WRITES.items() for write in writes}
KILLS: dict[str, list[Kill]] = {
    name: [
        kill
        for write in writes
        for kill in kills_at(write)
        if kill.moment in MOMENTS.get(name, (kill.moment,))
    ]
    for name, writes in WRITES_OF.items()
}
