"""Golden numbers of a small GPT-2-shaped model, from PyTorch in float64.

    python3 model/testdata/gen_golden.py > model/testdata/golden.json

Written from GPT-2's definition (pre-LN blocks, Conv1D weights, GELU-tanh, tied
head), apart from the Go code; autograd makes the gradients. Parameters come
from a small integer generator that the Go test repeats, so that the file holds
results only. Needs torch; the Go tests do not.
"""
import json, math, sys
import torch

torch.set_default_dtype(torch.float64)
L, C, H, T, V = 2, 16, 2, 16, 50
LENGTHS = [5, 16, 1, 9]
STATE = [12345]


def draw():
    """x' = 1103515245 x + 12345 mod 2^31, as a float in [-1, 1)."""
    STATE[0] = (1103515245 * STATE[0] + 12345) % 2**31
    return STATE[0] / 2**30 - 1


def array(shape, scale, shift=0.0):
    n = math.prod(shape)
    x = torch.tensor([draw() * scale + shift for _ in range(n)])
    return x.float().double().reshape(shape)  # exactly what float32 holds


def parameters():
    p = {"transformer.wte.weight": array([V, C], 0.3), "transformer.wpe.weight": array([T, C], 0.2)}
    for l in range(L):
        h = f"transformer.h.{l}."
        p[h + "ln_1.weight"] = array([C], 0.2, 1)
        p[h + "ln_1.bias"] = array([C], 0.1)
        p[h + "attn.c_attn.weight"] = array([C, 3 * C], 0.4)
        p[h + "attn.c_attn.bias"] = array([3 * C], 0.1)
        p[h + "attn.c_proj.weight"] = array([C, C], 0.2)
        p[h + "attn.c_proj.bias"] = array([C], 0.1)
        p[h + "ln_2.weight"] = array([C], 0.2, 1)
        p[h + "ln_2.bias"] = array([C], 0.1)
        p[h + "mlp.c_fc.weight"] = array([C, 4 * C], 0.3)
        p[h + "mlp.c_fc.bias"] = array([4 * C], 0.1)
        p[h + "mlp.c_proj.weight"] = array([4 * C, C], 0.2)
        p[h + "mlp.c_proj.bias"] = array([C], 0.1)
    p["transformer.ln_f.weight"] = array([C], 0.2, 1)
    p["transformer.ln_f.bias"] = array([C], 0.1)
    p["score.weight"] = array([1, C], 0.3)
    p["score.bias"] = array([1], 0.3)
    return p


def layer_norm(x, w, b):
    mean = x.mean(-1, keepdim=True)
    var = ((x - mean) ** 2).mean(-1, keepdim=True)
    return (x - mean) / torch.sqrt(var + 1e-5) * w + b


def gelu(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def body(p, tokens):
    t = len(tokens)
    x = p["transformer.wte.weight"][tokens] + p["transformer.wpe.weight"][:t]
    mask = torch.ones(t, t, dtype=torch.bool).triu(1)
    for l in range(L):
        h = f"transformer.h.{l}."
        g = lambda n: p[h + n]
        qkv = layer_norm(x, g("ln_1.weight"), g("ln_1.bias")) @ g("attn.c_attn.weight") + g("attn.c_attn.bias")
        q, k, v = (y.reshape(t, H, C // H).transpose(0, 1) for y in qkv.split(C, dim=1))
        w = (q @ k.transpose(1, 2) / math.sqrt(C // H)).masked_fill(mask, float("-inf")).softmax(-1)
        x = x + (w @ v).transpose(0, 1).reshape(t, C) @ g("attn.c_proj.weight") + g("attn.c_proj.bias")
        f = gelu(layer_norm(x, g("ln_2.weight"), g("ln_2.bias")) @ g("mlp.c_fc.weight") + g("mlp.c_fc.bias"))
        x = x + f @ g("mlp.c_proj.weight") + g("mlp.c_proj.bias")
    return layer_norm(x, p["transformer.ln_f.weight"], p["transformer.ln_f.bias"])


def flat(x):
    return [float(v) for v in x.detach().reshape(-1)]


def grads(p):
    return {n: flat(q.grad if q.grad is not None else torch.zeros_like(q)) for n, q in p.items()}


def zero(p):
    for q in p.values():
        q.grad = None


def language_loss(p, seqs, inv_temp):
    total, count, rows = 0, 0, []
    for s in seqs:
        logits = body(p, s[:]) @ p["transformer.wte.weight"].T
        rows.append(logits)
        if len(s) > 1:
            logp = (logits * inv_temp).log_softmax(-1)
            total = total - logp[:-1].gather(1, s[1:, None]).sum()
            count += len(s) - 1
    return total / count, torch.cat(rows)


def adamw(p, m, v, t, style, lr=1e-2, b1=0.9, b2=0.95, eps=1e-3, decay=0.1, clip=1.0):
    """One step of AdamW written out; decay of 2-D weights only."""
    norm = math.sqrt(sum(float((q.grad**2).sum()) for q in p.values()))
    scale = min(1.0, clip / norm)
    for n, q in p.items():
        g = q.grad * scale
        m[n] = b1 * m[n] + (1 - b1) * g
        v[n] = b2 * v[n] + (1 - b2) * g * g
        with torch.no_grad():
            if q.dim() == 2:
                q *= 1 - lr * decay
            if style == "tensorflow":
                q -= lr * math.sqrt(1 - b2**t) / (1 - b1**t) * m[n] / (v[n].sqrt() + eps)
            else:
                q -= lr / (1 - b1**t) * m[n] / ((v[n] / (1 - b2**t)).sqrt() + eps)
    return norm


def ten_steps(p0, seqs, style):
    p = {n: q.detach().clone().requires_grad_() for n, q in p0.items() if not n.startswith("score")}
    m = {n: torch.zeros_like(q) for n, q in p.items()}
    v = {n: torch.zeros_like(q) for n, q in p.items()}
    losses, norms = [], []
    for t in range(1, 11):
        zero(p)
        loss, _ = language_loss(p, seqs, 1.0)
        loss.backward()
        losses.append(float(loss))
        norms.append(adamw(p, m, v, t, style))
    return {"losses": losses, "norms": norms}


p = {n: q.requires_grad_() for n, q in parameters().items()}
seqs = [torch.tensor([int((draw() + 1) / 2 * V) for _ in range(n)]) for n in LENGTHS]
out = {"config": {"layers": L, "width": C, "heads": H, "context": T, "vocab": V}, "sequences": [s.tolist() for s in seqs]}

loss, logits = language_loss(p, seqs, 1.0)
loss.backward()
out["language"] = {"loss": float(loss), "logits": flat(logits), "gradient": grads(p)}
zero(p)
loss, _ = language_loss(p, seqs, 1 / 0.7)
loss.backward()
out["temperature"] = {"loss": float(loss), "gradient": grads(p)}
zero(p)
scores = torch.cat([body(p, s) for s in seqs]) @ p["score.weight"][0] + p["score.bias"]
loss = (scores**2).sum() / 2
loss.backward()
out["scalar"] = {"loss": float(loss), "scores": flat(scores), "gradient": grads(p)}
out["torch"] = ten_steps(p, seqs, "torch")
out["tensorflow"] = ten_steps(p, seqs, "tensorflow")
json.dump(json.loads(json.dumps(out), parse_float=lambda s: float(f"{float(s):.8g}")), sys.stdout, separators=(",", ":"))
sys.stdout.write("\n")
