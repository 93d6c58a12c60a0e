"""Where a graph runs and why, and how its buffers get there; what a CPU can tell of it."""

from __future__ import annotations

import ctypes
import gc

import numpy as np
import pytest
import scenes

from mm_fusion.errors import ConfigError
from mm_fusion.perception.contract import NetworkInputs, expected_tensors
from mm_fusion.perception.network import FusionNetwork
from mm_fusion.perception.runtime import (
    CPU,
    CUDA,
    TENSORRT,
    RunSettings,
    Session,
    choose,
    page_lock,
    session_options,
)
from mm_fusion.resources import share_path

PACKAGED = share_path("models/fusion.onnx")
ALL = (TENSORRT, CUDA, CPU)


@pytest.mark.parametrize(
    ("wanted", "offered", "asked", "reason"),
    [
        ("auto", ALL, [CUDA, CPU], "auto, and CUDA is there"),
        ("auto", (CPU,), [CPU], "offers cpu"),
        ("auto", ("AzureExecutionProvider", CPU), [CPU], "offers AzureExecutionProvider, cpu"),
        ("cpu", ALL, [CPU], "asked for"),
        ("cuda", ALL, [CUDA, CPU], "asked for"),
        ("tensorrt", ALL, [TENSORRT, CUDA, CPU], "asked for"),
    ],
)
def test_what_is_asked_of_the_runtime(wanted, offered, asked, reason):
    choice = choose(RunSettings(wanted), offered)
    assert [name for name, _ in choice.providers] == asked
    assert reason in choice.reason


@pytest.mark.parametrize(
    ("wanted", "offered"), [("cuda", (CPU,)), ("tensorrt", (CUDA, CPU)), ("tensorrt", (CPU,))]
)
def test_a_gpu_that_is_not_offered_is_an_error(wanted, offered):
    with pytest.raises(ConfigError, match=rf"network\.provider: {wanted} was asked for"):
        choose(RunSettings(wanted), offered)


def test_options_of_the_gpu_providers():
    plain = dict(choose(RunSettings("tensorrt"), ALL).providers)
    assert plain[CUDA]["enable_cuda_graph"] == plain[TENSORRT]["trt_cuda_graph_enable"] == "0"
    assert "trt_engine_cache_enable" not in plain[TENSORRT]
    recorded = dict(choose(RunSettings("tensorrt", 0, True, "/var/engines"), ALL).providers)
    assert recorded[CUDA]["enable_cuda_graph"] == "1"
    assert recorded[TENSORRT]["trt_engine_cache_path"] == "/var/engines"
    # float32 is float32
    assert recorded[CUDA]["use_tf32"] == "0"


def test_options_of_every_session():
    options = session_options(3)
    assert options.intra_op_num_threads == 3
    assert options.use_deterministic_compute
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_bound_buffers_give_the_same_answers_as_a_plain_run():
    """What a GPU does with its own memory, here with the CPU's."""
    # GIVEN the packaged network, bound to places of the full size
    network = FusionNetwork.open(PACKAGED, "cpu", 1)
    session = Session(PACKAGED.read_bytes(), PACKAGED, RunSettings("cpu", 1))
    inputs = NetworkInputs.of(network.contract)
    bound = session.bind(inputs.buffers(), expected_tensors(network.contract)[1], "cpu")
    rng = np.random.default_rng(4)
    for count in (9000, 300, 12000):
        # WHEN it is run with as many points as there happen to be
        inputs.points[:count, :3] = rng.uniform([-25, -25, 0], [50, 25, 3], (count, 3))
        inputs.set_points(count)
        inputs.images[:] = rng.integers(0, 255, inputs.images.shape)
        inputs.set_image(0, True)
        inputs.pixel_from_base[0] = [[300, -300, 0, 0], [150, 0, -300, 450], [1, 0, 0, 0]]
        wanted = [a for a in network.run(inputs) if a is not None]
        said = bound.run(inputs.buffers(), {"points": count})
        # THEN the answers are those of a plain run
        for one, other in zip(said, wanted, strict=True):
            np.testing.assert_array_equal(one, other)
        # AND they stay what they were when the next run overwrites the places
        kept = [a.copy() for a in said]
        bound.run(inputs.buffers(), {"points": 1})
        for one, other in zip(said, kept, strict=True):
            np.testing.assert_array_equal(one, other)


def test_points_that_are_not_there_may_be_nan():
    """What lets a GPU run one size: the packaged network passes over such rows."""
    network = FusionNetwork.open(PACKAGED, "cpu", 1)
    inputs = NetworkInputs.of(network.contract)
    rng = np.random.default_rng(5)
    inputs.points[:5000, :3] = rng.uniform([-25, -25, 0], [50, 25, 3], (5000, 3))
    inputs.set_points(5000)
    wanted = network.run(inputs)
    inputs.points[5000:] = np.nan
    inputs.set_points(len(inputs.points))
    said = network.run(inputs)
    np.testing.assert_allclose(said.scores, wanted.scores, atol=1e-5)


def test_the_warm_up_is_shown_and_the_reason_is_told(tmp_path):
    told = []
    path = scenes.write_network(tmp_path)
    network = FusionNetwork.load(path, RunSettings("cpu", 1), told.append)
    assert told == [1.0]
    assert (network.provider, network.reason) == ("cpu", "asked for")
    # nothing is locked for a CPU
    network.lock(NetworkInputs.of(network.contract))
    assert network.pinned == "the graph runs on the CPU"


class Cudart:
    """A CUDA runtime that writes down what it is asked."""

    def __init__(self, answer: int = 0) -> None:
        self.locked: dict[int, int] = {}
        self.errors_taken = 0
        self._answer = answer

    def cudaHostRegister(self, pointer, size, flags):
        assert flags.value == 0
        if self._answer == 0:
            self.locked[pointer.value] = size.value
        return self._answer

    def cudaHostUnregister(self, pointer):
        del self.locked[pointer.value]
        return 0

    def cudaGetLastError(self):
        self.errors_taken += 1
        return self._answer


def made_arrays():
    return {
        "points": np.zeros((40_000, 5), np.float32),
        "images": np.zeros(100_000, np.uint8).reshape(100, 1000),
        "has_points": np.zeros(1, np.float32),
    }


def test_large_arrays_are_locked_by_the_cuda_runtime():
    arrays, cudart, tried = made_arrays(), Cudart(), []

    def load(name):
        tried.append(name)
        if len(tried) == 1:
            raise OSError(name)
        return cudart

    assert page_lock(arrays, load) == ""
    assert tried == ["libcudart.so.13", "libcudart.so.12"]
    large = [arrays["points"], arrays["images"]]
    assert cudart.locked == {a.ctypes.data: a.nbytes for a in large}


def test_pages_are_unlocked_with_their_memory():
    arrays, cudart = made_arrays(), Cudart()
    page_lock(arrays, lambda _: cudart)
    view = arrays["images"].T
    del arrays
    gc.collect()
    assert list(cudart.locked) == [view.ctypes.data]
    del view
    gc.collect()
    assert not cudart.locked


def test_an_error_of_locking_does_not_stay_behind():
    cudart = Cudart(712)
    assert page_lock(made_arrays(), lambda _: cudart) == "cudaHostRegister answers 712 for points"
    assert cudart.errors_taken == 1


def test_without_the_cuda_runtime_it_says_so():
    arrays = {"points": np.zeros(3)}
    assert "can be loaded" in page_lock(arrays, ctypes.CDLL, ("libno-such-thing.so.9",))
