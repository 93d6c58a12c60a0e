"""The fusion network: a file, its contract, and its runs.

A network is a file with its contract beside it. Both are held against each other and against what
this program feeds; what does not fit is refused here, before the first sweep.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mm_fusion import resources
from mm_fusion.config import Config
from mm_fusion.errors import ContractError
from mm_fusion.perception.contract import (
    Contract,
    NetworkInputs,
    TensorSpec,
    check_tensors,
    expected_tensors,
    parse_contract,
)
from mm_fusion.perception.runtime import (
    GPU_WARM_UPS,
    Binding,
    RunSettings,
    Session,
    file_bytes,
    page_lock,
)

PACKAGED_MODEL = "models/fusion.onnx"
# Networks of one sense by the sense that they have; they answer where it is all there is.
PACKAGED_STAND_INS = {"lidar": "models/lidar.onnx", "camera": "models/camera.onnx"}
Show = Callable[[float], None]


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

    ``stand_ins`` are networks trained for one sense alone, "lidar" or "camera", that answer where
    the other is not there: a sense that is all there is deserves a network that never had another.
    ``provider`` is "tensorrt", "cuda" or "cpu": where the graph really runs; ``reason`` says why
    there. ``model_path`` and ``contract`` say what it is. On a GPU, ``pinned`` says why the buffers
    of the first run could not be page-locked ("" where they could).
    """

    def __init__(
        self,
        session: Session,
        contract: Contract,
        model_path: Path,
        settings: RunSettings | None = None,
        show: Show | None = None,
    ) -> None:
        self.contract = contract
        self.model_path = model_path
        self.provider, self.reason = session.provider, session.reason
        self.pinned = "the graph runs on the CPU"
        self._session = session
        self._settings = settings or RunSettings()
        self._specs = expected_tensors(contract)[1]
        self._outputs = [t.name for t in self._specs]
        self._bound: Binding | None = None
        self._locked: NetworkInputs | None = None
        self.stand_ins: dict[str, FusionNetwork] = {}
        _check_session(session, contract, model_path)
        self._warm_up(show)

    @staticmethod
    def from_config(config: Config, show: Show | None = None) -> FusionNetwork:
        """The network that the parameters name. Raises as :meth:`open` does."""
        settings = config.network
        named = (config.model if config.detector == "fusion" else "") or settings.model
        model = Path(named) if named else resources.share_path(PACKAGED_MODEL)
        where = RunSettings(
            settings.provider, settings.threads, settings.cuda_graph, settings.engine_cache
        )
        network = FusionNetwork.load(model, where, show)
        for sense, stand_in in _stand_ins(config, packaged=not named).items():
            network.take_stand_in(sense, FusionNetwork.load(stand_in, where))
        return network

    @staticmethod
    def open(model: str | Path, provider: str = "auto", threads: int = 0) -> FusionNetwork:
        """Load ``model`` to run on ``provider`` (auto, tensorrt, cuda or cpu); see :meth:`load`."""
        return FusionNetwork.load(Path(model), RunSettings(provider, threads))

    @staticmethod
    def load(path: Path, settings: RunSettings, show: Show | None = None) -> FusionNetwork:
        """Load a network with the contract of the same name beside it (.yaml), and warm it up.

        ``show`` is told the share of the warm-up that is done. Raises ContractError where a file is
        missing or does not fit, ConfigError where a GPU was asked for and is not to be had.
        """
        contract = read_contract(path)
        data = file_bytes(path)
        contract.check_model(data)
        return FusionNetwork(Session(data, path, settings), contract, path, settings, show)

    def take_stand_in(self, sense: str, network: FusionNetwork) -> None:
        """Let ``network`` answer where ``sense`` ("lidar" or "camera") is all there is.

        Raises ContractError where it does not take the same inputs or has other classes.
        """
        for what, wanted, found in (
            ("inputs", expected_tensors(self.contract)[0], expected_tensors(network.contract)[0]),
            ("point_budget", self.contract.point_budget, network.contract.point_budget),
            ("classes", self.contract.classes, network.contract.classes),
        ):
            if found != wanted:
                raise ContractError(
                    f"{network.model_path}: cannot stand in for {self.model_path.name}:"
                    f" {what} must be {wanted}, not {found}"
                )
        self.stand_ins[sense] = network

    def for_senses(self, has_points: bool, has_image: bool) -> FusionNetwork:
        """The network that answers where these senses are there: a stand-in, or this one."""
        if has_points == has_image:
            return self
        return self.stand_ins.get("lidar" if has_points else "camera", self)

    def facts(self) -> dict[str, Any]:
        """What a summary says about it."""
        others = {sense: n.contract.facts() for sense, n in self.stand_ins.items()}
        return self.contract.facts() | ({"stand_ins": others} if others else {})

    def run(self, inputs: NetworkInputs) -> NetworkOutputs:
        """Boxes, scores and labels of what is staged. Raises ContractError if the graph fails."""
        if not self._session.on_gpu:
            return NetworkOutputs(*self._session.run(self._outputs, inputs.feeds()))
        full = inputs.buffers()
        if self._bound is None:
            self._bound = self._session.bind(full, self._specs, "cuda")
        rows = {"points": inputs.point_count}
        if self._settings.cuda_graph or self.provider == "tensorrt":
            # One size for every run; the network passes over rows that are not finite.
            inputs.points[inputs.point_count :] = np.nan
            rows = {}
        return NetworkOutputs(*self._bound.run(full, rows))

    def lock(self, inputs: NetworkInputs) -> None:
        """Page-lock buffers that will be run again and again; on the CPU there is nothing to do."""
        if self._session.on_gpu and self._locked is None:
            self.pinned = page_lock(inputs.buffers())
            self._locked = inputs

    def _warm_up(self, show: Show | None) -> None:
        """The first runs, which pay for what later ones share; the answer must fit the contract."""
        count = GPU_WARM_UPS if self._session.on_gpu else 1
        inputs = NetworkInputs.of(self.contract)
        for n in range(count):
            self._check_answer(self.run(inputs))
            if show is not None:
                show((n + 1) / count)

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
    exporter noted, ``provider`` where it runs and ``reason`` why there, ``model_path`` its
    place.
    """

    def __init__(self, model: str | Path, provider: str = "auto", threads: int = 0) -> None:
        self.model_path = Path(model)
        if not self.model_path.is_file():
            raise ContractError(f"{self.model_path}: no such network file (parameter model)")
        data = file_bytes(self.model_path)
        self.sha256 = hashlib.sha256(data).hexdigest()
        session = Session(data, self.model_path, RunSettings(provider, threads))
        self.provider, self.reason = session.provider, session.reason
        self.inputs, self.outputs = session.inputs, session.outputs
        self.metadata = session.metadata
        self._session = session

    def run(self, feeds: Mapping[str, npt.NDArray[np.generic]]) -> list[npt.NDArray[Any]]:
        """The outputs in their order. Raises ContractError if the graph fails."""
        return self._session.run(None, feeds)


def _stand_ins(config: Config, packaged: bool) -> dict[str, Path]:
    """The files of the networks of one sense that the parameters name, by sense."""
    settings = config.network
    out = {}
    for sense, named in (("lidar", settings.lidar_model), ("camera", settings.camera_model)):
        if named == "auto" and packaged:
            out[sense] = resources.share_path(PACKAGED_STAND_INS[sense])
        elif named not in ("auto", ""):
            out[sense] = Path(named)
    return out


def text_beside(model: str | Path, name: str = "") -> str | None:
    """The text of the file of this name in the model's folder (by default its own with .yaml);
    None where there is none."""
    path = Path(model)
    beside = path.with_name(name) if name else path.with_suffix(".yaml")
    return file_bytes(beside).decode("utf-8", "replace") if beside.is_file() else None


def read_contract(model: Path) -> Contract:
    """The contract beside a model file. Raises ContractError where either is missing."""
    if not model.is_file():
        raise ContractError(f"{model}: no such network file (parameter network.model)")
    beside = model.with_suffix(".yaml")
    if not beside.is_file():
        raise ContractError(
            f"{beside}: the contract of {model.name} is missing;"
            " a 2D detector needs none with detector: camera2d"
        )
    contract = parse_contract(file_bytes(beside).decode("utf-8", "replace"), str(beside))
    if contract.model != model.name:
        raise ContractError(
            f"{beside}: model: must be {model.name}, the contract is for {contract.model}"
        )
    return contract


def _check_session(session: Session, contract: Contract, path: Path) -> None:
    inputs, outputs = expected_tensors(contract)
    check_tensors(inputs, session.inputs, "input", str(path))
    loose = [_fixed(t, outputs) for t in session.outputs]
    check_tensors(outputs, loose, "output", str(path))


def _fixed(found: TensorSpec, wanted: tuple[TensorSpec, ...]) -> TensorSpec:
    """The tensor with the sizes it leaves open taken as wanted: running it tells them."""
    for want in wanted:
        if want.name == found.name and len(want.shape) == len(found.shape):
            pairs = zip(found.shape, want.shape, strict=True)
            shape = tuple(w if isinstance(f, str) else f for f, w in pairs)
            return TensorSpec(found.name, found.dtype, shape)
    return found
