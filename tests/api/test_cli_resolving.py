"""`lookalike duplicates resolve` against a running service."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner, Result

from app.cli.main import app
from app.cli.resolving import KeepRule
from app.services.keeping import Rule
from tests.support.images import encoded, part_of
from tests.support.service import Service, eventually


def run(service: Service, *arguments: str) -> Result:
    environment = {"LOOKALIKE_URL": str(service.client.base_url), "COLUMNS": "200"}
    return CliRunner().invoke(app, list(arguments), env=environment)


@pytest.fixture
def ids(service: Service) -> list[str]:
    """Two copies of a photograph, of which the second one is larger, and another photograph."""
    found = []
    for photograph, side in (("coffee", 180), ("coffee", 240), ("astronaut", 240)):
        image = part_of(photograph, 3, (320, 240)).resize((side * 4 // 3, side))
        attributes = json.dumps({f"side{side}": True})
        content = encoded(image, quality=90)
        found.append(service.put_master(content, "a.jpg", attributes=attributes)["id"])
    return found


def listed(service: Service) -> dict[str, dict[str, object]]:
    masters = service.client.get("/masters").json()["masters"]
    return {master["id"]: master["attributes"] for master in masters}


def test_the_groups_of_a_scan_are_resolved_and_undone(service: Service, ids: list[str]) -> None:
    before = listed(service)
    path = "/collections/default/duplicates"
    service.client.post(path, json={"max_distance": 2})
    assert eventually(lambda: service.client.get(path).json()["groups"], 30)
    shown = run(service, "duplicates", "resolve", "--dry-run")
    assert shown.exit_code == 0, shown.output
    assert f"keep {ids[1]}, delete {ids[0]}\n" in shown.stdout
    assert "Would keep 1 image and delete 1 image of " in shown.stdout
    oldest = run(service, "duplicates", "resolve", "--keep", "oldest", "--dry-run", "--json")
    assert json.loads(oldest.stdout)["choices"][0]["keep"] == ids[0]
    unanswered = run(service, "duplicates", "resolve")
    assert "Keep 1 image and delete 1? Nobody can answer here" in unanswered.output
    assert listed(service) == before
    done = run(service, "duplicates", "resolve", "--yes")
    assert done.exit_code == 0, done.output
    assert "Kept 1 image and deleted 1 image of " in done.stdout
    assert listed(service) == {
        ids[1]: {"side180": True, "side240": True},
        ids[2]: {"side240": True},
    }
    deletion = json.loads(run(service, "undo", "--json").stdout)["deletions"][0]["id"]
    assert f": lookalike undo {deletion}\n" in done.stdout
    assert "To undo this until " in done.stdout
    assert run(service, "undo", deletion).exit_code == 0
    assert listed(service) == before


def test_the_rules_are_those_of_the_service() -> None:
    assert list(map(str, KeepRule)) == list(map(str, Rule))


def test_named_images_are_resolved(service: Service, ids: list[str]) -> None:
    given = ["duplicates", "resolve", *ids, "--keep", "oldest", "--no-merge-attributes", "--yes"]
    done = run(service, *given, "--json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert (result["kept"], result["deleted"], result["merged"]) == (1, 2, 0)
    assert listed(service) == {ids[0]: {"side180": True}}
    again = run(service, *given)
    assert again.exit_code == 1
    assert "1 group is left alone: others changed or deleted images." in again.output


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "No scan for duplicates was started in default"),
        (["x", "y"], "an ID is the id of an image"),
        (["01a2110d-aed9-7aeb-9f6c-37a7492bdf73"], "name 2 to 100 different images"),
        (["--keep", "best"], "'best' is not one of"),
        (["--space", "none"], "none"),
        (["-c", "none"], "There is no collection named none"),
        (["--with", "none"], "There is no collection named none"),
        (["ID", "ID", "--space", "look"], "--space belongs to a scan"),
    ],
)
def test_bad_input_changes_nothing(
    service: Service, ids: list[str], arguments: list[str], reason: str
) -> None:
    before = listed(service)
    refused = run(service, "duplicates", "resolve", *arguments, "--yes")
    assert refused.exit_code == 2
    assert reason in " ".join(refused.output.split())
    assert listed(service) == before
