"""One image into its slot of the network's input: decoded, rectified, resized, RGB.

Pixel centres are at integer coordinates, as in OpenCV: an image made ``s`` times as large shows at
``u' = (u + 0.5) * s - 0.5`` what was at ``u``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from mm_fusion.samples import CameraFrame, CameraModel, Reason

U8 = npt.NDArray[np.uint8]
F64 = npt.NDArray[np.float64]

COMPRESSED = ("jpeg", "png")
# Encoding: number of channels, and OpenCV's way from there to RGB.
RAW: dict[str, tuple[int, int | None]] = {
    "rgb8": (3, None),
    "bgr8": (3, cv2.COLOR_BGR2RGB),
    "rgba8": (4, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, cv2.COLOR_BGRA2RGB),
    "mono8": (1, cv2.COLOR_GRAY2RGB),
}
# A JPEG can be decoded at a fraction of its size, for a fraction of the work.
REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
# Pixels are averaged by whole numbers, down to this little less than the network sees: 360 rows
# stand for 384. Averaging two by two is fast, and two by one is not.
SPARE = 0.25
# Rows of a picture that are rectified at a time: what is made of them stays in a core's own cache.
BAND = 24
JPEG_END = b"\xff\xd9"
JPEG_TAIL_BYTES = 4096


class ImageError(Exception):
    """Why an image cannot be used; becomes a Rejection where it is caught."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def scaled_k(k: F64, scale_u: float, scale_v: float) -> F64:
    """The intrinsics [3,3] of the same view in an image ``scale_u`` by ``scale_v`` as large."""
    scaled = np.array(k, dtype=np.float64)
    scaled[0] *= scale_u
    scaled[1] *= scale_v
    scaled[0, 2] += 0.5 * scale_u - 0.5
    scaled[1, 2] += 0.5 * scale_v - 0.5
    return scaled


def pixels(frame: CameraFrame) -> U8:
    """A raw image as uint8 [height, width, channels]: a view on the message's bytes."""
    channels = RAW[frame.encoding][0]
    rows = frame.data[:, : frame.width * channels]
    return rows.reshape(frame.height, frame.width, channels)


def decode(data: U8, codec: str, reduce: int = 1) -> U8:
    """JPEG or PNG bytes as BGR [h,w,3]; a JPEG at 1/``reduce`` (1, 2, 4, 8), rounded up.

    Raises ImageError(UNDECODABLE_IMAGE), also for a JPEG that is cut off, which a decoder would
    fill up with grey.
    """
    if codec == "jpeg" and JPEG_END not in bytes(data[-JPEG_TAIL_BYTES:]):
        raise ImageError(Reason.UNDECODABLE_IMAGE, f"a JPEG of {len(data)} bytes that is cut off")
    flags = REDUCED[reduce] | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.ascontiguousarray(data), flags)
    except cv2.error as error:
        raise ImageError(Reason.UNDECODABLE_IMAGE, f"{codec}: {error.err}") from error
    if image is None:
        raise ImageError(Reason.UNDECODABLE_IMAGE, f"{len(data)} bytes do not decode as {codec}")
    return np.asarray(image, dtype=np.uint8)


def rectified(frame: CameraFrame, model: CameraModel) -> U8:
    """The frame at its own size as a pinhole image with the intrinsics ``model.k``: RGB [h,w,3].

    Raises ImageError. For pictures; the road to the network is ImageStager.
    """
    if frame.encoding in COMPRESSED:
        image = decode(frame.data, frame.encoding)
        to_rgb: int | None = cv2.COLOR_BGR2RGB
    else:
        check_encoding(frame)
        image, to_rgb = pixels(frame), RAW[frame.encoding][1]
    _check_size(image.shape[1], image.shape[0], model)
    image = image.copy() if to_rgb is None else np.asarray(cv2.cvtColor(image, to_rgb), np.uint8)
    if not distorts(model):
        return image
    table, fraction = _tables(model, model.k, model.k, (model.width, model.height))
    return np.asarray(cv2.remap(image, table, fraction, cv2.INTER_LINEAR), dtype=np.uint8)


