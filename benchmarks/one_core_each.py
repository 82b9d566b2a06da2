"""Serves with every image embedded on one core, alone or not: what `bench_all_cores` compares."""

from __future__ import annotations

from unittest.mock import patch

from app.start import serve
from models.openvino_network import CompiledNetwork, RequestPool


def choose_slots(network: CompiledNetwork, _: bool) -> RequestPool:
    return network.requests


if __name__ == "__main__":
    with patch.object(CompiledNetwork, "_choose_requests", choose_slots):
        serve()
