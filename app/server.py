"""Runs the app under uvicorn with the settings of the environment."""

from __future__ import annotations

import sys

import uvicorn
from pydantic import ValidationError

from app.main import create_app, opened_embedder, opened_stores
from app.observability import configure_logging
from app.security import InsecureSettings, check_listening
from app.settings import Settings
from models.weights_file import WeightsInvalid
from storage.factory import ConfigurationError
from storage.protocols import StoreUnavailable


def serve(**given: object) -> int:
    """Serve until a signal ends it; the exit code. ``given`` settings go before those of the environment."""
    try:
        settings = Settings(**given)  # type: ignore[arg-type]
        configure_logging(settings.log_level)
        check_listening(settings)
        with opened_stores(settings) as stores:
            config = uvicorn.Config(
                create_app(settings, stores, opened_embedder(settings)),
                host=settings.host,
                port=settings.port,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=30,
            )
            server = uvicorn.Server(config)
            server.run()
    except ValidationError as error:
        for item in error.errors():
            name = f"LOOKALIKE_{'_'.join(str(part) for part in item['loc'])}".upper()
            print(f"lookalike: {name}: {item['msg']}", file=sys.stderr)  # noqa: T201
        return 2
    except (InsecureSettings, ConfigurationError, WeightsInvalid, StoreUnavailable) as error:
        print(f"lookalike: {error}", file=sys.stderr)  # noqa: T201 - for the person who started it
        return 2
    return 0 if server.started else 2