def distorts(model: CameraModel) -> bool:
    """Whether the image differs from that of a pinhole with the same ``k``.

    An equidistant lens does, also where all its coefficients are zero: its radius grows with the
    angle, not with the angle's tangent.
    """
    return model.distortion_model == "equidistant" or bool(model.d.any())


def check_encoding(frame: CameraFrame) -> None:
    """Raises ImageError(UNKNOWN_ENCODING) for what is neither raw nor compressed as known here."""
    if frame.encoding not in RAW and frame.encoding not in COMPRESSED:
        known = ", ".join((*RAW, *COMPRESSED))
        raise ImageError(Reason.UNKNOWN_ENCODING, f"'{frame.encoding}' is not one of {known}")


def _tables(
    model: CameraModel, k: F64, target_k: F64, target_size: tuple[int, int]
) -> tuple[Any, Any]:
    """OpenCV's fixed-point tables: where in a distorted image of intrinsics ``k`` is shown what a
    pinhole image of ``target_k`` and ``target_size`` (width, height) shows."""
    if model.distortion_model == "equidistant":
        d = model.d if len(model.d) else np.zeros(4)
        return cv2.fisheye.initUndistortRectifyMap(
            k, d, np.eye(3), target_k, target_size, cv2.CV_16SC2
        )
    if model.distortion_model not in ("plumb_bob", "rational_polynomial"):
        raise ImageError(
            Reason.NO_INTRINSICS, f"distortion model '{model.distortion_model}' is not known"
        )
    return cv2.initUndistortRectifyMap(k, model.d, None, target_k, target_size, cv2.CV_16SC2)


class _Band(NamedTuple):
    """Some rows of the network's image, from which to before which row of an image already reduced
    they come, and from where in those rows every pixel does."""

    rows: slice
    first: int
    last: int
    table: Any  # OpenCV's fixed-point pair of CV_16SC2 and CV_16UC1
    fraction: Any


def _banded(table: Any, fraction: Any, height: int) -> tuple[_Band, ...]:
    """Tables of a whole image as those of its bands; ``height`` is that of the reduced image."""
    bands = []
    for start in range(0, len(table), BAND):
        rows = slice(start, min(start + BAND, len(table)))
        v = table[rows, :, 1]
        # Each pixel is made of its row and the next. What shows none of the image gets one row.
        first = min(max(int(v.min()), 0), height - 1)
        last = min(max(int(v.max()) + 2, first + 1), height)
        shifted = table[rows].copy()
        shifted[:, :, 1] -= first
        bands.append(_Band(rows, first, last, shifted, fraction[rows].copy()))
    return tuple(bands)


@dataclass(frozen=True, slots=True, eq=False)
class _Maps:
    """Where every pixel of the network's image comes from, for a lens and a reduced size."""

    model: CameraModel
    size: tuple[int, int]
    bands: tuple[_Band, ...]


