"""Starts the service in the order that makes it ready soonest.

This module imports only what is needed to begin to load the model.
"""

from __future__ import annotations

from typing import Any

from app.given_model import start_loading
from app.process_memory import collection_paused, return_memory_early
from app.settings import Settings


def serve(**given: Any) -> bool:
    """Serve until a signal ends it. Return whether the server started.

    Values in ``given`` override the environment. Raises pydantic.ValidationError and what
    ``server.serve`` raises.
    """
    return_memory_early()
    settings = Settings(**given)
    with collection_paused():
        loading = start_loading(settings)
        from app import server  # it imports all of the service, while the model is loaded
    return server.serve(settings, loading)
