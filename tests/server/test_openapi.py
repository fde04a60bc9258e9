"""The server against its own OpenAPI document: whatever that allows is answered as it says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis.errors import Unsatisfiable
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance
from server_kit import TOKEN, running_server

EXAMPLES = 20
"""Requests an endpoint: enough to find a crash again, few enough for every change."""
ENDPOINTS = (
    ("/healthz", "get"),
    ("/help", "get"),
    ("/metrics", "get"),
    ("/run", "post"),
    ("/run_upload", "post"),
    ("/jobs", "post"),
    ("/jobs/{id}", "get"),
    ("/jobs/{id}", "delete"),
    ("/jobs/{id}/results", "get"),
    ("/jobs/{id}/events", "get"),
)


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("served")
    env = {"AIGVE_OFFLINE": "1", "AIGVE_CACHE_DIR": str(tmp_path_factory.mktemp("cache"))}
    state = tmp_path_factory.mktemp("state")
    with running_server(folder, state, env=env, token=TOKEN) as server:
        yield schemathesis.openapi.from_url(f"{server.url}/openapi.json")
        log = "".join(server.log)
        assert "Traceback" not in log
        assert "internal error" not in log


@pytest.mark.parametrize("mode", schemathesis.GenerationMode)
@pytest.mark.parametrize(("path", "method"), ENDPOINTS)
def test_every_answer_is_as_documented(
    path: str, method: str, mode: schemathesis.GenerationMode, schema: Any
) -> None:
    operation = schema[path][method]
    # Fields may be as documented and name nothing that is there.
    excluded = [positive_data_acceptance]
    if mode is schemathesis.GenerationMode.NEGATIVE:
        # It takes the token for one of the things that are wrong.
        excluded.append(ignored_auth)

    @hypothesis.settings(
        max_examples=EXAMPLES,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        case.headers["Authorization"] = f"Bearer {TOKEN}"
        case.call_and_validate(excluded_checks=excluded)

    try:
        ask()
    except Unsatisfiable:
        # There is nothing in the request that could be wrong.
        assert mode is schemathesis.GenerationMode.NEGATIVE
        assert path in ("/healthz", "/help")


def test_none_is_left_out(schema: Any) -> None:
    found = {
        (operation.ok().path, operation.ok().method) for operation in schema.get_all_operations()
    }
    assert found == set(ENDPOINTS)
