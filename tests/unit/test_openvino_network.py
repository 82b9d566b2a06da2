"""A compiled network runs several images on one core each, or a single one on all cores."""

from __future__ import annotations

import logging
import threading

import numpy as np
import openvino as ov
import openvino.opset15 as ops
import pytest
from numpy.typing import NDArray

from models import openvino_network
from models.openvino_network import CompiledNetwork
from tests.support.use_cases import raising

DIMENSION = 64


@pytest.fixture(autouse=True)
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_network, "available_cores", lambda: 4)


def make_graph() -> ov.Model:
    """Build a network whose sums are long enough to be divided among threads."""
    draw = np.random.default_rng(0)
    pixels = ops.parameter([1, 32, 32, 3], np.uint8, name="pixels")
    x = ops.transpose(ops.convert(pixels, np.float32), np.array([0, 3, 1, 2]))
    kernel = draw.standard_normal((128, 3, 3, 3)).astype(np.float32)
    x = ops.relu(ops.convolution(x, kernel, [1, 1], [1, 1], [1, 1], [1, 1]))
    x = ops.reduce_mean(x, np.array([2, 3]))
    x = ops.matmul(x, draw.standard_normal((128, DIMENSION)).astype(np.float32), False, False)
    return ov.Model([ops.normalize_l2(x, np.array([1]), 1e-12, "max")], [pixels], "small")


def compile_network(slots: int = 2) -> CompiledNetwork:
    return CompiledNetwork(make_graph(), slots=slots, precision="f32")


def noise(count: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def compiling_threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "compile for all cores"]


def test_all_cores_give_the_same_vectors_as_one() -> None:
    network = compile_network()
    on_one = network.infer_images(noise(), DIMENSION)
    network.prepare_all_cores()
    on_all = network.infer_images(noise(), DIMENSION, all_cores=True)
    distances = 1 - (on_one.astype(np.float64) * on_all).sum(axis=1)
    assert np.abs(distances).max() < 5e-7  # rounds to the same six digits


def test_an_image_that_may_use_all_cores_runs_on_as_many_threads_as_slots() -> None:
    network = compile_network(slots=3)
    network.prepare_all_cores()
    compiled = network.all_cores.requests.compiled  # type: ignore[union-attr]
    assert compiled.get_property("NUM_STREAMS") == 1
    assert network.requests.compiled.get_property("NUM_STREAMS") == min(3, ov_threads())
    assert compiled.get_property("INFERENCE_NUM_THREADS") == min(3, ov_threads())


def test_an_image_on_all_cores_needs_none_of_the_slots() -> None:
    network = compile_network()
    network.prepare_all_cores()
    with network.requests.borrow(), network.requests.borrow():
        assert network.infer_images(noise(), DIMENSION, all_cores=True).any()


def ov_threads() -> int:
    """Return the most threads that OpenVINO allows on this machine."""
    config = {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 4}
    compiled = ov.Core().compile_model(make_graph(), "CPU", config)
    return int(compiled.get_property("INFERENCE_NUM_THREADS"))


def test_no_image_waits_until_the_network_is_compiled_for_all_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = compile_network()
    expected = network.infer_images(noise(), DIMENSION)
    assert not compiling_threads()  # nothing is compiled until an image is alone
    compile_model, may_go_on = openvino_network.compile_model, threading.Event()

    def wait_and_compile(*given: object, **options: object) -> object:
        assert may_go_on.wait(60)
        return compile_model(*given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(openvino_network, "compile_model", wait_and_compile)
    for _ in range(3):
        result = network.infer_images(noise(), DIMENSION, all_cores=True)
        assert np.array_equal(result, expected)
    assert len(compiling_threads()) == 1
    may_go_on.set()
    network.prepare_all_cores()
    assert not compiling_threads()
    assert np.allclose(network.infer_images(noise(), DIMENSION, all_cores=True), expected)


def test_images_run_on_one_core_if_compiling_for_all_of_them_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = compile_network()
    warnings: list[str] = []
    log = logging.getLogger("lookalike.models")
    monkeypatch.setattr(log, "warning", lambda text, *given: warnings.append(text % given))
    expected = network.infer_images(noise(), DIMENSION)
    monkeypatch.setattr(openvino_network, "compile_model", raising(RuntimeError("no memory")))
    with pytest.raises(RuntimeError, match="no memory"):
        network.prepare_all_cores()
    assert warnings == ["images that are alone are embedded on one core: no memory"]
    assert np.array_equal(network.infer_images(noise(), DIMENSION, all_cores=True), expected)


@pytest.mark.parametrize(("slots", "cores"), [(1, 4), (4, 1)])
def test_a_single_core_needs_one_compiled_network_only(
    monkeypatch: pytest.MonkeyPatch, slots: int, cores: int
) -> None:
    monkeypatch.setattr(openvino_network, "available_cores", lambda: cores)
    network = compile_network(slots)
    network.prepare_all_cores()
    assert network.all_cores is None
    on_one, on_all = (network.infer_images(noise(), DIMENSION, all_cores=a) for a in (False, True))
    assert np.array_equal(on_one, on_all)
