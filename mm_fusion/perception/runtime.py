"""ONNX Runtime: where a graph runs, why there, and how its buffers get there.

On the CPU a graph reads the caller's arrays where they lie. On a GPU its inputs and outputs have
places of their own that never move (IO binding), the caller's first buffers are page-locked so that
the copy to them is direct, and the whole run may be recorded once and replayed (CUDA graph).
"""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from mm_fusion.errors import ConfigError, ContractError
from mm_fusion.perception.contract import TensorSpec

Arrays = Mapping[str, npt.NDArray[Any]]

TENSORRT, CUDA, CPU = (
    "TensorrtExecutionProvider",
    "CUDAExecutionProvider",
    "CPUExecutionProvider",
)
NAMES = {TENSORRT: "tensorrt", CUDA: "cuda", CPU: "cpu"}
# ONNX Runtime's names of element types, where they differ from numpy's.
ELEMENT_TYPES = {"float": "float32", "double": "float64"}
ERRORS_ONLY = 3
GPU_WARM_UPS = 5  # the first runs choose algorithms, allocate, and record the CUDA graph
# They have no base of their own but Exception.
ORT_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    ValueError,
    *(e for e in vars(ort_state).values() if isinstance(e, type) and issubclass(e, Exception)),
)


@dataclass(frozen=True, slots=True)
class RunSettings:
    """Where to run: ``provider`` auto, tensorrt, cuda or cpu; ``threads`` on the CPU, 0 for one per
    core; ``cuda_graph`` records the run; ``engine_cache`` is TensorRT's folder, "" for none."""

    provider: str = "auto"
    threads: int = 0
    cuda_graph: bool = False
    engine_cache: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """ONNX Runtime's ``providers`` argument, and why it is that one."""

    providers: list[tuple[str, dict[str, str]]]
    reason: str


def available_providers() -> tuple[str, ...]:
    """Where the installed ONNX Runtime could run a graph: tensorrt, cuda, cpu, or its own names of
    others."""
    return tuple(NAMES.get(p, p) for p in ort.get_available_providers())


def choose(settings: RunSettings, offered: Sequence[str]) -> Choice:
    """What to ask ONNX Runtime for, of the providers that it offers (its own names).

    ``auto`` takes CUDA before the CPU; TensorRT builds an engine for minutes and runs only where it
    is asked for. Raises ConfigError where what was asked for is not offered.
    """
    wanted = settings.provider
    cpu = (CPU, dict[str, str]())
    if wanted == "cpu":
        return Choice([cpu], "asked for")
    needed = TENSORRT if wanted == "tensorrt" else CUDA
    if needed not in offered:
        if wanted != "auto":
            raise not_to_be_had(wanted, offered)
        return Choice([cpu], f"auto, and {_offers(offered)}")
    cuda = (CUDA, cuda_options(settings))
    if wanted == "tensorrt":
        return Choice([(TENSORRT, tensorrt_options(settings)), cuda, cpu], "asked for")
    return Choice([cuda, cpu], "asked for" if wanted == "cuda" else "auto, and CUDA is there")


def cuda_options(settings: RunSettings) -> dict[str, str]:
    """https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html"""
    return {
        "device_id": "0",
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        "use_tf32": "0",  # float32 means float32; whoever wants speed exports float16
        "enable_cuda_graph": "1" if settings.cuda_graph else "0",
    }


def tensorrt_options(settings: RunSettings) -> dict[str, str]:
    """https://onnxruntime.ai/docs/execution-providers/TensorRT-ExecutionProvider.html"""
    out = {"device_id": "0", "trt_cuda_graph_enable": "1" if settings.cuda_graph else "0"}
    if settings.engine_cache:
        out |= {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": settings.engine_cache,
            "trt_timing_cache_enable": "1",
        }
    return out


def not_to_be_had(wanted: str, offered: Sequence[str]) -> ConfigError:
    """A GPU was asked for and is not there."""
    return ConfigError(
        f"network.provider: {wanted} was asked for and is not to be had here: {_offers(offered)};"
        " set network.provider to auto or cpu, or install onnxruntime-gpu and the driver"
    )


def _offers(offered: Sequence[str]) -> str:
    names = ", ".join(NAMES.get(p, p) for p in offered)
    return f"this ONNX Runtime {ort.__version__} offers {names}"


class Session:
    """A graph ready to run. ``provider`` tells where it really runs, ``reason`` why there.

    ``inputs`` and ``outputs`` are its tensors as the file declares them, ``metadata`` what its
    exporter noted. Raises ContractError for what is no network, ConfigError where the wanted
    provider is not there or does not start.
    """

    def __init__(self, data: bytes, source: object, settings: RunSettings) -> None:
        self._source = source
        offered = ort.get_available_providers()
        choice = choose(settings, offered)
        if choice.providers[0][0] != CPU:
            # The libraries that pip installs beside ONNX Runtime are found only if loaded before.
            ort.preload_dlls()
        options = session_options(settings.threads)
        try:
            self._session = ort.InferenceSession(data, options, providers=choice.providers)
        except ORT_ERRORS as error:
            raise ContractError(
                f"{source}: not a network that ONNX Runtime can load: {error}"
            ) from error
        runs_on = self._session.get_providers()[0]
        self.provider, self.reason = NAMES.get(runs_on, runs_on), choice.reason
        if runs_on != choice.providers[0][0]:
            wanted = NAMES[choice.providers[0][0]]
            if settings.provider != "auto":
                raise not_to_be_had(wanted, offered)
            self.reason = f"auto, and {wanted} is offered but does not start (driver, libraries?)"
        # A GPU that fails while running is an error too, not a quiet change to the CPU.
        self._session.disable_fallback()
        self.inputs = tuple(spec_of(t) for t in self._session.get_inputs())
        self.outputs = tuple(spec_of(t) for t in self._session.get_outputs())
        self.metadata = dict(self._session.get_modelmeta().custom_metadata_map)

    @property
    def on_gpu(self) -> bool:
        """Whether the graph runs on a GPU."""
        return self.provider != "cpu"

    def run(self, names: Sequence[str] | None, feeds: Arrays) -> list[npt.NDArray[Any]]:
        """The outputs (all where no names are given). Raises ContractError if the graph fails."""
        try:
            answers = self._session.run(names, dict(feeds))
        except ORT_ERRORS as error:
            raise ContractError(f"{self._source}: the network failed: {error}") from error
        return [np.asarray(a) for a in answers]

    def bind(self, full: Arrays, outputs: Sequence[TensorSpec], device: str) -> Binding:
        """Places for the inputs, as large as the arrays of ``full``, and for the outputs."""
        return Binding(self._session, self._source, full, outputs, device)


