"""The installations that the crash tests start with; each is made once and copied per kill."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from storage.records import LOOK
from tests.crash.scenarios import WORDS, Base, make_base


@pytest.fixture(scope="session")
def base_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Base]:
    """Return the base of a scenario; scenarios that switch models need a second model."""
    made: dict[str | None, Base] = {}

    def find_or_make(name: str) -> Base:
        built = {"switching": LOOK, "switching_words": WORDS}.get(name)
        if built not in made:
            directory = tmp_path_factory.mktemp("base") / "data"
            made[built] = make_base(directory, built)
        return made[built]

    return find_or_make
