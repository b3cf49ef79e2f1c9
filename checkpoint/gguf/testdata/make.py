"""GGUF files as the gguf package writes them, and what their tensors mean.

    python3 -m venv venv && venv/bin/pip install gguf numpy
    venv/bin/python checkpoint/gguf/testdata/make.py

Writes beside itself:

    types.gguf    a tensor of random bytes of each type, and a key of each type
    types.f32     what gguf.quants.dequantize makes of the tensors, float32, end to end
    written.gguf  random floats as F32, F16, BF16 and Q8_0, as gguf.quants.quantize rounds them
    big.gguf      a big-endian file

Where llama-cpp-python is installed, ggml's own C functions have to agree in every
bit. They are the definition: where gguf differs, this script stops.
"""
import ctypes
import importlib.util
import pathlib

import numpy as np
from gguf import GGMLQuantizationType as Type, GGUFEndian, GGUFValueType as Value, GGUFWriter, quants

here = pathlib.Path(__file__).parent
rng = np.random.default_rng(1)

# Where the binary16 scales of a block are, and the sizes of the block in bytes and elements.
BLOCKS = {
    Type.Q4_0: ((0,), 18, 32), Type.Q4_1: ((0, 2), 20, 32), Type.Q5_0: ((0,), 22, 32), Type.Q5_1: ((0, 2), 24, 32),
    Type.Q8_0: ((0,), 34, 32), Type.Q2_K: ((80, 82), 84, 256), Type.Q3_K: ((108,), 110, 256),
    Type.Q4_K: ((0, 2), 144, 256), Type.Q5_K: ((0, 2), 176, 256), Type.Q6_K: ((208,), 210, 256),
}


def library():
    """ggml's C functions, or None."""
    spec = importlib.util.find_spec("llama_cpp")
    return spec and ctypes.CDLL(str(pathlib.Path(spec.origin).parent / "lib" / "libggml-base.so"))


def pointer(a):
    return a.ctypes.data_as(ctypes.c_void_p)


ggml = library()


def row(name, source, target):
    """Calls a C function of the form (source, target, elements) on a row of floats, or to one."""
    n = source.size if source.dtype == np.float32 else target.size
    getattr(ggml, name)(pointer(source), pointer(target), ctypes.c_int64(n))
    return target


def finite_halves(n):
    """Random binary16 of all exponents but that of infinities and NaN."""
    bits = rng.integers(0, 1 << 16, n, dtype=np.uint16)
    return np.where(bits & 0x7C00 == 0x7C00, bits ^ 0x4000, bits)


def random_blocks(kind, rows, per_row):
    scales, size, _ = BLOCKS[kind]
    b = rng.integers(0, 256, (rows * per_row, size), dtype=np.uint8)
    for at in scales:
        b[:, at : at + 2] = finite_halves(len(b))[:, None].view(np.uint8)
    return b.reshape(rows, per_row * size)


def write_types():
    w = GGUFWriter(here / "types.gguf", "test")
    numbers = {Value.UINT8: 200, Value.INT8: -100, Value.UINT16: 60000, Value.INT16: -30000, Value.UINT32: 4000000000,
               Value.INT32: -2000000000, Value.UINT64: 18000000000000000000, Value.INT64: -9000000000000000000,
               Value.FLOAT32: 0.5, Value.FLOAT64: 0.1, Value.BOOL: True, Value.STRING: "größe"}
    for kind, v in numbers.items():
        w.add_key_value("test." + kind.name.lower(), v, kind)
        zero = "" if kind == Value.STRING else False if kind == Value.BOOL else 0
        w.add_key_value("test." + kind.name.lower() + "s", [v, zero, v], Value.ARRAY, sub_type=kind)
    tensors = {"F32": (Type.F32, rng.standard_normal((3, 2, 5)).astype(np.float32)),
               "F16": (Type.F16, finite_halves(64).view(np.float16).reshape(2, 32)),
               "BF16": (Type.BF16, rng.standard_normal((4, 16)).astype(np.float32).view(np.uint16)[:, 1::2].copy())}
    for kind, (_, _, elements) in BLOCKS.items():
        tensors[kind.name] = (kind, random_blocks(kind, *((2, 1) if elements == 256 else (3, 2))))
    expected = []
    for name, (kind, raw) in tensors.items():
        raw = raw if kind in (Type.F32, Type.F16) else raw.view(np.uint8)
        w.add_tensor(name, raw, raw_dtype=kind)
        y = np.ascontiguousarray(quants.dequantize(raw, kind).astype(np.float32))
        expected.append(y.tobytes())
        assert np.isfinite(y).all(), name
        if ggml and kind != Type.F32:
            c = {Type.F16: "ggml_fp16_to_fp32_row", Type.BF16: "ggml_bf16_to_fp32_row"}.get(kind)
            c = c or "dequantize_row_" + kind.name.replace("Q", "q")
            assert row(c, raw, np.empty(y.size, np.float32)).tobytes() == y.tobytes(), name
    finish(w)
    (here / "types.f32").write_bytes(b"".join(expected))


def write_floats():
    x = rng.standard_normal((12, 64)).astype(np.float32)
    x *= np.float32(10) ** rng.integers(-7, 4, (12, 1)).astype(np.float32)
    x[0, :32] = 0                                          # a block of zeros
    x[1, :32] = np.float32(127)                            # d = 1: every tie of the rounding
    x[1, 1:32] = np.arange(-15, 16) + np.float32(0.5)
    x[2, 0:4] = 65504, 65519, 2**-25, 2**-24 * 1.5         # binary16: the largest, what rounds to it, ties
    x[2, 4:8] = 2**-14, 2**-14 - 2**-26, 1 + 2**-11, 1 + 3 * 2**-11
    x[2, 8:10] = -0.0, -(2.0**-25)
    x[3, 32:] *= np.float32(1e-36)                         # d is 0 as binary16
    encoded = {"F32": (Type.F32, x), "F16": (Type.F16, quants.quantize(x, Type.F16)),
               "BF16": (Type.BF16, quants.quantize(x, Type.BF16)), "Q8_0": (Type.Q8_0, quants.quantize(x, Type.Q8_0))}
    w = GGUFWriter(here / "written.gguf", "test")
    w.add_uint32("test.number", 7)
    w.add_array("test.words", ["one", "zwei", "три"])
    for name, (kind, raw) in encoded.items():
        w.add_tensor(name, raw, raw_dtype=kind)
        if ggml and kind != Type.F32:
            c = {Type.F16: "ggml_fp32_to_fp16_row", Type.BF16: "ggml_fp32_to_bf16_row_ref"}.get(kind)
            c = c or "quantize_row_q8_0_ref"
            assert row(c, x, np.empty_like(raw)).tobytes() == raw.tobytes(), name
    finish(w)


def finish(w):
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


write_types()
write_floats()
big = GGUFWriter(here / "big.gguf", "test", endianess=GGUFEndian.BIG)
big.add_tensor("x", np.ones(4, np.float32))
finish(big)
print("with ggml's C functions" if ggml else "without ggml's C functions")
