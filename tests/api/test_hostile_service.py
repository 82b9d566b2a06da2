"""The command line believes nothing that the service at the other end says."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from app.cli.main import app

_ID = "0198c0de-0000-7000-8000-000000000001"
_BYTES = b"the bytes of an image"
_ESCAPE = "\x1b]0;title\x07\x1b[2J\x9b31m\u202e"


def master(**changes: Any) -> dict[str, Any]:
    return {
        "id": _ID,
        "sha256": hashlib.sha256(_BYTES).hexdigest(),
        "size": len(_BYTES),
        "name": "a.jpg",
        "attributes": {},
        "collection": "default",
        "links": {"content": f"/masters/{_ID}/content"},
    } | changes


def page(*masters: Any) -> dict[str, Any]:
    return {"masters": list(masters), "next_cursor": None, "total": len(masters)}


class HostileService:
    """Answers each path with what the test says: JSON, bytes, or a function that writes."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {"/livez": {}}
        self.asked: list[str] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                service.asked.append(path)
                service._write(self, service.answers.get(path))

            do_POST = do_GET  # noqa: N815 - http.server's name

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def _write(self, handler: BaseHTTPRequestHandler, answer: Any) -> None:
        if callable(answer):
            answer(handler)
            return
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        handler.send_response(404 if answer is None else 200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def hostile() -> Iterator[HostileService]:
    service = HostileService()
    yield service
    service.stop()


@pytest.fixture
def run(hostile: HostileService) -> Callable[..., Result]:
    def run(*arguments: object) -> Result:
        environment = {"LOOKALIKE_URL": hostile.url, "COLUMNS": "200"}
        result = CliRunner().invoke(app, [str(each) for each in arguments], env=environment)
        assert result.exception is None or isinstance(result.exception, SystemExit), result
        return result

    return run


def written_to(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("id", ["/var/x", "../../x", "..", "", 5, None, ["x"]])
def test_an_id_that_is_none_is_refused(
    hostile: HostileService, run: Callable[..., Result], tmp_path: Path, id: object
) -> None:
    hostile.answers["/masters"] = page(master(id=id))
    result = run("export", tmp_path / "inside" / "target")
    assert result.exit_code == 2
    assert "is not a Lookalike service" in result.stderr
    assert written_to(tmp_path) == set()


@pytest.mark.parametrize(
    "name", ["../../outside", "/etc/passwd", "a\0b", "..", "\ud800", "a\\..\\b"]
)
def test_a_name_stays_inside_the_target(
    hostile: HostileService, run: Callable[..., Result], tmp_path: Path, name: str
) -> None:
    hostile.answers["/masters"] = json.dumps(page(master(name=name))).encode()
    hostile.answers[f"/masters/{_ID}/content"] = _BYTES
    run("export", tmp_path / "inside" / "target")
    assert all(path.startswith("inside/target/") for path in written_to(tmp_path))


def test_the_address_of_the_bytes_is_not_the_services_choice(
    hostile: HostileService, run: Callable[..., Result], tmp_path: Path
) -> None:
    other = HostileService()
    try:
        links = {"content": f"{other.url}/secret"}
        hostile.answers["/masters"] = page(master(links=links))
        hostile.answers[f"/masters/{_ID}/content"] = _BYTES
        assert run("export", tmp_path).exit_code == 0
        assert other.asked == []
    finally:
        other.stop()


def test_links_that_another_user_put_there_are_not_followed(
    hostile: HostileService, run: Callable[..., Result], tmp_path: Path
) -> None:
    target, precious = tmp_path / "target", tmp_path / "precious"
    target.mkdir()
    precious.write_text("precious")
    for name in (f"{_ID}-a.jpg", f"{_ID}-a.jpg.part", "masters.jsonl", "masters.jsonl.part"):
        (target / name).symlink_to(precious)
    hostile.answers["/masters"] = page(master())
    hostile.answers[f"/masters/{_ID}/content"] = _BYTES
    assert run("export", target).exit_code == 0
    assert precious.read_text() == "precious"
    assert (target / f"{_ID}-a.jpg").read_bytes() == _BYTES


def test_a_download_does_not_fill_the_disk(
    hostile: HostileService, run: Callable[..., Result], tmp_path: Path
) -> None:
    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        with suppress(OSError):  # the client hangs up
            while True:
                handler.wfile.write(bytes(1 << 16))

    hostile.answers["/masters"] = page(master())
    hostile.answers[f"/masters/{_ID}/content"] = endless
    result = run("export", tmp_path)
    assert result.exit_code == 1
    assert "more bytes than it had announced" in result.stderr
    assert written_to(tmp_path) == {"masters.jsonl"}


def test_an_endless_answer_is_cut_off(
    hostile: HostileService, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.cli.client._MAX_ANSWER", 10_000)
    hostile.answers["/spaces"] = b'{"spaces": [' + b" " * 20_000 + b"]}"
    result = run("spaces", "list")
    assert result.exit_code == 2
    assert "is not a Lookalike service" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        (("spaces", "list"), "/spaces"),
        (("models", "list"), "/admin/models"),
        (("dead-letters",), "/admin/dead-letters"),
        (("search", "--text", "dog"), "/search"),
        (("scrub",), "/admin/scrub"),
        (("export", "out"), "/masters"),
    ],
)
@pytest.mark.parametrize(
    "answer", [b"<html>", b"", b"[]", b"{}", b"null", b"[" * 100_000, b'{"hits": [{}]}', b"\xff"]
)
def test_an_answer_of_another_form_is_explained(
    hostile: HostileService,
    run: Callable[..., Result],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    path: str,
    answer: bytes,
) -> None:
    monkeypatch.chdir(tmp_path)
    hostile.answers[path] = answer
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Error: " in result.stderr
    assert "Traceback" not in result.stderr


def test_nothing_that_is_printed_changes_the_terminal(
    hostile: HostileService, run: Callable[..., Result]
) -> None:
    hit = {"distance": 0.1, "score": 95.0, "exact": False, "probability": None}
    found = master(name=f"{_ESCAPE}a.jpg", attributes={"key": _ESCAPE})
    hostile.answers["/search"] = {"hits": [hit | {"master": found}], "understood": None}
    hostile.answers["/admin/models"] = {"models": [], "processes": _ESCAPE}
    hostile.answers["/spaces"] = lambda handler: _refuse(handler, _ESCAPE)
    printed = [run("search", "--text", "dog"), run("search", "--text", "dog", "--json")]
    printed += [run("models", "list"), run("spaces", "list")]
    for result in printed:
        assert not set(result.stdout + result.stderr) & set("\x1b\x07\x9b\u202e")
    hits = json.loads(printed[1].stdout)["hits"]
    assert hits[0]["master"]["attributes"]["key"] == _ESCAPE


def _refuse(handler: BaseHTTPRequestHandler, detail: str) -> None:
    body = json.dumps({"code": "x", "detail": detail}).encode()
    handler.send_response(400)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def test_a_redirect_is_reported_and_not_followed(
    hostile: HostileService, run: Callable[..., Result]
) -> None:
    def redirect(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(307)
        handler.send_header("Location", "http://127.0.0.1:1/elsewhere")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    hostile.answers["/spaces"] = redirect
    result = run("spaces", "list")
    assert result.exit_code == 2
    assert "redirects to http://127.0.0.1:1/elsewhere" in result.stderr


def test_a_strange_retry_after_is_ignored(
    hostile: HostileService, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(503)
        handler.send_header("Retry-After", "nan")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    monkeypatch.setattr("app.cli.client._FIRST_BACKOFF", 0.001)
    hostile.answers["/spaces"] = busy
    assert run("spaces", "list").exit_code == 2
