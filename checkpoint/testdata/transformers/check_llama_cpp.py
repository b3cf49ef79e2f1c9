#!/usr/bin/env python3
"""Opens with llama.cpp the GGUF files that checkpoint writes of every family, and compares logits with transformers'.

    pip install llama-cpp-python safetensors numpy
    go test -run TestWriteFamilies ./checkpoint -folders /tmp/out
    python checkpoint/testdata/transformers/check_llama_cpp.py /tmp/out

Logits must equal those of expected.safetensors within 1e-5 of the largest, within 2e-3 where the family has GELU, which
llama.cpp takes from a table of half-precision numbers (ggml_gelu_f16), or where a test chose another context: phi3 of the
fixtures has long factors from 97 tokens on, and llama.cpp rounds every context up to 256. That one is only opened.
"""

import pathlib
import sys

import llama_cpp as llama
import numpy as np
from safetensors.numpy import load_file

FIXTURES = pathlib.Path(__file__).resolve().parents[3] / "model/testdata/families"
GELU = ("gpt2", "gpt_neox", "gpt_neox-serial", "gemma", "gemma2", "gemma3")


def logits(model, tokens, vocab):
    """Returns the logits (n, vocab) after each of n tokens."""
    params = llama.llama_context_default_params()
    params.n_ctx, params.n_threads = 64, 1
    params.type_k = params.type_v = 0  # F32
    params.flash_attn_type = 0
    context = llama.llama_init_from_model(model, params)
    n = len(tokens)
    batch = llama.llama_batch_init(n, 0, 1)
    batch.n_tokens = n
    for i, token in enumerate(tokens):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = int(token), i, 1, 1
        batch.seq_id[i][0] = 0
    if llama.llama_decode(context, batch) != 0:
        raise SystemExit("llama_decode failed")
    rows = [np.ctypeslib.as_array(llama.llama_get_logits_ith(context, i), shape=(vocab,)).copy() for i in range(n)]
    llama.llama_free(context)
    return np.stack(rows)


def main():
    failed = 0
    for path in sorted((pathlib.Path(sys.argv[1]) / "families").glob("*/model.gguf")):
        case = path.parent.name
        expected = load_file(FIXTURES / case / "expected.safetensors")
        params = llama.llama_model_default_params()
        params.n_gpu_layers = 0
        model = llama.llama_model_load_from_file(str(path).encode(), params)
        if not model:
            print(f"{case:16} NOT OPENED")
            failed += 1
            continue
        worst = 0.0
        for i in range(2):
            want = expected[f"logits.{i}"]
            got = logits(model, expected[f"tokens.{i}"], want.shape[1])
            worst = max(worst, float(np.abs(got - want).max() / np.abs(want).max()))
        bad = case != "phi3" and not worst <= (2e-3 if case in GELU else 1e-5)
        failed += bad
        print(f"{case:16} {worst:.1e}", "FAILED" if bad else "")
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
