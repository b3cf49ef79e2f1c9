#!/usr/bin/env python3
"""Writes the reference fixtures of the model families: a tiny random model per case, as Hugging Face transformers
saves and computes it.

    pip install torch transformers safetensors        # CPU wheels do; see VERSIONS for those the fixtures are from
    python model/testdata/families/make.py            # every case
    python model/testdata/families/make.py llama gpt2 # some cases

Each case is a folder beside this script:

    config.json           as transformers writes it
    config.old.json       some cases: the same model in the spelling of older versions, which most published models have
    model.safetensors     random weights; norms' weights and biases are random too, so that none is hidden
    expected.safetensors  what transformers computes in float32 with eager attention:
        tokens.N     int32 [n]       sequence N: one of 20 tokens, one of 5
        logits.N     float32 [n, V]  logits after every token of sequence N
        weights.N    float32 [n-1]   weights w of the loss
        loss         float32 []      sum over N and t of -log softmax(logits.N[t])[tokens.N[t+1]] * weights.N[t]
        grad.NAME    float32         gradient of loss in the parameter NAME of model.safetensors
        prompt       int32 [3]       a prompt
        greedy       int32 [64]      the tokens of highest logit that follow it, one after another
    classifier.safetensors  some cases: the same backbone under a one-label sequence classifier
        score.weight float32 [1, hidden]  the classifier's head
        scores       float32 [2]          score of tokens.0 and tokens.1 (its last token's)
        padded       int32 [12]           tokens.1 followed by pad tokens
        pad          int32 []             the pad token (pad_token_id in the classifier's config)
        padded_score float32 []           score of padded (the last token's that is no pad token)

The greedy tokens are searched for a seed by which float32 and float64 agree and the two best logits are at least
1e-3 apart at every step. A run that asks for every case fails where all fixtures together pass LIMIT bytes.
"""

import json
import pathlib
import shutil
import sys
import tempfile

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch.overrides import TorchFunctionMode
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

VERSIONS = {"torch": "2.15.0", "transformers": "5.24.0", "safetensors": "0.8.0"}
HERE = pathlib.Path(__file__).resolve().parent
LIMIT = 290_000      # bytes of all fixtures together
STD = 0.35           # standard deviation of random matrices and of what is added to norms' weights and biases
LENGTHS = (20, 5)    # tokens per sequence
PROMPT, ANSWER = 3, 64
MARGIN = 1e-3        # smallest difference between the two best logits on the greedy path
DISTINCT = 5         # fewest different tokens in a greedy answer: a model that repeats one token tests little
VOCAB = 12
CONTEXT = PROMPT + ANSWER

TOKENS = dict(bos_token_id=None, eos_token_id=None, pad_token_id=None)
SIZES = dict(vocab_size=VOCAB, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
             intermediate_size=10, max_position_embeddings=CONTEXT, **TOKENS)
SMALL = dict(SIZES, hidden_size=6, head_dim=4)  # heads that are wider than hidden_size / num_attention_heads
GPT = dict(vocab_size=VOCAB, n_embd=8, n_layer=2, n_head=2, n_positions=CONTEXT, **TOKENS)
OPT = dict(vocab_size=VOCAB, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, ffn_dim=10,
           max_position_embeddings=CONTEXT, word_embed_proj_dim=8, **TOKENS)
NEOX = {k: v for k, v in SIZES.items() if k != "num_key_value_heads"}

# One frequency of the three in the llama case is kept, one smoothed, one divided by the factor.
LLAMA3 = dict(rope_type="llama3", factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=32)
LONGROPE = dict(short_factor=[1.0, 1.5], long_factor=[2.0, 6.0])

