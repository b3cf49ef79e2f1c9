"""Golden values for package reward, from PyTorch in float64 and its autograd.

    python3 gen_golden.py > golden.json

The loss is taken over all C(K,2) rows of pairs, untied, with equal weights.
"""
import itertools
import json
import torch
import torch.nn.functional as F

torch.manual_seed(20260724)
torch.set_default_dtype(torch.float64)


def case(scores, ranks):
    s = torch.tensor(scores).float().double().requires_grad_()
    pairs = [(i, j) if ranks[i] < ranks[j] else (j, i) for i, j in itertools.combinations(range(len(ranks)), 2) if ranks[i] != ranks[j]]
    w, l = torch.tensor([p[0] for p in pairs]), torch.tensor([p[1] for p in pairs])
    d = s[w] - s[l]
    loss = -F.logsigmoid(d).mean()
    loss.backward()
    return dict(scores=s.tolist(), ranks=ranks, loss=loss.item(), gradient=s.grad.tolist(), pairs=len(pairs), right=int((d > 0).sum()), margin=d.sum().item())


cases = [case([.5, -.5], [1, 2]), case([0., 0., 0., 0.], [1, 2, 3, 4]), case([2., 1., 0., -1.], [1, 2, 3, 4]),
         case([3, 2.5, 2, 1, 0, -1, -1.5, -2, -4], list(range(1, 10))), case([1., 2., 3., 4., 5.], [2, 1, 2, 3, 1])]
for k in range(2, 10):
    ranks = torch.randint(1, 5, (k,)).tolist()
    ranks[0], ranks[1] = 1, 2
    cases.append(case((3 * torch.randn(k)).tolist(), ranks))
print(json.dumps(cases, separators=(",", ":")))