def session_options(threads: int) -> ort.SessionOptions:
    """Options of every session; ``threads`` 0 for one per core."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or os.cpu_count() or 1
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    # Threads that spin while they wait take a core each from the other processes of the robot:
    # at 10 Hz on two busy cores 70 ms of CPU per run instead of 38, and a later answer.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = ERRORS_ONLY
    return options


def spec_of(tensor: ort.NodeArg) -> TensorSpec:
    """A session's tensor in the contract's terms."""
    element = tensor.type.removeprefix("tensor(").removesuffix(")")
    shape = tuple(a if isinstance(a, int) else str(a) for a in tensor.shape)
    return TensorSpec(tensor.name, ELEMENT_TYPES.get(element, element), shape)


class Binding:
    """Inputs and outputs of a session at places that do not move, on ``device`` (cuda or cpu).

    An input of fewer rows than its place has uses the first ones. The answers are copies.
    """

    def __init__(
        self,
        session: ort.InferenceSession,
        source: object,
        full: Arrays,
        outputs: Sequence[TensorSpec],
        device: str,
    ) -> None:
        self._session, self._source, self._device = session, source, device
        self._binding = session.io_binding()
        self._places: dict[str, ort.OrtValue] = {}
        self._rows: dict[str, int] = {}
        for name, array in full.items():
            shape, kind = list(array.shape), array.dtype.type
            place = ort.OrtValue.ortvalue_from_shape_and_type(shape, kind, device, 0)
            self._places[name] = place
            self._bind_rows(name, array, len(array))
        self._outputs = []
        for spec in outputs:
            sizes = [int(a) for a in spec.shape]
            kind = np.dtype(spec.dtype).type
            place = ort.OrtValue.ortvalue_from_shape_and_type(sizes, kind, device, 0)
            self._binding.bind_ortvalue_output(spec.name, place)
            self._outputs.append(place)

    def _bind_rows(self, name: str, array: npt.NDArray[Any], rows: int) -> None:
        if self._rows.get(name) != rows:
            shape, place = [rows, *array.shape[1:]], self._places[name].data_ptr()
            kind = array.dtype.type
            self._binding.bind_input(name, self._device, 0, kind, shape, place)
            self._rows[name] = rows

    def run(self, full: Arrays, rows: Mapping[str, int]) -> list[npt.NDArray[Any]]:
        """Copy the arrays to their places, run, and copy the answers back. ``rows`` says of which
        inputs only so many of the first rows are fed. Raises ContractError if the graph fails."""
        try:
            for name, array in full.items():
                self._places[name].update_inplace(array)
                self._bind_rows(name, array, rows.get(name, len(array)))
            self._session.run_with_iobinding(self._binding)
            return [np.array(place.numpy()) for place in self._outputs]
        except ORT_ERRORS as error:
            raise ContractError(f"{self._source}: the network failed: {error}") from error


# ---------------------------------------------------------------------- page-locked memory

CUDART = ("libcudart.so.13", "libcudart.so.12")
# Smaller ones share their pages with others, of which each page can be locked once only.
LOCKED_FROM_BYTES = 65_536


def page_lock(
    arrays: Arrays, load: Callable[[str], Any] = ctypes.CDLL, names: Sequence[str] = CUDART
) -> str:
    """Lock the large arrays' pages, so that the GPU fetches them itself; answers why not, "" if it
    did. They are unlocked as their memory is freed: whoever gets it next may want to lock it.

    From the CUDA Runtime API: cudaHostRegister(pointer, size, flags) and cudaHostUnregister, 0 for
    success. An error stays as the last one until somebody asks for it, and would be taken for the
    network's: so it is asked for.
    """
    library = None
    for name in names:
        try:
            library = load(name)
            break
        except OSError:
            continue
    if library is None:
        return f"none of {', '.join(names)} can be loaded"
    for name, array in arrays.items():
        if array.nbytes < LOCKED_FROM_BYTES:
            continue
        pointer, size = ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes)
        code = int(library.cudaHostRegister(pointer, size, ctypes.c_uint(0)))
        if code != 0:
            library.cudaGetLastError()
            return f"cudaHostRegister answers {code} for {name}"
        # not at the interpreter's end, when CUDA has gone and its memory with it
        weakref.finalize(_owner(array), _unlock, library, pointer).atexit = False
    return ""


def _unlock(library: Any, pointer: ctypes.c_void_p) -> None:
    if library.cudaHostUnregister(pointer) != 0:
        library.cudaGetLastError()


def _owner(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The array whose memory this one looks at."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def file_bytes(path: Path) -> bytes:
    """A file's bytes. Raises ContractError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ContractError(f"{path}: cannot be read: {error.strerror}") from error
