"""Golden values for package ppo, from PyTorch in float64 and its autograd.

    python3 gen_golden.py > golden.json

Inputs are rounded to float32 first, so that both sides start from the same
numbers. The functions below are written from the papers, in tensor form,
with torch's own clamp, max and var.
"""
import json
import torch

torch.manual_seed(20260724)
torch.set_default_dtype(torch.float64)


def f32(x):
    return x.float().double()


def gae(rewards, values, gamma, lam):
    """The sum of discounted residuals, written as a sum and not as a recursion."""
    n = len(rewards)
    following = torch.cat([values[1:], torch.zeros(1)])
    delta = rewards + gamma * following - values
    adv = torch.stack([sum(((gamma * lam) ** k) * delta[t + k] for k in range(n - t)) for t in range(n)])
    return adv, adv + values


def gae_cases():
    out = []
    for n, gamma, lam in [(1, 1.0, .95), (2, 1.0, .95), (7, 1.0, .95), (28, 1.0, .95), (12, .99, .9), (9, .5, 0.0), (9, 1.0, 1.0)]:
        r, v = f32(torch.randn(n)), f32(torch.randn(n))
        adv, ret = gae(r, v, gamma, lam)
        out.append(dict(rewards=r.tolist(), values=v.tolist(), gamma=gamma, **{"lambda": lam}, advantages=adv.tolist(), returns=ret.tolist()))
    return out


def kl_cases():
    logp, ref = f32(-5 * torch.rand(24)), f32(-5 * torch.rand(24))
    logp[:4] = ref[:4] + torch.tensor([0, 1e-3, -1e-3, 2e-2])
    logp = f32(logp)
    d = ref - logp
    return dict(logp=logp.tolist(), ref=ref.tolist(), k1=(-d).tolist(), k2=(d * d / 2).tolist(), k3=(torch.expm1(d) - d).tolist())


def policy_case(clip):
    n = 40
    old, adv = f32(-4 * torch.rand(n)), f32(torch.randn(n))
    logp = f32(old + .5 * torch.randn(n)).requires_grad_()
    ratio = torch.exp(logp - old)
    plain, held = -adv * ratio, -adv * torch.clamp(ratio, 1 - clip, 1 + clip)
    loss = torch.max(plain, held)
    loss.sum().backward()
    return dict(clip=clip, logp=logp.tolist(), old=old.tolist(), advantages=adv.tolist(), loss=loss.tolist(), dlogp=logp.grad.tolist(), clipped=(held > plain).tolist())


def value_case(clip):
    n = 40
    old, ret = f32(torch.randn(n)), f32(torch.randn(n))
    v = f32(old + .4 * torch.randn(n)).requires_grad_()
    held = old + torch.clamp(v - old, -clip, clip)
    a, b = (v - ret) ** 2, (held - ret) ** 2
    loss = .5 * torch.max(a, b)
    loss.sum().backward()
    return dict(clip=clip, v=v.tolist(), old=old.tolist(), returns=ret.tolist(), loss=loss.tolist(), dv=v.grad.tolist(), clipped=(b > a).tolist())


def whiten_cases():
    out = []
    for n in (2, 5, 64):
        x = f32(2 + 3 * torch.randn(n))
        for how, unbiased in (("population", False), ("unbiased", True)):
            scale = torch.rsqrt(torch.var(x, unbiased=unbiased) + 1e-8)
            y = (x - x.mean()) * scale
            out.append(dict(x=x.tolist(), how=how, centred=y.tolist(), kept=(y + x.mean()).tolist()))
    return out


print(json.dumps(dict(gae=gae_cases(), kl=kl_cases(), policy=[policy_case(.2), policy_case(.1)], value=[value_case(.2), value_case(.5)], whiten=whiten_cases()), indent=None, separators=(",", ":")))