# Model type and settings of every case.
CASES = {
    "gpt2": ("gpt2", dict(GPT, n_inner=10)),
    "openai-gpt": ("openai-gpt", dict(GPT, n_embd=6, n_layer=1, afn="gelu")),
    "llama": ("llama", dict(
        SIZES, num_attention_heads=4, num_key_value_heads=2, head_dim=6, bos_token_id=1, eos_token_id=2,
        rope_parameters=dict(LLAMA3, rope_theta=20.0))),
    "llama-linear": ("llama", dict(
        SIZES, num_hidden_layers=1, attention_bias=True, mlp_bias=True, tie_word_embeddings=True,
        rope_parameters=dict(rope_type="linear", factor=2.5, rope_theta=500.0))),
    "llama-yarn": ("llama", dict(
        SIZES, num_hidden_layers=1, head_dim=8, rope_parameters=dict(
            rope_type="yarn", factor=4.0, original_max_position_embeddings=32, beta_fast=2.0, beta_slow=0.5,
            rope_theta=20.0))),
    "mistral": ("mistral", dict(
        SMALL, sliding_window=7, rope_parameters=dict(rope_type="default", rope_theta=5000.0))),
    "qwen2": ("qwen2", dict(
        SIZES, tie_word_embeddings=True, use_sliding_window=True, max_window_layers=1, sliding_window=6,
        rope_parameters=dict(rope_type="default", rope_theta=1e6))),
    "qwen3": ("qwen3", dict(
        SMALL, tie_word_embeddings=True, rope_parameters=dict(rope_type="default", rope_theta=1e6))),
    "gemma": ("gemma", dict(SMALL)),
    "gemma2": ("gemma2", dict(
        SMALL, num_hidden_layers=3, query_pre_attn_scalar=3, attn_logit_softcapping=4.0,
        final_logit_softcapping=5.0, sliding_window=6)),
    "gemma3": ("gemma3_text", dict(
        SMALL, num_hidden_layers=3, query_pre_attn_scalar=5, sliding_window=6,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"],
        rope_parameters=dict(
            sliding_attention=dict(rope_type="default", rope_theta=100.0),
            full_attention=dict(rope_type="linear", factor=2.0, rope_theta=10000.0)))),
    "phi3": ("phi3", dict(
        SIZES, hidden_size=16, num_hidden_layers=1, max_position_embeddings=192, original_max_position_embeddings=96,
        rope_parameters=dict(
            LONGROPE, rope_type="longrope", rope_theta=1000.0, partial_rotary_factor=0.5))),
    "olmo2": ("olmo2", dict(SIZES, num_hidden_layers=1)),
    "gpt_neox": ("gpt_neox", dict(
        NEOX, hidden_size=12, num_hidden_layers=1, rope_parameters=dict(
            rope_type="default", rope_theta=500.0, partial_rotary_factor=0.7))),
    "gpt_neox-serial": ("gpt_neox", dict(
        NEOX, use_parallel_residual=False, tie_word_embeddings=True, rope_parameters=dict(
            rope_type="default", rope_theta=500.0, partial_rotary_factor=1.0))),
    "opt": ("opt", dict(OPT)),
    "opt-post": ("opt", dict(OPT, num_hidden_layers=1, do_layer_norm_before=False)),
}

# How older versions spell a configuration: keys that replace others (None removes).
OLD = {
    "llama": dict(rope_parameters=None, rope_theta=20.0, rope_scaling=LLAMA3),
    "llama-linear": dict(rope_parameters=None, rope_theta=500.0, rope_scaling=dict(type="linear", factor=2.5)),
    "qwen2": dict(rope_parameters=None, layer_types=None, rope_theta=1e6),
    "gemma2": dict(rope_parameters=None, layer_types=None, rope_theta=10000.0),
    "gemma3": dict(rope_parameters=None, layer_types=None, _sliding_window_pattern=None, rope_theta=10000.0,
                   rope_local_base_freq=100.0, rope_scaling=dict(rope_type="linear", factor=2.0),
                   sliding_window_pattern=3),
    "phi3": dict(rope_parameters=None, rope_theta=1000.0, partial_rotary_factor=0.5,
                 rope_scaling=dict(LONGROPE, type="longrope")),
    "gpt_neox": dict(rope_parameters=None, rotary_pct=0.7, rotary_emb_base=500.0),
}
CLASSIFIERS = ("gpt2", "llama", "gemma2")


