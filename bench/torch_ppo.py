"""One PPO iteration of a GPT-2-shaped model in PyTorch on the CPU, in sampled tokens a second.

    python3 bench/torch_ppo.py --layers 4 --width 128 --heads 4 --context 128 --vocab 1024 --batch 128 --prompt 16 --new 32

Sample with a key-value cache; log-probabilities under the reference, values
and scores; generalised advantages; 2 epochs of 2 minibatches, each an update
of the value model and of the policy (clipped losses, AdamW). Every response
has the full length, so that nothing is padded. Prints one line of JSON.
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
        self.attn, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc, self.out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x, cache, at):
        b, t, c = x.shape
        q, k, v = self.attn(self.ln_1(x)).view(b, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        if cache is not None:
            cache[0][:, :, at : at + t], cache[1][:, :, at : at + t] = k, v
            k, v = cache[0][:, :, : at + t], cache[1][:, :, : at + t]
        y = F.scaled_dot_product_attention(q, k, v, is_causal=t > 1)  # several at once only from the beginning on
        x = x + self.proj(y.transpose(1, 2).reshape(b, t, c))
        return x + self.out(F.gelu(self.fc(self.ln_2(x)), approximate="tanh"))


class GPT(nn.Module):
    def __init__(self, o, scalar):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(o.vocab, o.width), nn.Embedding(o.context, o.width)
        self.blocks = nn.ModuleList(Block(o.width, o.heads) for _ in range(o.layers))
        self.ln_f = nn.LayerNorm(o.width)
        self.score = nn.Linear(o.width, 1) if scalar else None
        for p in self.parameters():
            if p.dim() == 2:
                nn.init.normal_(p, std=0.02)

    def hidden(self, ids, caches=None, at=0):
        x = self.wte(ids) + self.wpe.weight[at : at + ids.shape[1]]
        for i, block in enumerate(self.blocks):
            x = block(x, caches and caches[i], at)
        return self.ln_f(x)


def sample(o, policy, prompts):
    d, length = o.width // o.heads, o.prompt + o.new
    caches = [(torch.zeros(o.batch, o.heads, length, d), torch.zeros(o.batch, o.heads, length, d)) for _ in policy.blocks]
    ids, at, tokens, logps = prompts, 0, [prompts], []
    for _ in range(o.new):
        z = (policy.hidden(ids, caches, at)[:, -1] @ policy.wte.weight.T).log_softmax(-1)
        at += ids.shape[1]
        ids = torch.multinomial(z.exp(), 1)
        tokens.append(ids)
        logps.append(z.gather(1, ids))
    return torch.cat(tokens, 1), torch.cat(logps, 1)


def logprobs(o, model, tokens):
    h = model.hidden(tokens[:, :-1])[:, o.prompt - 1 :]
    return (h @ model.wte.weight.T).log_softmax(-1).gather(2, tokens[:, o.prompt :, None]).squeeze(2)


def values_of(o, model, tokens):
    return model.score(model.hidden(tokens[:, :-1])[:, o.prompt - 1 :]).squeeze(2)


def advantages(rewards, values, lam=0.95):
    a, last = torch.zeros_like(rewards), torch.zeros(len(rewards))
    for t in reversed(range(rewards.shape[1])):
        after = values[:, t + 1] if t + 1 < rewards.shape[1] else 0
        last = rewards[:, t] + after - values[:, t] + lam * last
        a[:, t] = last
    return a


def update(optimizer, loss, parameters):
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()


def iteration(o, policy, value, reference, reward, optimizers):
    with torch.no_grad():
        tokens, old = sample(o, policy, torch.randint(1, o.vocab, (o.batch, o.prompt)))
        ref, v = logprobs(o, reference, tokens), values_of(o, value, tokens)
        rewards = -0.05 * (old - ref)
        rewards[:, -1] += reward.score(reward.hidden(tokens)[:, -1]).squeeze(1)
        a = advantages(rewards, v)
        returns, a = a + v, (a - a.mean()) / (a.std() + 1e-8)
    for _ in range(2):
        for i in torch.randperm(o.batch).chunk(2):
            now = values_of(o, value, tokens[i])
            near = v[i] + (now - v[i]).clamp(-0.2, 0.2)
            update(optimizers[1], 0.5 * torch.max((now - returns[i]) ** 2, (near - returns[i]) ** 2).mean(), value.parameters())
            ratio = (logprobs(o, policy, tokens[i]) - old[i]).exp()
            update(optimizers[0], torch.max(-a[i] * ratio, -a[i] * ratio.clamp(0.8, 1.2)).mean(), policy.parameters())


def peak_resident():
    """The most bytes resident at once. getrusage's maximum begins with that of the process that started this one."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))


def main():
    a = argparse.ArgumentParser(description=__doc__)
    for name, value in dict(layers=4, width=128, heads=4, context=128, vocab=1024, batch=128, prompt=16, new=32, runs=5, threads=2).items():
        a.add_argument("--" + name, type=int, default=value)
    o = a.parse_args()
    torch.set_num_threads(o.threads)
    torch.manual_seed(0)
    policy, reference, value, reward = GPT(o, False), GPT(o, False), GPT(o, True), GPT(o, True)
    optimizers = [torch.optim.AdamW(m.parameters(), lr=1e-5, fused=True) for m in (policy, value)]
    times, cpu = [], []
    for _ in range(o.runs + 1):
        start, used = time.perf_counter(), time.process_time()
        iteration(o, policy, value, reference, reward, optimizers)
        times.append(time.perf_counter() - start)
        cpu.append(time.process_time() - used)
    tokens = o.batch * o.new
    print(json.dumps({"torch": torch.__version__, "tokens_per_second": tokens / statistics.median(times[1:]),
                      "tokens_per_cpu_second": tokens / statistics.median(cpu[1:]), "peak_resident_bytes": peak_resident()}))


main()
