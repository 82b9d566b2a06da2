"""Requests that Schemathesis generates from the OpenAPI document never cause a 5xx."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import schemathesis
from schemathesis.checks import not_a_server_error

from app.main import create_app
from app.settings import Settings
from models.embedder import load_embedder
from tests.support.service import Service, serving


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    data_dir: Path = tmp_path_factory.mktemp("openapi")
    with serving(Settings(data_dir=data_dir, _env_file=None), load_embedder(slots=2)) as service:
        yield service


schema = schemathesis.openapi.from_dict(create_app(Settings(_env_file=None)).openapi())


@pytest.mark.filterwarnings("ignore")
@schema.parametrize()
@hypothesis.settings(
    max_examples=25, deadline=None, suppress_health_check=list(hypothesis.HealthCheck)
)
def test_no_request_causes_a_server_error(case: schemathesis.Case, running: Service) -> None:
    with contextlib.suppress(schemathesis.errors.InvalidSchema):
        case.call_and_validate(base_url=str(running.client.base_url), checks=[not_a_server_error])
