"""Compares what Trimtab makes of a model's GGUF file with gguf-py and llama.cpp.

    go test ./checkpoint/gguf -run TestRealFile -v -gguf model.gguf -out /tmp/out
    python3 checkpoint/gguf/testdata/compare.py model.gguf /tmp/out

Every tensor has to decode to the same bits, F16.gguf and Q8_0.gguf have to hold
the bytes that gguf-py makes of those floats and the metadata of the model, and
llama.cpp has to load both and continue a prompt. Needs gguf and llama-cpp-python;
the Go tests do not.
"""
import hashlib
import pathlib
import sys
import time

import numpy as np
from gguf import GGMLQuantizationType as Type, GGUFReader, quants
from llama_cpp import Llama

PROMPT = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
model, folder = sys.argv[1], pathlib.Path(sys.argv[2])

start, floats, lines = time.perf_counter(), {}, []
original = GGUFReader(model)
for t in original.tensors:
    floats[t.name] = quants.dequantize(t.data, t.tensor_type)
print(f"gguf-py decodes {len(floats)} tensors in {time.perf_counter() - start:.2f} s")
for t in original.tensors:
    shape = " ".join(str(d) for d in reversed(t.shape))
    digest = hashlib.sha256(np.ascontiguousarray(floats[t.name]).tobytes()).hexdigest()
    lines.append(f"{t.name} {t.tensor_type.name} [{shape}] {digest}\n")
assert (folder / "digests.txt").read_text() == "".join(lines), "decoded tensors differ"
print("every tensor is the same")

for kind in (Type.F16, Type.Q8_0):
    written = GGUFReader(folder / f"{kind.name}.gguf")
    assert list(written.fields) == list(original.fields), "the keys differ"
    for key, field in original.fields.items():
        if key != "general.file_type" and not key.startswith("GGUF."):
            other = written.fields[key]
            assert field.types == other.types and field.contents() == other.contents(), key
    assert [t.name for t in written.tensors] == list(floats)
    for t in written.tensors:
        x = floats[t.name]
        want = Type.F32 if x.ndim == 1 else kind
        assert t.tensor_type == want and t.data.tobytes() == quants.quantize(x, want).tobytes(), t.name
    print(f"{kind.name}.gguf is what gguf-py writes")

for path in (model, folder / "F16.gguf", folder / "Q8_0.gguf"):
    llama = Llama(str(path), n_ctx=256, n_threads=2, verbose=False)
    answer = llama(PROMPT, max_tokens=24, temperature=0, top_k=1)["choices"][0]["text"]
    print(pathlib.Path(path).name, repr(answer))
    assert answer.strip(), path
