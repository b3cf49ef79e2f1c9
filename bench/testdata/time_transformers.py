"""Measures transformers on SmolLM2-135M-Instruct with 2 threads: scoring and greedy generation, in tokens a second.

    env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE python time_transformers.py --model FOLDER [--repeats 3]

Scoring: one forward pass of 8 sequences of 256 tokens, all logits, no cache (2048 tokens).
Generation: 64 new tokens after a prompt of 32 with a KV cache, batch 1 and 16, by generate() and by a bare loop over the
model (no logits processors, no stopping). Prompt time is counted; new tokens are what is divided by the time.
Each in float32 and bfloat16, with sdpa attention (transformers' default). Best of the repeats, after one warm-up.
"""
import argparse, json, time
import torch, transformers
from transformers import AutoModelForCausalLM, DynamicCache

ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ap.add_argument("--model", required=True)
ap.add_argument("--repeats", type=int, default=3)
ap.add_argument("--threads", type=int, default=2)
ap.add_argument("--attention", default="sdpa", choices=["sdpa", "eager"])
ap.add_argument("--dtypes", default="float32,bfloat16")
ap.add_argument("--scale", type=float, default=1.0, help="shrinks lengths, for a trial of the script")
a = ap.parse_args()
transformers.logging.set_verbosity_error(); transformers.logging.disable_progress_bar()
torch.set_num_threads(a.threads)
torch.manual_seed(0)

def best(f):
    f()
    times = []
    for _ in range(a.repeats):
        t = time.perf_counter(); f(); times.append(time.perf_counter() - t)
    return min(times), times

print(f"torch {torch.__version__}, transformers {transformers.__version__}, {torch.get_num_threads()} threads, {a.attention}")
length, prompt, new = int(256 * a.scale), max(2, int(32 * a.scale)), max(2, int(64 * a.scale))
for dtype in a.dtypes.split(","):
    model = AutoModelForCausalLM.from_pretrained(a.model, dtype=getattr(torch, dtype), attn_implementation=a.attention).eval()
    vocab = model.config.vocab_size

    def line(what, tokens, f):
        with torch.inference_mode():
            t, all_times = best(f)
        print(json.dumps(dict(dtype=dtype, what=what, tokens=tokens, seconds=round(t, 4), tokens_per_s=round(tokens / t, 1),
                              times=[round(x, 4) for x in all_times])), flush=True)

    batch = torch.randint(vocab, (8, length))
    line(f"scoring 8 x {length}", batch.numel(), lambda: model(batch, use_cache=False).logits)
    for n in (1, 16):
        ids = torch.randint(3, vocab, (n, prompt))
        line(f"generate() batch {n}, {new} new", n * new, lambda: model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, min_new_tokens=new, max_new_tokens=new,
            pad_token_id=2))

        def loop():
            cache, feed = DynamicCache(config=model.config), ids
            for _ in range(new):
                feed = model(feed, cache=cache, use_cache=True, logits_to_keep=1).logits[:, -1].argmax(-1, keepdim=True)
        line(f"bare loop batch {n}, {new} new", n * new, loop)
