"""`lookalike catalogue`, beside a running service and after the loss of its database."""

from __future__ import annotations

from app.services.catalogue_files import parse_chunk_key, read_chunk
from app.settings import Settings
from models.embedder import Embedder
from tests.support.embedded import run_on
from tests.support.images import CAT
from tests.support.service import eventually, serving


def test_the_command_writes_beside_a_running_service(
    settings: Settings, embedder: Embedder
) -> None:
    with serving(settings, embedder) as service:
        master = service.put_master(CAT, "räume.jpg", attributes='{"n": 1.5}')
        for written in ("1 were written", "0 were written"):
            done = run_on(settings.data_dir, "catalogue")
            assert (done.returncode, written in done.stderr) == (0, True), done
        objects = service.stores.objects
        (key,) = [each.key for each in objects.list("catalogue/") if parse_chunk_key(each.key)]
        (row,) = read_chunk(objects, key)
        assert (str(row.id), row.name, row.attributes) == (master["id"], "räume.jpg", {"n": 1.5})


def test_the_worker_writes_it_in_time(settings: Settings, embedder: Embedder) -> None:
    often = settings.model_copy(update={"catalogue_interval": 0.2})
    with serving(often, embedder) as service:
        for number in range(2):
            service.put_master(CAT, collection=f"c-{number}")
            assert eventually(
                lambda most=number + 1: len(list(service.stores.objects.list("catalogue/"))) > most
            )


def test_a_new_database_does_not_overwrite_it(settings: Settings, embedder: Embedder) -> None:
    with serving(settings, embedder) as service:
        service.put_master(CAT)
    assert run_on(settings.data_dir, "catalogue").returncode == 0
    for path in settings.data_dir.glob("lookalike.db*"):
        path.unlink()
    nowhere = run_on(settings.data_dir, "catalogue")
    assert (nowhere.returncode, "there is no installation" in nowhere.stderr) == (2, True)
    with serving(settings, embedder):
        refused = run_on(settings.data_dir, "catalogue")
        assert (refused.returncode, "lookalike recover" in refused.stderr) == (2, True), refused
        assert run_on(settings.data_dir, "catalogue", "--replace").returncode == 0
