"""Sampled tokens/s of a GPT-2-shaped model in PyTorch on the CPU, with a key-value cache.

    python3 bench/torch_generate.py --layers 4 --width 128 --heads 4 --context 128 --vocab 1024 --prompt 32

Plain tensors without modules, preallocated caches, every sequence of the same
length: what PyTorch does best. Prints one line of JSON; the best run counts.
"""
import argparse
import json
import math
import time

import torch
from torch.nn import functional as F


def weights(o):
    def linear(i, j):
        return torch.randn(i, j) * 0.02, torch.zeros(j)

    c = o.width
    ln = (torch.ones(c), torch.zeros(c))
    blocks = [dict(ln_1=ln, attn=linear(c, 3 * c), proj=linear(c, c), ln_2=ln, fc=linear(c, 4 * c), out=linear(4 * c, c))
              for _ in range(o.layers)]
    return torch.randn(o.vocab, c) * 0.02, torch.randn(o.context, c) * 0.02, blocks, ln


def step(o, w, ids, at, caches):
    wte, wpe, blocks, ln_f = w
    (b, t), c, d = ids.shape, o.width, o.width // o.heads
    x = (wte[ids] + wpe[at : at + t]).reshape(b * t, c)
    for block, (keys, values) in zip(blocks, caches):
        y = torch.addmm(block["attn"][1], F.layer_norm(x, (c,), *block["ln_1"]), block["attn"][0])
        q, k, v = y.view(b, t, 3, o.heads, d).permute(2, 0, 3, 1, 4).unbind(0)
        keys[:, :, at : at + t], values[:, :, at : at + t] = k, v
        y = F.scaled_dot_product_attention(q, keys[:, :, : at + t], values[:, :, : at + t], is_causal=t > 1)
        y = y.transpose(1, 2).reshape(b * t, c)
        x = x + torch.addmm(block["proj"][1], y, block["proj"][0])
        y = F.gelu(torch.addmm(block["fc"][1], F.layer_norm(x, (c,), *block["ln_2"]), block["fc"][0]), approximate="tanh")
        x = x + torch.addmm(block["out"][1], y, block["out"][0])
    return F.layer_norm(x.view(b, t, c)[:, -1], (c,), *ln_f) @ wte.T


def peak_resident():
    """The most bytes resident at once. getrusage's maximum begins with that of the process that started this one."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))


def main():
    a = argparse.ArgumentParser(description=__doc__)
    for name, value in dict(layers=6, width=384, heads=6, context=256, vocab=8192, batch=64, prompt=64, new=64, runs=3, threads=2).items():
        a.add_argument("--" + name, type=int, default=value)
    o = a.parse_args()
    torch.set_num_threads(o.threads)
    torch.manual_seed(0)
    w, best, least, length, d = weights(o), math.inf, math.inf, o.prompt + o.new, o.width // o.heads
    with torch.no_grad():
        for _ in range(o.runs):
            start, used = time.perf_counter(), time.process_time()
            caches = [(torch.zeros(o.batch, o.heads, length, d), torch.zeros(o.batch, o.heads, length, d)) for _ in range(o.layers)]
            ids, at = torch.randint(0, o.vocab, (o.batch, o.prompt)), 0
            for _ in range(o.new):
                logits = step(o, w, ids, at, caches)
                at += ids.shape[1]
                ids = torch.multinomial(logits.log_softmax(-1).exp(), 1)
            best, least = min(best, time.perf_counter() - start), min(least, time.process_time() - used)
    print(json.dumps({"torch": torch.__version__, "tokens_per_second": o.batch * o.new / best,
                      "tokens_per_cpu_second": o.batch * o.new / least, "peak_resident_bytes": peak_resident()}))


main()
