"""The fusion network under ONNX Runtime: the only place that knows it.

A network is a file with its contract beside it. Both are held against each other and against what
this program feeds; what does not fit is refused here, before the first sweep.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from mm_fusion import resources
from mm_fusion.config import Config
from mm_fusion.errors import ConfigError, ContractError
from mm_fusion.perception.contract import (
    Contract,
    NetworkInputs,
    TensorSpec,
    check_tensors,
    expected_tensors,
    parse_contract,
)

PACKAGED_MODEL = "models/fusion.onnx"
CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
NAMES = {CUDA: "cuda", CPU: "cpu"}
# ONNX Runtime's names of element types, where they differ from numpy's.
ELEMENT_TYPES = {"float": "float32", "double": "float64"}
ERRORS_ONLY = 3
# They have no base of their own but Exception.
ORT_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    ValueError,
    *(e for e in vars(ort_state).values() if isinstance(e, type) and issubclass(e, Exception)),
)


class NetworkOutputs(NamedTuple):
    """``boxes`` float32 [K,9], ``scores`` float32 [K], ``labels`` int64 [K]; best first.

    ``spreads`` float32 [K,5]: mean absolute errors expected of x and y (m), z (m), size (in its
    logarithm), yaw (in sine and cosine), velocity (m/s); None from a network that has no idea.
    """

    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    spreads: npt.NDArray[np.float32] | None = None


class FusionNetwork:
    """A network that fits its contract, ready to run.

    ``provider`` is "cuda" or "cpu": where the graph really runs. ``model_path`` and ``contract``
    say what it is.
    """

    def __init__(self, session: ort.InferenceSession, contract: Contract, model_path: Path) -> None:
        self.contract = contract
        self.model_path = model_path
        self.provider = NAMES[session.get_providers()[0]]
        self._session = session
        self._outputs = [t.name for t in expected_tensors(contract)[1]]
        _check_session(session, contract, model_path)
        self._check_answer(self.run(NetworkInputs.of(contract)))

    @staticmethod
    def from_config(config: Config) -> FusionNetwork:
        """The network that the parameters name. Raises as :meth:`open` does."""
        settings = config.network
        named = (config.model if config.detector == "fusion" else "") or settings.model
        model = Path(named) if named else resources.share_path(PACKAGED_MODEL)
        return FusionNetwork.open(model, settings.provider, settings.threads)

    @staticmethod
    def open(model: str | Path, provider: str = "auto", threads: int = 0) -> FusionNetwork:
        """Load ``model`` with the contract of the same name beside it (.yaml).

        ``provider``: auto, cuda or cpu; ``threads`` on the CPU, 0 for one per core. Raises
        ContractError where a file is missing or does not fit, ConfigError where CUDA was asked
        for and is not to be had.
        """
        path = Path(model)
        contract = read_contract(path)
        data = _read(path)
        contract.check_model(data)
        return FusionNetwork(_session(data, path, provider, threads), contract, path)

    def facts(self) -> dict[str, Any]:
        """What a summary says about it."""
        return self.contract.facts()

    def run(self, inputs: NetworkInputs) -> NetworkOutputs:
        """Boxes, scores and labels of what is staged. Raises ContractError if the graph fails."""
        try:
            answers = self._session.run(self._outputs, inputs.feeds())
        except ORT_ERRORS as error:
            raise ContractError(f"{self.model_path}: the network failed: {error}") from error
        return NetworkOutputs(*(np.asarray(a) for a in answers))

    def _check_answer(self, answer: NetworkOutputs) -> None:
        # A graph may leave its output sizes open; then only running it tells.
        shapes = [a.shape for a in answer if a is not None]
        for spec, shape in zip(expected_tensors(self.contract)[1], shapes, strict=True):
            if shape != spec.shape:
                raise ContractError(
                    f"{self.model_path}: output '{spec.name}' must have shape {list(spec.shape)},"
                    f" the network answers {list(shape)}"
                )


class Graph:
    """Any graph that ONNX Runtime loads, for networks whose tensors a contract explains.

    ``inputs`` and ``outputs`` are its tensors as the file declares them, ``metadata`` what its
    exporter noted, ``provider`` where it runs, ``model_path`` where it came from.
    """

    def __init__(self, model: str | Path, provider: str = "auto", threads: int = 0) -> None:
        self.model_path = Path(model)
        if not self.model_path.is_file():
            raise ContractError(f"{self.model_path}: no such network file (parameter model)")
        data = _read(self.model_path)
        self.sha256 = hashlib.sha256(data).hexdigest()
        self._session = _session(data, self.model_path, provider, threads)
        self.provider = NAMES[self._session.get_providers()[0]]
        self.inputs = tuple(_spec(t) for t in self._session.get_inputs())
        self.outputs = tuple(_spec(t) for t in self._session.get_outputs())
        self.metadata = dict(self._session.get_modelmeta().custom_metadata_map)

    def run(self, feeds: Mapping[str, npt.NDArray[np.generic]]) -> list[npt.NDArray[Any]]:
        """The outputs in their order. Raises ContractError if the graph fails."""
        try:
            answers = self._session.run(None, dict(feeds))
        except ORT_ERRORS as error:
            raise ContractError(f"{self.model_path}: the network failed: {error}") from error
        return [np.asarray(a) for a in answers]


def text_beside(model: str | Path, name: str = "") -> str | None:
    """The text of the file of this name in the model's folder (by default its own with .yaml);
    None where there is none."""
    path = Path(model)
    beside = path.with_name(name) if name else path.with_suffix(".yaml")
    return _read(beside).decode("utf-8", "replace") if beside.is_file() else None


def available_providers() -> tuple[str, ...]:
    """Where the installed ONNX Runtime could run a graph: cuda, cpu, or its own names of others."""
    return tuple(NAMES.get(p, p) for p in ort.get_available_providers())


def read_contract(model: Path) -> Contract:
    """The contract beside a model file. Raises ContractError where either is missing."""
    if not model.is_file():
        raise ContractError(f"{model}: no such network file (parameter network.model)")
    beside = model.with_suffix(".yaml")
    if not beside.is_file():
        raise ContractError(f"{beside}: the contract of {model.name} is missing")
    contract = parse_contract(_read(beside).decode("utf-8", "replace"), str(beside))
    if contract.model != model.name:
        raise ContractError(
            f"{beside}: model: must be {model.name}, the contract is for {contract.model}"
        )
    return contract


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ContractError(f"{path}: cannot be read: {error.strerror}") from error


def _session(data: bytes, path: Path, provider: str, threads: int) -> ort.InferenceSession:
    providers = [CPU]
    if provider != "cpu" and CUDA in ort.get_available_providers():
        # The libraries that pip installs beside ONNX Runtime are found only if loaded before.
        ort.preload_dlls()
        providers = [CUDA, CPU]
    try:
        session = ort.InferenceSession(data, _options(threads), providers=providers)
    except ORT_ERRORS as error:
        raise ContractError(f"{path}: not a network that ONNX Runtime can load: {error}") from error
    if provider == "cuda" and session.get_providers()[0] != CUDA:
        known = ", ".join(available_providers())
        raise ConfigError(
            "network.provider: cuda was asked for and is not to be had here: this ONNX Runtime"
            f" {ort.__version__} offers {known}; set network.provider to auto or cpu, or install"
            " onnxruntime-gpu and the driver"
        )
    # A GPU that fails while running is an error too, not a quiet change to the CPU.
    session.disable_fallback()
    return session


def _options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or os.cpu_count() or 1
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    # Threads that spin while they wait take a core each from the other processes of the robot:
    # at 10 Hz on two busy cores 70 ms of CPU per run instead of 38, and a later answer.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = ERRORS_ONLY
    return options


def _check_session(session: ort.InferenceSession, contract: Contract, path: Path) -> None:
    inputs, outputs = expected_tensors(contract)
    check_tensors(inputs, [_spec(t) for t in session.get_inputs()], "input", str(path))
    loose = [_fixed(_spec(t), outputs) for t in session.get_outputs()]
    check_tensors(outputs, loose, "output", str(path))


def _spec(tensor: ort.NodeArg) -> TensorSpec:
    element = tensor.type.removeprefix("tensor(").removesuffix(")")
    shape = tuple(a if isinstance(a, int) else str(a) for a in tensor.shape)
    return TensorSpec(tensor.name, ELEMENT_TYPES.get(element, element), shape)


def _fixed(found: TensorSpec, wanted: tuple[TensorSpec, ...]) -> TensorSpec:
    """The tensor with the sizes it leaves open taken as wanted: running it tells them."""
    for want in wanted:
        if want.name == found.name and len(want.shape) == len(found.shape):
            pairs = zip(found.shape, want.shape, strict=True)
            shape = tuple(w if isinstance(f, str) else f for f, w in pairs)
            return TensorSpec(found.name, found.dtype, shape)
    return found
