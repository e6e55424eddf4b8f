"""A witness as a picture, where the input of the network looks like one."""

from __future__ import annotations

import base64
import math
import struct
import zlib

import numpy as np
import numpy.typing as npt

__all__ = ["as_pixels", "difference_pixels", "png"]

_MIN_SIDE, _MAX_SIDE = 6, 256
_BLOCK = 0xFFFF
"""Most bytes of a stored block."""


Pixels = npt.NDArray[np.uint8]


def as_pixels(
    values: npt.ArrayLike, input_shape: tuple[int, ...], limits: tuple[float, float] = (0.0, 1.0)
) -> Pixels | None:
    """(H, W) or (H, W, 3) bytes from black at limits[0] to white at limits[1], or None where the input is no picture.

    Pictures are (H, W), (1, H, W), (3, H, W) and flat inputs whose length is a square. Values beyond limits are cut.
    """
    low, high = limits
    array = np.asarray(values, dtype=np.float64)
    return _laid_out((array - low) / (high - low) if high > low else np.zeros_like(array), input_shape)


def difference_pixels(change: npt.ArrayLike, input_shape: tuple[int, ...]) -> Pixels | None:
    """Like `as_pixels`, grey where nothing changed, black and white at the largest change down and up."""
    array = np.asarray(change, dtype=np.float64)
    largest = float(np.abs(array).max(initial=0.0))
    return _laid_out(0.5 + array / (2 * largest) if largest > 0 else np.full_like(array, 0.5), input_shape)


def _laid_out(brightness: npt.NDArray[np.float64], input_shape: tuple[int, ...]) -> Pixels | None:
    """Brightness in [0, 1] as bytes in the layout of a picture."""
    grid = _grid(input_shape)
    if grid is None or math.prod(grid) != brightness.size:
        return None
    pixels = np.rint(np.clip(brightness, 0, 1) * 255).astype(np.uint8).reshape(grid)
    return pixels[0] if grid[0] == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))


def _grid(shape: tuple[int, ...]) -> tuple[int, int, int] | None:
    sizes = tuple(size for size in shape if size != 1)
    if len(sizes) == 1 and math.isqrt(sizes[0]) ** 2 == sizes[0]:
        sides = (1, math.isqrt(sizes[0]), math.isqrt(sizes[0]))
    elif len(sizes) == 2:
        sides = (1, *sizes)
    elif len(sizes) == 3 and len(shape) == 3 and sizes[0] == 3:
        sides = sizes
    else:
        return None
    return sides if all(_MIN_SIDE <= side <= _MAX_SIDE for side in sides[1:]) else None


def png(pixels: Pixels) -> str:
    """The picture as a data URI: PNG, 8 bits, grey for (H, W) and RGB for (H, W, 3). Source: RFC 2083.

    The bytes are stored, not compressed: compression libraries differ in what they write, and equal results have to
    give equal pages everywhere.
    """
    height, width = pixels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if pixels.ndim == 2 else 2, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    chunks = ((b"IHDR", header), (b"IDAT", _stored(rows)), (b"IEND", b""))
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    return "data:image/png;base64," + base64.b64encode(data).decode()


def _stored(data: bytes) -> bytes:
    """A zlib stream of stored blocks. Source: RFC 1950 and RFC 1951, 3.2.4."""
    starts = range(0, max(len(data), 1), _BLOCK)
    blocks = [data[start : start + _BLOCK] for start in starts]
    framed = [
        struct.pack("<BHH", k == len(blocks) - 1, len(block), 0xFFFF ^ len(block)) + block
        for k, block in enumerate(blocks)
    ]
    return b"\x78\x01" + b"".join(framed) + struct.pack(">I", zlib.adler32(data))
