"""Measures llama.cpp on a GGUF file: scoring of 8 x 256 tokens with all logits, and greedy generation of 64 tokens after
a prompt of 32, one and sixteen sequences at once, in tokens a second.

    python time_llama_cpp.py MODEL.gguf [threads]
"""
import sys, time
import numpy as np
import llama_cpp as L

path, threads = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 2
L.llama_backend_init()
model = L.llama_model_load_from_file(path.encode(), L.llama_model_default_params())
vocab = L.llama_vocab_n_tokens(L.llama_model_get_vocab(model))

def context(n_ctx, n_batch, seqs):
    p = L.llama_context_default_params()
    p.n_ctx, p.n_batch, p.n_ubatch, p.n_seq_max, p.n_threads, p.n_threads_batch = n_ctx, n_batch, 512, seqs, threads, threads
    return L.llama_init_from_model(model, p)

def fill(batch, tokens, pos, seq, want):
    i = batch.n_tokens
    batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = tokens, pos, 1, want
    batch.seq_id[i][0] = seq
    batch.n_tokens = i + 1

def best(f, repeats=3):
    f()
    times = []
    for _ in range(repeats):
        t = time.perf_counter(); f(); times.append(time.perf_counter() - t)
    return min(times)

rng = np.random.default_rng(1)
c = context(2560, 2048, 8)
b = L.llama_batch_init(2048, 0, 8)
def score():
    L.llama_memory_clear(L.llama_get_memory(c), True)
    b.n_tokens = 0
    for s in range(8):
        for t in range(256):
            fill(b, int(ids[s, t]), t, s, 1)
    assert L.llama_decode(c, b) == 0
ids = rng.integers(3, vocab, (8, 256))
print(f"score 8 x 256: {2048 / best(score):.0f} tokens/s", flush=True)
L.llama_free(c)
for n in (1, 16):
    c = context(n * 128, 2048, n)
    ids = rng.integers(3, vocab, (n, 32))
    def generate():
        L.llama_memory_clear(L.llama_get_memory(c), True)
        b.n_tokens = 0
        for s in range(n):
            for t in range(32):
                fill(b, int(ids[s, t]), t, s, int(t == 31))
        assert L.llama_decode(c, b) == 0
        at = [32 * s + 31 for s in range(n)]
        for step in range(64):
            new = [int(np.ctypeslib.as_array(L.llama_get_logits_ith(c, i), (vocab,)).argmax()) for i in at]
            if step == 63: break
            b.n_tokens = 0
            for s in range(n): fill(b, new[s], 32 + step, s, 1)
            assert L.llama_decode(c, b) == 0
            at = list(range(n))
    print(f"generate {n} x 64: {n * 64 / best(generate):.0f} tokens/s", flush=True)
    L.llama_free(c)
