"""sensor_msgs/Image and CompressedImage: views on the pixels or on the compressed bytes."""

from __future__ import annotations

from mm_fusion.samples import CameraFrame, Reason
from mm_fusion.wire.cdr import U8, CdrReader, Header, WireError, malformed

CHANNELS = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1}
CODECS = {"jpeg": "jpeg", "jpg": "jpeg", "png": "png"}

JPEG_MAGIC = b"\xff\xd8\xff"
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
# PNG specification: signature 8, chunk length 4, "IHDR" 4, width 4, height 4, then the bit depth.
PNG_BIT_DEPTH_AT = 24


def read_image(reader: CdrReader, sensor: str, arrival_ns: int = 0) -> CameraFrame:
    """A sensor_msgs/msg/Image."""
    header = reader.header()
    height, width = reader.unpack("II", 4)
    encoding = reader.string()
    reader.unpack("B", 1)  # is_bigendian says nothing about 8-bit pixels
    step, data = reader.uint32(), reader.octets()
    return image(sensor, header, height, width, encoding, step, data, arrival_ns)


def image(
    sensor: str,
    header: Header,
    height: int,
    width: int,
    encoding: str,
    step: int,
    data: U8,
    arrival_ns: int = 0,
) -> CameraFrame:
    """A camera frame on the pixels ``data`` uint8 [n]. WireError where sizes contradict."""
    channels = CHANNELS.get(encoding)
    if channels is None:
        known = ", ".join(CHANNELS)
        raise WireError(Reason.UNKNOWN_ENCODING, f"encoding '{encoding}' is not one of {known}")
    if height == 0 or width == 0:
        raise malformed(f"image: height and width must be positive, got {height} x {width}")
    if step < width * channels:
        raise malformed(
            f"image: step must be at least width * channels = {width * channels}, got {step}"
        )
    if len(data) < height * step:
        raise malformed(f"image: data must have height * step = {height * step}, got {len(data)}")
    rows = data[: height * step].reshape(height, step)
    stamp_ns, frame_id = header
    return CameraFrame(sensor, stamp_ns, frame_id, encoding, height, width, step, rows, arrival_ns)


def read_compressed_image(reader: CdrReader, sensor: str, arrival_ns: int = 0) -> CameraFrame:
    """A sensor_msgs/msg/CompressedImage."""
    header = reader.header()
    return compressed_image(sensor, header, reader.string(), reader.octets(), arrival_ns)


def compressed_image(
    sensor: str, header: Header, format_text: str, data: U8, arrival_ns: int = 0
) -> CameraFrame:
    """A camera frame on JPEG or PNG bytes ``data`` uint8 [n].

    The codec is the one that ``format`` names, and the first bytes must agree; where ``format`` is
    empty they alone decide. Only the first bytes are looked at, nothing is decoded here.
    """
    found = _codec_of_bytes(data)
    named = _codec_of_format(format_text)
    if not found or (named and named != found):
        raise WireError(
            Reason.UNDECODABLE_IMAGE,
            f"format '{format_text}' of {len(data)} bytes that start with"
            f" {bytes(data[:8]).hex() or 'nothing'} is no {named or 'JPEG or PNG'}",
        )
    if found == "png":
        if len(data) <= PNG_BIT_DEPTH_AT:
            raise WireError(Reason.UNDECODABLE_IMAGE, f"a PNG of {len(data)} bytes has no header")
        if data[PNG_BIT_DEPTH_AT] > 8:
            depth = int(data[PNG_BIT_DEPTH_AT])
            raise WireError(Reason.UNKNOWN_ENCODING, f"PNG of {depth} bits per sample, not 8")
    return CameraFrame(sensor, header.stamp_ns, header.frame_id, found, 0, 0, 0, data, arrival_ns)


def _codec_of_bytes(data: U8) -> str:
    start = bytes(data[: len(PNG_MAGIC)])
    if start.startswith(JPEG_MAGIC):
        return "jpeg"
    return "png" if start == PNG_MAGIC else ""


def _codec_of_format(text: str) -> str:
    """The codec in ``jpeg``, ``png`` or ``rgb8; jpeg compressed bgr8``; "" for an empty format."""
    if not text.strip():
        return ""
    # image_transport: "<encoding of the source>; <codec> compressed <encoding that was coded>"
    words = text.rpartition(";")[2].split()
    codec = CODECS.get(words[0].lower(), "") if words else ""
    if not codec:
        raise WireError(Reason.UNKNOWN_ENCODING, f"format '{text}' names neither jpeg nor png")
    return codec
