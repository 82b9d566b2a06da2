"""README and program say the same: every setting, every endpoint, every make target."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from app.main import create_app
from app.settings import Settings, default_text

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()


def test_every_setting_is_in_the_readme_as_it_is() -> None:
    rows = [
        f"| `LOOKALIKE_{name.upper()}` | {default_text(name)} | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]
    written = [line for line in README.splitlines() if line.startswith("| `LOOKALIKE_")]
    assert written == rows


def test_every_endpoint_is_in_the_readme() -> None:
    documented = " ".join(re.findall(r"`([^`]+)`", README))
    for path, operations in create_app(Settings(_env_file=None)).openapi()["paths"].items():
        assert path in documented, path
        for method in operations:
            assert method.upper() in documented


@pytest.mark.parametrize("target", re.findall(r"(?:^    |`)make ([a-z-]+)", README, re.MULTILINE))
def test_every_make_target_the_readme_names_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