class Float64(TorchFunctionMode):
    """Replaces transformers' explicit steps in float32 (norms, softmax, rotary angles) by float64."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        def widen(x):
            return torch.float64 if x is torch.float32 else x
        if func is torch.Tensor.float:
            func = torch.Tensor.double
        return func(*map(widen, args), **{k: widen(v) for k, v in (kwargs or {}).items()})


def build(case, seed):
    """Returns the model of a case with random weights drawn from seed, and the generator to draw on from."""
    kind, settings = CASES[case]
    config = AutoConfig.for_model(kind, **settings)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32).eval()
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            norm = "Norm" in type(module).__name__
            for name, p in module.named_parameters(recurse=False):
                noise = STD * torch.randn(p.shape, generator=draw)
                p.copy_(p + noise if norm and name == "weight" else noise)  # a norm's weight starts from 1 or 0
    model.tie_weights()
    return model, draw


def greedy(model, prompt):
    """Returns the ANSWER greedy tokens after prompt, by full recomputation, and the smallest margin on the way."""
    tokens, margin = prompt.tolist(), float("inf")
    for _ in range(ANSWER):
        with torch.no_grad():
            last = model(torch.tensor([tokens]), use_cache=False).logits[0, -1]
        best = last.topk(2).values
        margin = min(margin, (best[0] - best[1]).item())
        tokens.append(int(last.argmax()))
    return tokens[PROMPT:], margin


def loss_of(model, sequences, weights):
    """Returns the weighted loss of the sequences and their logits."""
    loss, logits = 0.0, []
    for tokens, w in zip(sequences, weights):
        rows = model(tokens[None].long(), use_cache=False).logits[0]
        chosen = torch.log_softmax(rows[:-1], -1).gather(1, tokens[1:, None].long())[:, 0]
        loss = loss - (chosen * w).sum()
        logits.append(rows)
    return loss, logits


def compute(model, sequences, weights):
    """Returns loss, logits and gradients by parameter name (a tied weight once, as in safetensors)."""
    model.zero_grad(set_to_none=True)
    loss, logits = loss_of(model, sequences, weights)
    loss.backward()
    return loss.detach(), [x.detach() for x in logits], {n: p.grad for n, p in model.named_parameters()}


def widened(model):
    """Returns a float64 copy of the model."""
    wide = type(model)(model.config).eval()
    wide.load_state_dict(model.state_dict())
    for ours, theirs in zip(wide.buffers(), model.buffers()):
        ours.copy_(theirs)
    return wide.double()


def find(case):
    """Returns the first seed, its model and its inputs by which the greedy answer is unambiguous."""
    for seed in range(2000):
        model, draw = build(case, seed)
        inputs = {f"tokens.{i}": torch.randint(VOCAB, (n,), generator=draw, dtype=torch.int32)
                  for i, n in enumerate(LENGTHS)}
        inputs |= {f"weights.{i}": torch.randn(n - 1, generator=draw) for i, n in enumerate(LENGTHS)}
        inputs["prompt"] = torch.randint(VOCAB, (PROMPT,), generator=draw, dtype=torch.int32)
        answer, margin = greedy(model, inputs["prompt"])
        if margin < MARGIN or len(set(answer)) < DISTINCT:
            continue
        wide = widened(model)
        with Float64():
            answer64, margin64 = greedy(wide, inputs["prompt"])
        if answer64 == answer and margin64 >= MARGIN:
            inputs["greedy"] = torch.tensor(answer, dtype=torch.int32)
            return seed, model, wide, inputs, margin
    raise SystemExit(f"{case}: no seed below 2000 gives an unambiguous greedy answer")


def write_config_old(case, folder, model, inputs):
    """Writes config.old.json and checks that transformers computes the same from it."""
    config = json.loads((folder / "config.json").read_text())
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.49.0"
    config |= OLD[case]
    text = json.dumps({k: v for k, v in sorted(config.items()) if v is not None or k not in OLD[case]}, indent=2)
    (folder / "config.old.json").write_text(text + "\n")
    with tempfile.TemporaryDirectory() as copy:
        shutil.copy(folder / "model.safetensors", copy)
        shutil.copy(folder / "config.old.json", pathlib.Path(copy) / "config.json")
        check_loaded(copy, model, inputs)


def check_loaded(folder, model, inputs):
    """Fails unless the model that transformers loads from folder computes exactly what model does."""
    loaded, report = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager",
                                                          output_loading_info=True)
    assert not any(report.values()), f"{folder}: {report}"
    tokens = inputs["tokens.0"][None].long()
    with torch.no_grad():
        assert torch.equal(loaded.eval()(tokens).logits, model(tokens).logits), f"{folder}: other logits once loaded"


def write_classifier(case, folder, inputs, seed):
    """Writes the scores of a one-label classifier over the case's backbone."""
    pad = VOCAB - 1
    while pad in inputs["tokens.1"]:
        pad -= 1
    config = AutoConfig.from_pretrained(folder, num_labels=1, pad_token_id=pad)
    model = AutoModelForSequenceClassification.from_pretrained(folder, config=config, attn_implementation="eager")
    draw = torch.Generator().manual_seed(seed + 10_000)
    weight = STD * torch.randn(model.score.weight.shape, generator=draw)
    padded = torch.cat([inputs["tokens.1"], torch.full((12 - LENGTHS[1],), pad, dtype=torch.int32)])
    with torch.no_grad():
        model.score.weight.copy_(weight)
        short, ends = model(padded[None].long()).logits[0, 0], []
        model.config.pad_token_id = None
        for i in range(len(LENGTHS)):
            ends.append(model(inputs[f"tokens.{i}"][None].long()).logits[0, 0])
    assert abs(short - ends[1]) < 1e-5, (short, ends)
    save_file({"score.weight": weight, "scores": torch.stack(ends), "padded": padded, "padded_score": short,
               "pad": torch.tensor(pad, dtype=torch.int32)}, folder / "classifier.safetensors")


