"""The command line against a running service."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import unicodedata
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from PIL import Image
from typer.main import get_command
from typer.testing import CliRunner, Result

from app import __version__
from app.cli.main import app
from tests.support.images import PHOTOGRAPHS, encoded, photograph
from tests.support.metadata import PHONE_EXIF, picture_with
from tests.support.service import Service

_LIST_IMPORTS = """
import json, sys
from app.cli.main import main
try:
    main(["spaces", "list", "--json"])
finally:
    print(json.dumps(sorted(sys.modules)))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write photographs in folders, a text file, a hidden file and a zip file."""
    root = tmp_path / "pictures"
    for name in PHOTOGRAPHS[:3]:
        (root / f"about-{name}").mkdir(parents=True)
        (root / f"about-{name}" / f"{name}.jpg").write_bytes(encoded(photograph(name)))
    (root / "about-coffee" / "notes.txt").write_text("no image")
    (root / "about-coffee" / ".hidden.jpg").write_bytes(b"")
    with zipfile.ZipFile(root / "more.zip", "w") as archive:
        archive.writestr("in zip/rocket.png", encoded(photograph("rocket"), "PNG"))
        archive.writestr("__MACOSX/in zip/._rocket.png", b"x")
    return root


def run(service: Service, *arguments: str | Path) -> Result:
    environment = {"LOOKALIKE_URL": str(service.client.base_url), "COLUMNS": "100"}
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env=environment)


def names(service: Service, collection: str = "default") -> set[str]:
    return {
        master["name"]
        for master in service.client.get("/masters", params={"collection": collection}).json()[
            "masters"
        ]
    }


def test_import_walks_directories_and_zip_files(service: Service, folder: Path) -> None:
    result = run(service, "import", folder, "--attributes-from-folder", "--collection", "mine")
    assert result.exit_code == 0, result.output
    assert "4 new" in result.output
    assert names(service, "mine") == {"astronaut.jpg", "chelsea.jpg", "coffee.jpg", "rocket.png"}
    masters = service.client.get("/masters", params={"collection": "mine"}).json()["masters"]
    assert {master["attributes"]["folder"] for master in masters} == {
        "about-astronaut",
        "about-chelsea",
        "about-coffee",
        "in zip",
    }


def test_files_that_are_no_images_are_skipped_and_named(service: Service, tmp_path: Path) -> None:
    phone = tmp_path / "phone"
    phone.mkdir()
    for name in ("IMG_1.MOV", "IMG_2.mov", "IMG_1.AAE", "notes", ".DS_Store"):
        (phone / name).write_bytes(b"x")
    skipped = "Skipped 4 files that are not images: 2 .mov, 1 .aae, 1 without a suffix."
    result = run(service, "import", phone)
    assert result.exit_code == 0
    assert result.output.split("\n")[-3:] == ["No images found.", skipped, ""]
    (phone / "IMG_1.JPG").write_bytes(encoded(photograph("coffee")))
    result = run(service, "import", phone)
    assert "1 new." in result.output
    assert skipped in result.output
    for number in range(10):
        (phone / f"a.{number}").write_bytes(b"x")
    assert "1 .5, 5 of other types." in run(service, "import", phone).output.replace("\n", " ")
    assert "Skipped" not in run(service, "import", phone, "--glob", "*.JPG").output
    assert "1 already present" in run(service, "import", phone, "--glob", "img_*.jpg").output


def test_importing_again_adds_nothing(service: Service, folder: Path) -> None:
    run(service, "import", folder)
    result = run(service, "import", folder)
    assert result.exit_code == 0
    assert "4 already present" in result.output
    assert service.client.get("/masters").json()["total"] == 4


def test_a_glob_selects_files(service: Service, folder: Path) -> None:
    assert run(service, "import", folder, "--glob", "c*.jpg").exit_code == 0
    assert names(service) == {"chelsea.jpg", "coffee.jpg"}


def test_names_of_a_mac_are_imported_and_exported_in_the_normal_form(
    service: Service, tmp_path: Path
) -> None:
    folder = tmp_path / unicodedata.normalize("NFD", "Frühling")
    folder.mkdir()
    (folder / "e\u0301te\u0301 👩\u200d🚀.jpg").write_bytes(encoded(photograph("coffee")))
    (folder / "hiver.jpg").write_bytes(encoded(photograph("rocket")))
    options = ["--attributes-from-folder", "--glob", "été*.jpg"]
    assert run(service, "import", folder, *options).exit_code == 0
    (master,) = service.client.get("/masters").json()["masters"]
    assert (master["name"], master["attributes"]) == ("été 👩\u200d🚀.jpg", {"folder": "Frühling"})
    assert run(service, "export", tmp_path / "out").exit_code == 0
    assert (tmp_path / "out" / f"{master['id']}-été 👩\u200d🚀.jpg").is_file()


def test_the_name_of_an_exported_file_is_cut_between_characters(
    service: Service, tmp_path: Path
) -> None:
    astronaut = "👩\u200d🚀"  # 11 bytes
    master = service.put_master(encoded(photograph("coffee")), f"{astronaut * 20}.jpg")
    assert run(service, "export", tmp_path / "out").exit_code == 0
    assert (tmp_path / "out" / f"{master['id']}-{astronaut * 13}").is_file()


def test_failed_files_are_reported_and_the_others_are_imported(
    service: Service, folder: Path, tmp_path: Path
) -> None:
    (folder / "about-coffee" / "broken.jpg").write_bytes(encoded(photograph("coffee"))[:3000])
    report = tmp_path / "report.jsonl"
    result = run(service, "import", folder, "--report", report)
    assert result.exit_code == 1
    assert "1 failed" in result.output
    (entry,) = [json.loads(line) for line in report.read_text().splitlines()]
    assert entry["file"].endswith("broken.jpg")
    assert entry["code"] == "invalid-image"
    assert service.client.get("/masters").json()["total"] == 4


def test_zip_members_of_the_same_name_are_both_imported(service: Service, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("same.jpg", encoded(photograph("coffee")))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("same.jpg", encoded(photograph("rocket")))
    result = run(service, "import", tmp_path / "two.zip")
    assert (result.exit_code, service.client.get("/masters").json()["total"]) == (0, 2)


def test_damaged_zip_members_and_odd_file_names_do_not_stop_an_import(
    service: Service, tmp_path: Path
) -> None:
    root = tmp_path / "odd"
    root.mkdir()
    with zipfile.ZipFile(root / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("broken.jpg", encoded(photograph("coffee")))
    content = bytearray((root / "a.zip").read_bytes())
    content[2000:2100] = bytes(100)
    (root / "a.zip").write_bytes(content)
    (root / "caf\udce9.jpg").write_bytes(encoded(photograph("chelsea")))
    report = tmp_path / "report.jsonl"
    result = run(service, "import", root, "--report", report)
    assert result.exit_code == 1
    assert "broken.jpg" in report.read_text()
    assert service.client.get("/masters").json()["total"] == 1


def test_a_report_that_cannot_be_written_stops_the_import_at_once(
    service: Service, folder: Path
) -> None:
    result = run(service, "import", folder, "--report", folder / "none" / "r.jsonl")
    assert (result.exit_code, service.client.get("/masters").json()["total"]) == (2, 0)
    assert "--report" in result.output


def test_an_error_that_affects_all_files_stops_the_import(
    service: Service, folder: Path, tmp_path: Path
) -> None:
    result = run(
        service, "import", folder, "--collection", "Bad Name", "--report", tmp_path / "report.jsonl"
    )
    assert result.exit_code == 2
    assert "Stopped: The name of a collection" in result.output
    assert "Once this is solved, run the command again to resume." in result.output


@pytest.mark.real_network
def test_search_prints_a_table_and_json(service: Service, folder: Path) -> None:
    run(service, "import", folder)
    image = folder / "about-chelsea" / "chelsea.jpg"
    table = run(service, "search", image, "--k", "2")
    assert table.exit_code == 0
    assert re.search(r"100\.0\s+same\s+100%\s+chelsea\.jpg", table.output)
    answer = json.loads(run(service, "search", image, "--k", "2", "--json").output)
    assert [hit["exact"] for hit in answer["hits"]] == [True, False]


def test_explain_writes_a_picture_or_prints_numbers(
    service: Service, folder: Path, tmp_path: Path
) -> None:
    image = folder / "about-chelsea" / "chelsea.jpg"
    master = service.put_master(encoded(photograph("coffee")), "coffee.jpg")["id"]
    output = tmp_path / "why.png"
    written = run(service, "explain", image, master, "--output", output)
    assert (written.exit_code, written.output.split()[0]) == (0, "Wrote")
    with Image.open(output) as drawn:
        assert (drawn.format, drawn.width) == ("PNG", 512 * 2 + 8)
    numbers = json.loads(run(service, "explain", image, master, "--json").output)
    assert numbers["sample"]["grid"]
    for wrong in ((), ("--output", output, "--json"), ("--output", tmp_path / "no" / "a.png")):
        assert run(service, "explain", image, master, *wrong).exit_code != 0
    unknown = run(service, "explain", image, str(uuid4()), "--output", tmp_path / "none.png")
    assert unknown.exit_code != 0
    assert not (tmp_path / "none.png").exists()


def test_search_groups_folds_sorts_and_counts(service: Service, folder: Path) -> None:
    for name in ("coffee", "chelsea", "rocket"):
        service.client.post(
            "/masters",
            files={"file": (f"{name}.jpg", encoded(photograph(name)))},
            data={"attributes": json.dumps({"kind": "cat" if name == "chelsea" else "thing"})},
        )
    image = folder / "about-chelsea" / "chelsea.jpg"
    options = ("--group-by", "kind", "--sort", "-name", "--facet", "kind", "--facet", "nothing")
    answer = json.loads(run(service, "search", image, *options, "--json").output)
    assert [hit["group"]["value"] for hit in answer["hits"]] == ["thing", "cat"]
    shown = run(service, "search", image, *options, "--collapse", "2").output
    assert 'kind: "thing" 2, "cat" 1' in shown
    assert "nothing: no values" in shown
    assert "and 1 like it" in shown


def test_search_takes_several_images(service: Service, folder: Path) -> None:
    run(service, "import", folder)
    stored = {each["name"]: each["id"] for each in service.client.get("/masters").json()["masters"]}
    image = folder / "about-chelsea" / "chelsea.jpg"

    def distances(*arguments: str | Path) -> dict[str, float]:
        result = run(service, "search", *arguments, "--json")
        assert result.exit_code == 0, result.output
        hits = json.loads(result.output)["hits"]
        return {hit["master"]["name"]: hit["distance"] for hit in hits}

    alone = distances(image)
    assert alone == pytest.approx(distances("--master", stored["chelsea.jpg"]), abs=1e-5)
    both = distances(image, "--master", stored["coffee.jpg"])
    assert set(list(both)[:2]) == {"chelsea.jpg", "coffee.jpg"}
    for other in (stored["coffee.jpg"], folder / "about-coffee" / "coffee.jpg"):
        assert distances(image, "--unlike", other)["coffee.jpg"] > alone["coffee.jpg"]
    arguments: tuple[str | Path, ...]
    for arguments, message in (
        ((), "nothing to search with"),
        ((image, "--unlike", "nowhere.jpg"), "there is no such file"),
        ((image, image, "--box", "0,0,9,9"), "a single image"),
        ((image, "--box", "0,0,9"), "four whole numbers"),
        ((image, "--filter", "{"), "not valid JSON"),
        ((image, "--text-weight", "0.5"), "needs an image and --text"),
    ):
        refused = run(service, "search", *arguments)
        assert (refused.exit_code, message in refused.output) == (2, True)


def test_list_prints_a_table_and_json_in_order(service: Service, folder: Path) -> None:
    run(service, "import", folder)
    shown = run(service, "list", "--sort", "name", "--limit", "2")
    assert shown.exit_code == 0
    in_order = sorted(names(service))
    assert in_order[0] in shown.output
    assert in_order[2] not in shown.output
    assert "2 of 4 masters" in shown.output
    chosen = '{"name": {"$prefix": "rocket"}}'
    answer = json.loads(run(service, "list", "--filter", chosen, "--json").output)
    assert [master["name"] for master in answer["masters"]] == ["rocket.png"]
    assert answer["total"] == 1
    reverse = json.loads(run(service, "list", "--sort=-name", "--json").output)
    assert [master["name"] for master in reverse["masters"]] == in_order[::-1]
    assert "0 of 0 masters" in run(service, "list", "--filter", '{"a": 1}').output
    refused = run(service, "list", "--sort", "a..b")
    assert (refused.exit_code, "sort takes a path" in refused.output) == (2, True)


def test_list_shows_when_and_with_what_a_picture_was_taken(
    service: Service, tmp_path: Path
) -> None:
    (tmp_path / "phone.jpg").write_bytes(picture_with("JPEG", PHONE_EXIF))
    run(service, "import", tmp_path / "phone.jpg")
    shown = run(service, "list", "--sort=-capture.time")
    assert "2024-05-01T10:00:00+02:00, Apple iPhone 12" in shown.output


def test_export_writes_the_originals_and_their_metadata(
    service: Service, folder: Path, tmp_path: Path
) -> None:
    run(service, "import", folder, "--attributes-from-folder")
    out = tmp_path / "out"
    assert run(service, "export", out).exit_code == 0
    entries = [json.loads(line) for line in (out / "masters.jsonl").read_text().splitlines()]
    assert {entry["attributes"]["folder"] for entry in entries} == {
        "about-astronaut",
        "about-chelsea",
        "about-coffee",
        "in zip",
    }
    for entry in entries:
        name, suffix = entry["name"].split(".")
        assert (out / entry["file"]).read_bytes() == encoded(
            photograph(name), "PNG" if suffix == "png" else "JPEG"
        )
    again = run(service, "export", out)
    assert "4 already present" in again.output


@pytest.mark.parametrize(
    "command", [("import", "."), ("search", "pyproject.toml"), ("export", "out")]
)
def test_a_service_that_does_not_answer_is_reported_without_a_traceback(
    command: tuple[str, str],
) -> None:
    result = CliRunner().invoke(
        app, [*command, "--url", "http://127.0.0.1:9"], env={"COLUMNS": "200"}
    )
    assert result.exit_code == 2
    assert "does not answer" in result.output
    assert "Traceback" not in result.output


def test_a_file_name_need_not_be_utf_8(service: Service, tmp_path: Path) -> None:
    image = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg"))
    image.write_bytes(encoded(photograph("chelsea")))
    assert run(service, "import", image).exit_code == 0
    assert run(service, "search", image).exit_code == 0


def test_a_rejected_search_prints_the_reason(service: Service, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("no image")
    result = run(service, "search", tmp_path / "a.txt")
    assert result.exit_code == 2
    assert "not an image of an accepted type" in re.sub(r"\s+", " ", result.output)


def test_a_missing_path_is_an_error(service: Service) -> None:
    assert run(service, "import", "/no/such/path").exit_code == 2
    assert io.BytesIO(run(service, "--help").output.encode()).read()


def test_the_version_is_printed() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.output.strip()) == (0, __version__)


OLD_NAMES = [
    (("migrate", "--from", "no-such-directory"), "copy"),
    (("reembed", "start", "no-such.safetensors"), "models start"),
    (("reembed", "status"), "models list"),
    (("reembed", "activate"), "models activate"),
    (("reembed", "rollback"), "models rollback"),
    (("reembed", "retire", "rn50-0"), "models retire"),
    (("models", "import", "pyproject.toml"), "models add"),
    (("models", "int8", "no-such.safetensors", "tests"), "models quantize"),
]


@pytest.mark.parametrize(("arguments", "new"), OLD_NAMES)
def test_an_old_command_name_still_works_and_names_the_new_one(
    arguments: tuple[str, ...], new: str
) -> None:
    """Both names end with the same error, but only the old one prints a notice."""
    environment = {"LOOKALIKE_URL": "http://127.0.0.1:9"}
    old_result = CliRunner().invoke(app, list(arguments), env=environment)
    is_group = arguments[0] in ("models", "reembed")
    old, rest = arguments[: 1 + is_group], arguments[1 + is_group :]
    new_result = CliRunner().invoke(app, [*new.split(), *rest], env=environment)
    notice = f"`lookalike {' '.join(old)}` is deprecated; use `lookalike {new}`.\n"
    assert old_result.stderr.startswith(notice)
    assert notice not in new_result.stderr
    error = new_result.stderr.splitlines()[-1]
    assert error.startswith("Error: ")
    assert old_result.stderr.splitlines()[-1] == error
    assert (old_result.exit_code, new_result.exit_code) == (2, 2)


def _visible_commands(group: Any, path: str = "lookalike") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if not command.hidden:
            yield f"{path} {name}", command
            if hasattr(command, "commands"):
                yield from _visible_commands(command, f"{path} {name}")


def test_every_visible_command_and_option_has_help_and_old_names_are_hidden() -> None:
    commands = dict(_visible_commands(get_command(app)))
    for name, command in commands.items():
        assert command.help, name
        for option in command.params:
            assert option.help, f"{name} {option.name}"
    hidden = {"migrate", "reembed", "models import", "models int8"}
    assert not {f"lookalike {name}" for name in hidden} & set(commands)


def test_a_command_that_calls_the_service_does_not_import_it(service: Service) -> None:
    """That would take longer than the call itself."""
    done = subprocess.run(
        [sys.executable, "-c", _LIST_IMPORTS],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "LOOKALIKE_URL": str(service.client.base_url)},
        capture_output=True,
        text=True,
        check=True,
    )
    imported = set(json.loads(done.stdout.splitlines()[-1]))
    assert "httpx" in imported
    assert imported.isdisjoint(("fastapi", "openvino", "sqlalchemy", "numpy"))


@pytest.mark.parametrize("options", [("--feedback",), ("--min-probability", "0.5")])
def test_a_refused_search_names_the_options_of_the_command(
    service: Service, folder: Path, options: tuple[str, ...]
) -> None:
    images = folder.rglob("about-*/*.jpg")  # one alone would have a probability
    result = run(service, "search", *(each for each in images if each.stem != ".hidden"), *options)
    named = options[0]
    assert (result.exit_code, named in result.output) == (2, True)
    assert named.strip("-").replace("-", "_") not in result.output.replace(named, "")


def test_a_file_in_the_place_of_a_master_is_refused_in_words(
    service: Service, folder: Path
) -> None:
    image = next(path for path in folder.rglob("*.jpg"))
    result = run(service, "search", "--master", image)
    assert (result.exit_code, "UUID" in result.output) == (2, False)
    assert "name it without --master" in " ".join(result.output.replace("│", " ").split())
    for arguments in (("search", "--master", "cat"), ("explain", image, "cat", "--json")):
        result = run(service, *arguments)
        assert (result.exit_code, "'cat' is not an id" in result.output) == (2, True)
        assert "UUID" not in result.output


def test_names_that_are_also_options_stay_as_they_are(service: Service) -> None:
    done = run(service, "search", "--text", "cat", "--collection", "k")
    assert done.exit_code == 2
    assert "no collection named k." in done.output