class ImageStager:
    """Puts the images of one camera slot into ``slot`` uint8 [H,W,3] of the network's input."""

    def __init__(self, slot: U8) -> None:
        self._slot = slot
        self._height, self._width = slot.shape[:2]
        self._maps: _Maps | None = None

    def network_k(self, model: CameraModel) -> F64:
        """Intrinsics [3,3] of the rectified image in the slot."""
        return scaled_k(model.k, self._width / model.width, self._height / model.height)

    def put(self, frame: CameraFrame, model: CameraModel) -> None:
        """Fill the slot. Raises ImageError; then the slot's content means nothing."""
        if frame.encoding in COMPRESSED:
            image = self._decoded(frame, model)
            to_rgb: int | None = cv2.COLOR_BGR2RGB
        else:
            check_encoding(frame)
            _check_size(frame.width, frame.height, model)
            image, to_rgb = pixels(frame), RAW[frame.encoding][1]
        direct = self._slot if to_rgb is None else None
        if distorts(model):
            small = self._rectified(image, model, direct)
        else:
            small = self._resized(image, (self._width, self._height), direct)
        if to_rgb is not None:
            # Colours are swapped last, where there are fewest pixels.
            cv2.cvtColor(small, to_rgb, dst=self._slot)
        elif small is not self._slot:
            np.copyto(self._slot, small)

    def _whole(self, width: int, height: int) -> tuple[int, int]:
        """How many pixels of an image may become one, along u and v."""
        by_u, by_v = width / self._width + SPARE, height / self._height + SPARE
        return max(int(by_u), 1), max(int(by_v), 1)

    def _decoded(self, frame: CameraFrame, model: CameraModel) -> U8:
        room = min(self._whole(model.width, model.height))
        # Only by what divides the size: else the last pixels would show less than the others.
        fits = [r for r in REDUCED if r <= room and not (model.width % r or model.height % r)]
        reduce = max(fits, default=1) if frame.encoding == "jpeg" else 1
        image = decode(frame.data, frame.encoding, reduce)
        height, width = image.shape[:2]
        _check_size(width * reduce, height * reduce, model)
        return image

    def _resized(self, image: U8, size: tuple[int, int], out: U8 | None) -> U8:
        height, width = image.shape[:2]
        if (width, height) == size:
            return image
        if size[0] > width or size[1] > height:
            resized = cv2.resize(image, size, dst=out, interpolation=cv2.INTER_LINEAR)
            return np.asarray(resized, dtype=np.uint8)
        # Averaging whole pixels is OpenCV's fast case; what is left to do is then small.
        by_u, by_v = self._whole(width, height)
        step = (width // by_u, height // by_v)
        if step != size and not (width % by_u or height % by_v):
            image = _averaged(image, step)
        # Less than halving needs no averaging, and costs a fifth without.
        halves = image.shape[1] >= 2 * size[0] or image.shape[0] >= 2 * size[1]
        way = cv2.INTER_AREA if halves else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(image, size, dst=out, interpolation=way), np.uint8)

    def _rectified(self, image: U8, model: CameraModel, out: U8 | None) -> U8:
        height, width = image.shape[:2]
        by_u, by_v = self._whole(width, height)
        size = (width // by_u, height // by_v)
        maps = self._maps
        if maps is None or maps.model is not model or maps.size != size:
            maps = self._maps = self._make_maps(model, size)
        if out is None:
            channels = image.shape[2:] if image.shape[2] > 1 else ()
            out = np.empty((self._height, self._width, *channels), np.uint8)
        # Sampling a large image at few places would alias. What divides is averaged by bands, too.
        by_bands = not (width % by_u or height % by_v)
        whole = None if by_bands else _averaged(image, size)
        for rows, first, last, table, fraction in maps.bands:
            if whole is None:
                part = _averaged(image[first * by_v : last * by_v], (size[0], last - first))
            else:
                part = whole[first:last]
            cv2.remap(part, table, fraction, cv2.INTER_LINEAR, dst=out[rows])
        return out

    def _make_maps(self, model: CameraModel, size: tuple[int, int]) -> _Maps:
        k = scaled_k(model.k, size[0] / model.width, size[1] / model.height)
        tables = _tables(model, k, self.network_k(model), (self._width, self._height))
        return _Maps(model, size, _banded(*tables, size[1]))


def _averaged(image: U8, size: tuple[int, int]) -> U8:
    """The image at a smaller (width, height); itself where that is its own."""
    if image.shape[1::-1] == size:
        return image
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _check_size(width: int, height: int, model: CameraModel) -> None:
    if (width, height) != (model.width, model.height):
        raise ImageError(
            Reason.SIZE_MISMATCH,
            f"image of {width} x {height}, CameraInfo of {model.width} x {model.height}",
        )