def names_in(file, model):
    """Returns the name in a safetensors file of every parameter of the model, by its values: some differ."""
    stored, names = load_file(file), {}
    for name, p in model.named_parameters():
        same = [n for n in stored if torch.equal(stored[n], p)]
        assert len(same) == 1, f"{name} is stored as {same}"
        names[name] = same[0]
    assert len(set(names.values())) == len(stored), "some weights in the file are no parameters"
    return names


def flat(grads):
    """Returns all gradients in one vector."""
    return torch.cat([g.flatten() for g in grads.values()])


def difference(a, b):
    """Returns the largest difference of a from b relative to the largest magnitude in b."""
    return ((a.double() - b.double()).abs().max() / b.double().abs().max()).item()


def write(case):
    """Writes one case and prints its line of the table."""
    seed, model, wide, inputs, margin = find(case)
    folder = HERE / case
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)

    sequences = [inputs[f"tokens.{i}"] for i in range(len(LENGTHS))]
    weights = [inputs[f"weights.{i}"] for i in range(len(LENGTHS))]
    loss, logits, grads = compute(model, sequences, weights)
    names = names_in(folder / "model.safetensors", model)
    with Float64():
        loss64, logits64, grads64 = compute(wide, sequences, [w.double() for w in weights])

    out = inputs | {"loss": loss} | {f"logits.{i}": x for i, x in enumerate(logits)}
    out |= {f"grad.{names[name]}": g for name, g in grads.items()}
    save_file({k: v.contiguous() for k, v in out.items()}, folder / "expected.safetensors")
    check_loaded(folder, model, inputs)
    if case in OLD:
        write_config_old(case, folder, model, inputs)
    if case in CLASSIFIERS:
        write_classifier(case, folder, inputs, seed)

    size = sum(f.stat().st_size for f in folder.iterdir())
    count = sum(p.numel() for p in model.parameters())
    spread = logits[0].std(-1).mean().item()
    print(f"{case:16} {seed:5} {count:7} {size:7} {spread:7.2f} {margin:8.4f} {len(set(out['greedy'].tolist())):5}"
          f" {max(map(difference, logits, logits64)):9.1e} {difference(loss, loss64):9.1e}"
          f" {difference(flat(grads), flat(grads64)):9.1e}", flush=True)


def main():
    """Writes the cases named on the command line, or all of them, and checks the sum of their sizes."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for name, want in VERSIONS.items():
        have = __import__(name).__version__.split("+")[0]
        if have != want:
            print(f"note: {name} {have}, the fixtures are from {want}", file=sys.stderr)
    print(f"{'case':16} {'seed':>5} {'weights':>7} {'bytes':>7} {'spread':>7} {'margin':>8} {'kinds':>5}"
          f" {'logits64':>9} {'loss64':>9} {'grad64':>9}")
    for case in sys.argv[1:] or CASES:
        write(case)
    total = sum(f.stat().st_size for case in CASES for f in (HERE / case).glob("*"))
    print(f"all fixtures together: {total} bytes of at most {LIMIT}")
    if total > LIMIT and not sys.argv[1:]:
        raise SystemExit("the fixtures are too large: lower the sizes")


if __name__ == "__main__":
    main()
