"""Training tokens/s of a GPT-2-shaped model in PyTorch on the CPU.

    python3 bench/torch_train.py --layers 4 --width 128 --heads 4 --context 128 --vocab 1024 --batch 32

A step is forward, cross-entropy over every position, backward and AdamW, as
in the Go benchmark. Prints one line of JSON; the median of the steps after
the first counts.
"""
import argparse
import json
import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.c_attn, self.c_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.c_fc, self.c_out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        b, t, c = x.shape
        qkv = self.c_attn(self.ln_1(x)).view(b, t, 3, self.heads, c // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.c_proj(y.transpose(1, 2).reshape(b, t, c))
        return x + self.c_out(F.gelu(self.c_fc(self.ln_2(x)), approximate="tanh"))


class GPT(nn.Module):
    def __init__(self, layers, width, heads, context, vocab):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocab, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.ln_f = nn.LayerNorm(width)

    def forward(self, ids):
        x = self.wte(ids) + self.wpe.weight[: ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.ln_f(x) @ self.wte.weight.T


def peak_resident():
    """The most bytes resident at once. getrusage's maximum begins with that of the process that started this one."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))


def main():
    a = argparse.ArgumentParser(description=__doc__)
    for name, value in dict(layers=6, width=384, heads=6, context=256, vocab=8192, batch=8, steps=6, threads=2).items():
        a.add_argument("--" + name, type=int, default=value)
    o = a.parse_args()
    torch.set_num_threads(o.threads)
    torch.manual_seed(0)
    model = GPT(o.layers, o.width, o.heads, o.context, o.vocab)
    for p in model.parameters():
        if p.dim() == 2:
            nn.init.normal_(p, std=0.02)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.1, fused=True)
    ids = torch.randint(0, o.vocab, (o.batch, o.context + 1))
    times, cpu = [], []
    for _ in range(o.steps):
        start, used = time.perf_counter(), time.process_time()
        loss = F.cross_entropy(model(ids[:, :-1]).reshape(-1, o.vocab), ids[:, 1:].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        times.append(time.perf_counter() - start)
        cpu.append(time.process_time() - used)
    tokens = o.batch * o.context
    print(json.dumps({"torch": torch.__version__, "tokens_per_second": tokens / statistics.median(times[1:]),
                      "tokens_per_cpu_second": tokens / statistics.median(cpu[1:]), "peak_resident_bytes": peak_resident(),
                      "parameters": sum(p.numel() for p in model.parameters()), "loss": loss.item()}))


main()
