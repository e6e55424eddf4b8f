"""Reading samples: values, shapes, and files that mean harm."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from paoding_verify.data import DataLimits, Dataset, draw_samples, read_dataset
from paoding_verify.errors import DataError


def npz(path: Path, **arrays: np.ndarray) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def raw_npy(header: str, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    text = header.encode("latin1") + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + data


def archive(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def test_floats_stay_as_they_are(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(4, 2, 3)).astype(np.float32)
    dataset = read_dataset(npz(tmp_path / "d.npz", x=x, y=np.arange(4)))
    np.testing.assert_array_equal(dataset.x, x)
    assert dataset.x.dtype == np.float32
    np.testing.assert_array_equal(dataset.y, np.arange(4))
    assert dataset.source == "d.npz"
    assert dataset.rows == (0, 1, 2, 3)


def test_pixels_are_divided_by_255_in_float32(tmp_path: Path) -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    dataset = read_dataset(npz(tmp_path / "d.npz", x=pixels))
    assert dataset.y is None
    expected = [np.float32(p) / np.float32(255) for p in range(256)]
    np.testing.assert_array_equal(dataset.x.ravel(), np.array(expected, dtype=np.float32))


def test_bare_npy_and_prefixed_key(tmp_path: Path) -> None:
    x = np.asfortranarray(np.arange(24, dtype=np.float64).reshape(2, 3, 4))
    np.save(tmp_path / "d.npy", x)
    np.testing.assert_array_equal(read_dataset(tmp_path / "d.npy").x, x)
    np.testing.assert_array_equal(read_dataset(npz(tmp_path / "d.npz", x_nchw=x)).x, x)
    with pytest.raises(DataError, match="expected an array `x`"):
        read_dataset(npz(tmp_path / "two.npz", x_a=x, x_b=x))
    with pytest.raises(DataError, match="found inputs"):
        read_dataset(npz(tmp_path / "none.npz", inputs=x))


def test_other_arrays_do_not_matter(tmp_path: Path) -> None:
    path = npz(tmp_path / "d.npz", x=np.zeros((2, 3)), names=np.array(["a", "b"]))
    assert read_dataset(path).x.shape == (2, 3)


def test_reshape_is_row_major_and_counts_must_agree(tmp_path: Path) -> None:
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    path = npz(tmp_path / "d.npz", x=x)
    np.testing.assert_array_equal(read_dataset(path, input_shape=(12, 1)).x, x.reshape(2, 12, 1))
    np.testing.assert_array_equal(read_dataset(path, input_shape=(1, 3, 4)).x, x[:, None])
    with pytest.raises(DataError, match=r"\(3, 4\) \(12 values\), the network takes \(13,\) \(13 values\)"):
        read_dataset(path, input_shape=(13,))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.array([[1.0, np.nan]])}, "row 0"),
        ({"x": np.array([[1.0], [np.inf]])}, "row 1"),
        ({"x": np.array([[1e39]])}, "beyond float32"),
        ({"x": np.zeros((0, 3))}, "at least one sample"),
        ({"x": np.zeros((3, 0))}, "at least one sample"),
        ({"x": np.zeros(3)}, "at least one sample"),
        ({"x": np.zeros((2, 2), dtype=np.int64)}, "floats in input units"),
        ({"x": np.zeros((2, 2), dtype=bool)}, "floats in input units"),
        ({"x": np.zeros((2, 2), dtype=np.complex64)}, "no real number"),
        ({"x": np.array([["a"]])}, "no real number"),
        ({"x": np.zeros((2, 2)), "y": np.zeros(2)}, "labels y must be integers; got float64"),
        ({"x": np.zeros((2, 2)), "y": np.zeros((2, 1), dtype=int)}, r"integers of shape \(2,\)"),
        ({"x": np.zeros((2, 2)), "y": np.zeros(3, dtype=int)}, r"integers of shape \(2,\)"),
        ({"x": np.zeros((2, 2)), "y": np.array([0, -1])}, "row 1 is negative"),
        ({"x": np.zeros((1, 2)), "y": np.array([2**64 - 1], dtype=np.uint64)}, "exceed 64-bit"),
    ],
)  # fmt: skip
def test_unusable_values_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_dataset(npz(tmp_path / "d.npz", **arrays))


class Bomb:
    """Unpickling it would show."""

    exploded = False

    def __reduce__(self) -> tuple[object, ...]:
        return setattr, (Bomb, "exploded", True)


@pytest.mark.parametrize("key", ["x", "y"])
def test_objects_are_refused_and_never_unpickled(tmp_path: Path, key: str) -> None:
    arrays = {"x": np.zeros((1, 1)), key: np.array([[Bomb()]], dtype=object)}
    np.savez(tmp_path / "d.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=f"key '{key}': it holds Python objects"):
        read_dataset(tmp_path / "d.npz")
    np.save(tmp_path / "d.npy", arrays[key])
    with pytest.raises(DataError, match="Python objects" if key == "y" else "objects"):
        read_dataset(tmp_path / "d.npy")
    assert not Bomb.exploded


def test_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = npz(tmp_path / "bomb.npz", x=np.zeros((50, 1024, 1024), dtype=np.uint8))
    assert path.stat().st_size < 200_000
    tracemalloc.start()
    with pytest.raises(DataError, match="more than 200 times its size"):
        read_dataset(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000
    assert len(read_dataset(path, limits=DataLimits(max_data_ratio=2000))) == 50


def test_size_limits(tmp_path: Path) -> None:
    path = npz(tmp_path / "d.npz", x=np.zeros((100, 100)))
    with pytest.raises(DataError, match="the limit is 1000"):
        read_dataset(path, limits=DataLimits(max_data_bytes=1000))
    np.save(tmp_path / "d.npy", np.zeros((100, 100)))
    with pytest.raises(DataError, match="the limit is 1000"):
        read_dataset(tmp_path / "d.npy", limits=DataLimits(max_data_bytes=1000))


HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2)}"


@pytest.mark.parametrize(
    "content",
    [
        raw_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 4)}", b"abcd"),
        raw_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000, 4)}", b"abcd"),
        raw_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -4)}", b"abcd" * 4),
        raw_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (True, 1)}", b"abcd"),
        raw_npy("{'descr': '<f4', 'fortran_order': False, 'shape': 4}", b"abcd" * 4),
        raw_npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1, 1)}", b"abcd"),
        raw_npy("{'descr': '<f4,<f4', 'fortran_order': False, 'shape': (1, 1)}", b"abcdabcd"),
        raw_npy("{'descr': '|V4', 'fortran_order': False, 'shape': (1, 1)}", b"abcd"),
        raw_npy("(" * 5000), raw_npy("{}"), raw_npy("[]"), raw_npy("__import__('os')"), raw_npy("{'a"),
        raw_npy(" " * 20_000), raw_npy(HEADER, b"abcd" * 4, b"\x03\x00"), raw_npy(HEADER, b"abcd" * 5),
        raw_npy(HEADER, b"abcd" * 3), raw_npy(HEADER)[:20], b"\x93NUMPY", b"", b"PK\x03\x04 no zip", b"hello" * 9,
    ],
)  # fmt: skip
def test_damaged_headers_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "d.npy").write_bytes(content)
    with pytest.raises(DataError, match=r"d\.npy"):
        read_dataset(tmp_path / "d.npy")
    with pytest.raises(DataError, match=r"d\.npz, key 'x'"):
        read_dataset(archive(tmp_path / "d.npz", {"x.npy": content}))


def test_odd_archives_are_refused(tmp_path: Path) -> None:
    good = raw_npy(HEADER, b"abcd" * 4)
    with pytest.raises(DataError, match="unusual method"):
        read_dataset(archive(tmp_path / "lzma.npz", {"x.npy": good}, zipfile.ZIP_LZMA))
    with zipfile.ZipFile(tmp_path / "twice.npz", "w") as file:
        file.writestr("x.npy", good)
        with pytest.warns(UserWarning, match="Duplicate name"):
            file.writestr("x.npy", good)
    with pytest.raises(DataError, match="twice"):
        read_dataset(tmp_path / "twice.npz")
    with pytest.raises(DataError, match="is not a file"):
        read_dataset(tmp_path)


def test_every_flipped_byte_gives_data_or_a_data_error(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=np.arange(12, dtype=np.float32).reshape(3, 4), y=np.arange(3))
    good, path = buffer.getvalue(), tmp_path / "d.npz"
    for position in range(len(good)):
        path.write_bytes(good[:position] + bytes([good[position] ^ 0x41]) + good[position + 1 :])
        try:
            dataset = read_dataset(path)
        except DataError:
            continue
        np.testing.assert_array_equal(dataset.x, np.arange(12).reshape(3, 4))


def test_draw_is_without_repetition_and_keeps_row_numbers() -> None:
    dataset = Dataset(np.arange(20, dtype=np.float32)[:, None], np.arange(20), "d.npz")
    drawn = draw_samples(dataset, 8, seed=3)
    assert len(set(drawn.rows)) == 8
    np.testing.assert_array_equal(drawn.x[:, 0], drawn.rows)
    np.testing.assert_array_equal(drawn.y, drawn.rows)
    assert drawn.rows == draw_samples(dataset, 8, seed=3).rows
    assert {draw_samples(dataset, 8, seed).rows for seed in range(5)} != {drawn.rows}
    again = draw_samples(drawn, 4, seed=0)
    np.testing.assert_array_equal(again.x[:, 0], again.rows)
    for count in (0, 21):
        with pytest.raises(DataError, match=f"cannot draw {count}"):
            draw_samples(dataset, count, seed=0)


def test_dataset_checks_itself() -> None:
    with pytest.raises(DataError, match="float32"):
        Dataset(np.zeros((2, 2)))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="1 row numbers"):
        Dataset(np.zeros((2, 2), dtype=np.float32), rows=(4,))


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("mnist_test.npz", (10000, 28, 28)),
        ("mnist_train10k.npz", (10000, 28, 28)),
        ("fashion_test_first4443.npz", (4443, 28, 28)),
        ("cifar10_first100.npz", (100, 3, 32, 32)),
    ],
)
def test_real_files(data_dir: Path, name: str, shape: tuple[int, ...]) -> None:
    dataset = read_dataset(data_dir / "data" / name)
    assert dataset.x.shape == shape
    assert dataset.y is not None
    assert set(dataset.y) <= set(range(10))
    assert dataset.x.min() == 0.0
    assert dataset.x.max() == 1.0
