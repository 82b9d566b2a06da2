"""`lookalike import` with several files in a request: what the service answers to each counts."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from app.cli import client, image_files, importing
from app.cli.main import app
from app.errors import Unavailable
from app.settings import Settings
from models.embedder import Embedder
from tests.support.images import CAT, encoded, part_of, photograph
from tests.support.proxy import Proxy
from tests.support.service import Service, serving

COUNT = 40


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(COUNT):
        image = encoded(part_of("coffee", number, (160, 120)))
        (folder / f"{number:02}.jpg").write_bytes(image)
    return folder


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_FIRST_BACKOFF", 0.01)


def run_import(url: object, *arguments: str | Path) -> Result:
    environment = {"LOOKALIKE_URL": str(url), "COLUMNS": "100"}
    return CliRunner().invoke(app, ["import", *map(str, arguments)], env=environment)


def import_into(service: Service, *arguments: str | Path) -> Result:
    return run_import(service.client.base_url, *arguments)


def list_masters(service: Service) -> list[dict[str, Any]]:
    masters: list[dict[str, Any]] = service.client.get("/masters?limit=1000").json()["masters"]
    return masters


def count_uploads(service: Service) -> int:
    """Return the number of upload requests so far."""
    samples = [
        each for metric in service.services.metrics.requests.collect() for each in metric.samples
    ]
    return int(
        sum(
            each.value
            for each in samples
            if each.name.endswith("_total")
            and (each.labels["method"], each.labels["route"]) == ("POST", "/masters")
        )
    )


def read_report(path: Path) -> dict[str, str]:
    """Return the code of each file in a report, by the name of the file."""
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    return {Path(entry["file"]).name: entry["code"] for entry in entries}


def test_small_files_share_a_request_and_keep_their_names(service: Service, folder: Path) -> None:
    result = import_into(service, folder)
    assert (result.exit_code, f"{COUNT} new" in result.output) == (0, True)
    assert count_uploads(service) == 3
    stored = {master["name"]: master["size"] for master in list_masters(service)}
    assert stored == {path.name: path.stat().st_size for path in folder.iterdir()}


def test_files_of_a_request_have_the_attributes_of_their_folder(
    service: Service, folder: Path
) -> None:
    paths = sorted(folder.iterdir())
    for path, name in zip(paths, ["cats"] * 20 + ["dogs"] * 15 + ["owls"] * 5, strict=True):
        (folder / name).mkdir(exist_ok=True)
        path.rename(folder / name / path.name)
    assert import_into(service, folder, "--attributes-from-folder").exit_code == 0
    assert count_uploads(service) == 4
    folders = Counter(master["attributes"]["folder"] for master in list_masters(service))
    assert folders == {"cats": 20, "dogs": 15, "owls": 5}


def test_a_large_file_is_alone_in_its_request(
    service: Service, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = folder / "20.jpg"
    monkeypatch.setattr(importing, "_MOST_BYTES", large.stat().st_size * 30)
    large.write_bytes(large.read_bytes() + b"\0" * large.stat().st_size * 30)
    assert import_into(service, folder).exit_code == 0
    assert count_uploads(service) == 5  # 16 and 4, the large one, 16 and 3


def test_each_file_that_fails_is_reported_with_its_own_reason(
    service: Service, folder: Path, tmp_path: Path
) -> None:
    (folder / "03.jpg").write_bytes(b"no image")
    (folder / "20.jpg").write_bytes((folder / "20.jpg").read_bytes()[:500])
    report = tmp_path / "report.jsonl"
    result = import_into(service, folder, "--report", report)
    assert (result.exit_code, f"{COUNT - 2} new, 2 failed" in result.output) == (1, True)
    assert read_report(report) == {
        "03.jpg": "unsupported-image-type",
        "20.jpg": "invalid-image",
    }


def test_files_that_fail_together_are_reported_one_by_one(
    service: Service, folder: Path, tmp_path: Path
) -> None:
    for path in folder.iterdir():
        path.write_bytes(b"no image" + path.name.encode())
    report = tmp_path / "report.jsonl"
    result = import_into(service, folder, "--report", report)
    assert (result.exit_code, len(read_report(report))) == (1, COUNT)
    assert set(read_report(report).values()) == {"unsupported-image-type"}


def test_only_what_the_service_could_not_take_is_sent_again(
    service: Service, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: Counter[str] = Counter()
    ingest = service.services.ingest
    upload = ingest.upload_image

    def refuse_some_at_first(file: Any, *, name: str, **fields: Any) -> Any:
        sent[name] += 1
        if sent[name] <= int(name[:2]) % 3:
            raise Unavailable("too-busy", "Retry later.", 1)
        return upload(file, name=name, **fields)

    monkeypatch.setattr(ingest, "upload_image", refuse_some_at_first)
    result = import_into(service, folder, "--jobs", "1")
    assert result.exit_code == 0, result.output
    assert f"{COUNT} new" in result.output
    assert all(sent[f"{number:02}.jpg"] == number % 3 + 1 for number in range(COUNT))


def test_a_file_that_is_refused_for_ever_fails_no_other(
    service: Service, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest = service.services.ingest
    upload = ingest.upload_image

    def refuse_one(file: Any, *, name: str, **fields: Any) -> Any:
        if name == "05.jpg":
            raise Unavailable("upload-in-progress", "Retry later.", 1)
        return upload(file, name=name, **fields)

    monkeypatch.setattr(ingest, "upload_image", refuse_one)
    monkeypatch.setattr(client, "_LONGEST_WAIT", 0.01)
    report = tmp_path / "report.jsonl"
    result = import_into(service, folder, "--report", report)
    assert (result.exit_code, f"{COUNT - 1} new, 1 failed" in result.output) == (1, True)
    assert read_report(report) == {"05.jpg": "upload-in-progress"}


@pytest.mark.parametrize("limit", [{"max_request_files": 3}, {"max_request_bytes": 20_000}])
def test_requests_that_are_too_large_for_the_service_are_divided(
    tmp_path: Path, embedder: Embedder, folder: Path, limit: dict[str, int]
) -> None:
    data = tmp_path / "data"
    settings = Settings(data_dir=data, _env_file=None, **limit)  # type: ignore[arg-type]
    with serving(settings, embedder) as service:
        result = import_into(service, folder)
        assert result.exit_code == 0, result.output
        assert len(list_masters(service)) == COUNT


def test_an_import_goes_on_after_connections_break(service: Service, folder: Path) -> None:
    proxy = Proxy(service.client.base_url.port or 0)
    broken = threading.Thread(target=break_after_some, args=(service, proxy))
    broken.start()
    try:
        result = run_import(f"http://127.0.0.1:{proxy.port}", folder)
    finally:
        broken.join()
        proxy.close()
    assert result.exit_code == 0, result.output
    assert len(list_masters(service)) == len(service.objects()) == COUNT


def break_after_some(service: Service, proxy: Proxy) -> None:
    while len(service.objects()) < 5:
        pass
    proxy.cut()
    proxy.heal()


def test_an_import_that_stopped_half_way_is_resumed(
    service: Service, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(importing, "group_files", interrupted_after(1, importing.group_files))
        result = import_into(service, folder, "--jobs", "1")
    assert (result.exit_code, "Run the same command again to resume." in result.output) == (
        130,
        True,
    )
    assert 0 < len(list_masters(service)) < COUNT
    result = import_into(service, folder)
    assert (result.exit_code, "already present" in result.output) == (0, True)
    assert len(list_masters(service)) == COUNT


def interrupted_after(groups: int, group_files: Callable[..., Iterator[Any]]) -> Callable[..., Any]:
    """Return a replacement that yields as many groups, and is then interrupted by Ctrl-C."""

    def group_some(*given: Any, **named: Any) -> Iterator[Any]:
        for _, group in zip(range(groups), group_files(*given, **named), strict=False):
            yield group
        raise KeyboardInterrupt

    return group_some


def test_files_that_grew_since_they_were_listed_are_sent_in_smaller_requests(
    service: Service, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [path.stat().st_size for path in folder.iterdir()]
    monkeypatch.setattr(image_files, "_size_of", lambda _: 0)
    monkeypatch.setattr(importing, "_MOST_BYTES", 5 * max(sizes))
    (folder / "39.jpg").write_bytes((folder / "39.jpg").read_bytes() + bytes(6 * max(sizes)))
    assert import_into(service, folder).exit_code == 0
    assert count_uploads(service) >= COUNT / 5 + 1
    assert len(list_masters(service)) == COUNT


class _FalseService(BaseHTTPRequestHandler):
    """Accepts every upload, with the results that the test names."""

    results: list[dict[str, Any]]

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer({"results": self.results})

    def _answer(self, answer: dict[str, Any]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    "results",
    [
        [],
        [{"status": 201, "created": True}],
        [{"status": 201, "created": True}] * (COUNT + 1),
        [{"status": 201}] * 16,
        [{"status": 422, "error": {"code": "x"}}] * 16,
    ],
)
def test_results_that_do_not_fit_the_files_are_not_believed(
    folder: Path, results: list[dict[str, Any]]
) -> None:
    handler = type("Handler", (_FalseService,), {"results": results})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        result = run_import(f"http://127.0.0.1:{server.server_port}", folder)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert result.exit_code == 2
    assert "is not a Lookalike service" in result.output.replace("\n", " ")


def test_near_duplicates_are_reported_or_rejected_and_are_no_failures(
    service: Service, tmp_path: Path
) -> None:
    cat = photograph("chelsea")
    stored = service.put_master(CAT)["id"]
    folder, lone = tmp_path / "several", tmp_path / "lone"
    for path, image in (
        (folder / "near.jpg", encoded(cat.reduce(2))),
        (folder / "other.jpg", encoded(part_of("coffee", 1))),
        (lone / "near.jpg", encoded(cat.reduce(3))),
    ):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(image)
    report = tmp_path / "report.jsonl"
    options = ("--report", report, "--near-duplicate-distance", "1", "--on-near-duplicate")

    result = import_into(service, folder, *options, "reject")
    assert (result.exit_code, "1 new, 1 rejected as nearly identical" in result.output) == (0, True)
    assert "The near duplicates are listed in" in result.output
    (entry,) = map(json.loads, report.read_text().splitlines())
    assert (entry["code"], Path(entry["file"]).name) == ("near-duplicate", "near.jpg")
    assert [each["id"] for each in entry["near_duplicates"]] == [stored]

    result = import_into(service, lone, *options, "reject")
    assert (result.exit_code, "1 rejected as nearly identical" in result.output) == (0, True)
    (entry,) = map(json.loads, report.read_text().splitlines())
    assert [each["id"] for each in entry["near_duplicates"]] == [stored]
    assert len(list_masters(service)) == 2

    result = import_into(service, lone, *options, "report")
    assert (result.exit_code, "1 of them is nearly identical" in result.output) == (0, True)
    (entry,) = map(json.loads, report.read_text().splitlines())
    assert entry["master"] in {master["id"] for master in list_masters(service)}
    assert [each["id"] for each in entry["near_duplicates"]] == [stored]


def test_a_distance_needs_something_to_happen_to_near_duplicates(
    service: Service, folder: Path
) -> None:
    result = import_into(service, folder, "--near-duplicate-distance", "0.5")
    assert (result.exit_code, "--on-near-duplicate" in result.output) == (2, True)
    assert list_masters(service) == []
