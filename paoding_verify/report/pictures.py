"""A witness as a picture, where the input of the network looks like one."""

from __future__ import annotations

import base64
import math
import struct
import zlib

import numpy as np
import numpy.typing as npt

__all__ = ["as_pixels", "png"]

_MIN_SIDE, _MAX_SIDE = 6, 512


def as_pixels(values: tuple[float, ...], input_shape: tuple[int, ...]) -> npt.NDArray[np.uint8] | None:
    """(H, W) or (H, W, 3) bytes, or None where the input is no picture.

    Pictures are (H, W), (1, H, W), (3, H, W) and flat inputs whose length is a square. Values in [0, 1] keep their
    brightness; others are stretched over their own range.
    """
    grid = _grid(input_shape)
    if grid is None or math.prod(grid) != len(values):
        return None
    array = np.asarray(values, dtype=np.float64).reshape(grid)
    low, high = float(array.min()), float(array.max())
    if not 0 <= low <= high <= 1:
        array = (array - low) / (high - low) if high > low else np.zeros_like(array)
    pixels = np.rint(array * 255).astype(np.uint8)
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


def png(pixels: npt.NDArray[np.uint8]) -> str:
    """The picture as a data URI: PNG, 8 bits, grey for (H, W) and RGB for (H, W, 3). Source: RFC 2083."""
    height, width = pixels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if pixels.ndim == 2 else 2, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    return "data:image/png;base64," + base64.b64encode(data).decode()
