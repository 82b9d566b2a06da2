"""Notices that the metadata database may be older than the bucket, so that nothing is removed."""

from __future__ import annotations

import time

from app.logs import log
from app.services.catalogue import CATALOGUE_MARK
from app.services.catalogue_files import CatalogueDamaged, read_index
from app.services.marks import has_reached
from storage.errors import StoreUnavailable
from storage.protocols import Stores

_PERIOD = 60.0  # seconds between two checks
ADVICE = (
    "If the database was lost or restored from a dump, stop the service and run"
    " `lookalike recover`. If nothing is missing, run"
)


def find_doubt(stores: Stores) -> str:
    """Return why the metadata database may be older than the bucket; empty if it is not.

    It may also be the database of another installation. Raises StoreUnavailable.
    """
    try:
        index = read_index(stores.objects)
    except CatalogueDamaged:
        return ""  # it tells nothing about the database
    except StoreUnavailable as error:
        what = "the catalogue, which tells whether the metadata database is current"
        return f"{what}, cannot be read: {error}"
    if index is None or has_reached(stores.metadata, CATALOGUE_MARK, index.mark):
        return ""
    return (
        "the metadata database is older than the catalogue in the object store, or it is the"
        " database of another installation"
    )


class DatabaseDoubt:
    """Checks once a minute, for the worker, which must not remove anything meanwhile.

    An older database has rows of uploads that were under way when it was dumped. Such an upload was
    acknowledged since, but its row looks like that of an upload that was given up.
    """

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._due = 0.0
        self._doubt = ""

    def exists(self) -> bool:
        """Return whether there is a doubt; log a new one. Raises StoreUnavailable."""
        now = time.monotonic()
        if now >= self._due:
            doubt = find_doubt(self._stores)
            self._due = now + _PERIOD
            if doubt and doubt != self._doubt:
                advice = f"{ADVICE} `lookalike catalogue --replace`."
                log.error("the worker removes nothing", reason=f"{doubt}. {advice}")
            self._doubt = doubt
        return bool(self._doubt)
