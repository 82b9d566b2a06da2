"""`lookalike change` and `lookalike delete` against a running service."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from app.cli import changing
from app.cli.main import app
from app.services import changes
from tests.support.images import encoded, part_of
from tests.support.service import Service

RED = '{"colour": "red"}'


@pytest.fixture
def shelf(service: Service, monkeypatch: pytest.MonkeyPatch) -> Service:
    """Three red masters and a blue one; a batch has two."""
    monkeypatch.setattr(changes, "_BATCH", 2)
    for number in range(4):
        attributes = {"colour": "red" if number else "blue", "n": number}
        content = encoded(part_of("coffee", number, (96, 72)))
        service.put_master(content, f"{number}.jpg", attributes=json.dumps(attributes))
    return service


def run(service: Service, *arguments: str, answer: str = "") -> Result:
    environment = {"LOOKALIKE_URL": str(service.client.base_url), "COLUMNS": "100"}
    return CliRunner().invoke(app, list(arguments), env=environment, input=answer)


def attributes_of(service: Service) -> list[dict[str, Any]]:
    masters = service.client.get("/masters").json()["masters"]
    return [master["attributes"] for master in reversed(masters)]


def test_images_are_changed_by_a_filter(shelf: Service) -> None:
    given = ["--filter", RED, "--set", "sale.percent=20", "--set", "label=à la carte"]
    given += ["--unset", "n"]
    counted = run(shelf, "change", *given, "--dry-run")
    assert (counted.exit_code, counted.output) == (0, "3 images match. Nothing was changed.\n")
    done = run(shelf, "change", *given, "--yes")
    assert done.exit_code == 0, done.output
    assert "Changed 3 images; 0 needed no change." in done.output
    after = {"colour": "red", "sale": {"percent": 20}, "label": "à la carte"}
    assert attributes_of(shelf) == [{"colour": "blue", "n": 0}, *[after] * 3]
    again = run(shelf, "change", *given, "--yes", "--json")
    result = json.loads(again.stdout)
    assert (result["changed"], result["unchanged"]) == (0, 3)


def test_images_are_deleted_by_a_filter(shelf: Service) -> None:
    counted = run(shelf, "delete", "--filter", RED, "--dry-run", "--json")
    assert json.loads(counted.output) == {"matched": 3}
    assert "Deleted 3 images." in run(shelf, "delete", "--filter", RED, "--yes").output
    assert attributes_of(shelf) == [{"colour": "blue", "n": 0}]
    result = json.loads(run(shelf, "delete", "--filter", RED, "--yes", "--json").stdout)
    assert result == {"matched": 0, "deleted": 0, "skipped": 0}


def test_nothing_is_done_without_confirmation(
    shelf: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = run(shelf, "delete", "--filter", RED)
    assert refused.exit_code == 2
    assert "Delete 3 images? Nobody can answer here: confirm with --yes" in refused.output
    monkeypatch.setattr(changing, "_is_answered", lambda: True)
    assert "nothing was done" in run(shelf, "delete", "--filter", RED, answer="n\n").output
    assert len(attributes_of(shelf)) == 4
    done = run(shelf, "change", "--filter", RED, "--set", "a=1", answer="y\n")
    assert "Change 3 images? [y/N]" in done.output
    assert [each.get("a") for each in attributes_of(shelf)] == [None, 1, 1, 1]


def test_refused_images_are_named(shelf: Service) -> None:
    last = shelf.client.get("/masters").json()["masters"][0]["id"]
    large = {"attributes": {"colour": "red", "text": "x" * 16_000}}
    assert shelf.client.patch(f"/masters/{last}", json=large).status_code == 200
    note = "note=" + "y" * 500
    done = run(shelf, "change", "--filter", RED, "--set", note, "--yes")
    assert done.exit_code == 1
    assert f"{last} was refused: attributes are over 16 KiB as JSON" in done.output


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["delete", "--filter", "{"], "--filter is not valid JSON"),
        (["delete", "--filter", "{}"], "expected a non-empty object"),
        (["delete", "--filter", RED, "-c", "none"], "There is no collection named none"),
        (["change", "--filter", RED], "There is nothing to change"),
        (["change", "--filter", RED, "--set", "a"], "write PATH=VALUE"),
        (["change", "--filter", RED, "--set", "=a"], "write PATH=VALUE"),
        (["change", "--filter", RED, "--set", "a=null"], "--unset PATH"),
        (["change", "--filter", RED, "--set", "a=1", "--set", "a.b=2"], "gives a a value"),
        (["change", "--filter", RED, "--set", "a.b=1", "--set", "a=2"], "gives a a value"),
        (["change", "--filter", RED, "--unset", "$a"], "cannot be used"),
    ],
)
def test_bad_input_changes_nothing(shelf: Service, arguments: list[str], reason: str) -> None:
    before = attributes_of(shelf)
    refused = run(shelf, *arguments, "--yes")
    assert refused.exit_code == 2
    assert reason in " ".join(refused.output.split())
    assert attributes_of(shelf) == before
