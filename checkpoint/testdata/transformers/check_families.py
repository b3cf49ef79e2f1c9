#!/usr/bin/env python3
"""Opens with Hugging Face transformers what checkpoint writes of every family, and compares logits.

    pip install torch transformers safetensors gguf
    go test -run TestWriteFamilies ./checkpoint -folders /tmp/out
    python checkpoint/testdata/transformers/check_families.py /tmp/out

Each folder under families is a case of model/testdata/families, read by checkpoint and written again: config.json and
model.safetensors, and model.gguf where llama.cpp knows the family. Logits must equal those of expected.safetensors within
1e-5 of the largest; a folder CASE-reward must open as a classifier with one label whose weights are all in the file.
"""

import pathlib
import sys

import torch
from gguf import GGUFReader
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

FIXTURES = pathlib.Path(__file__).resolve().parents[3] / "model/testdata/families"


def off(model, expected):
    """Returns the largest difference of logits, relative to the largest logit."""
    worst = 0.0
    for i in range(2):
        with torch.no_grad():
            got = model(expected[f"tokens.{i}"][None].long(), use_cache=False).logits[0]
        want = expected[f"logits.{i}"]
        worst = max(worst, ((got - want).abs().max() / want.abs().max()).item())
    return worst


def neox_rows(folder):
    """Reports whether attn_qkv of a GPT-NeoX has its rows as llama.cpp's convert_hf_to_gguf.py writes them."""
    heads = AutoConfig.from_pretrained(folder).num_attention_heads
    ours = {t.name: torch.tensor(t.data) for t in GGUFReader(folder / "model.gguf").tensors}
    theirs = load_file(folder / "model.safetensors")
    for kind in ("weight", "bias"):
        x = theirs[f"gpt_neox.layers.0.attention.query_key_value.{kind}"]
        x = x.reshape(heads, 3, -1, *x.shape[1:])
        parts = [x[:, i].reshape(-1, *x.shape[3:]) for i in range(3)]
        if not torch.equal(torch.cat(parts), ours[f"blk.0.attn_qkv.{kind}"]):
            return False
    return True


def main():
    out, failed = pathlib.Path(sys.argv[1]) / "families", 0
    for folder in sorted(p for p in out.iterdir() if not p.name.endswith("-reward")):
        expected = load_file(FIXTURES / folder.name / "expected.safetensors")
        line = [f"{folder.name:16}"]
        model, report = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32,
                                                             output_loading_info=True)
        worst = off(model.eval(), expected)
        line.append(f"folder {worst:.1e}")
        bad = worst > 1e-5 or any(report.values())
        reward, report = AutoModelForSequenceClassification.from_pretrained(
            str(folder) + "-reward", attn_implementation="eager", output_loading_info=True)
        bad |= any(report.values()) or reward.config.num_labels != 1
        line.append(f"classifier {type(reward).__name__}")
        if (folder / "model.gguf").exists():
            try:
                # With the folder's config: transformers does not read all that llama.cpp reads of a file's metadata.
                model = AutoModelForCausalLM.from_pretrained(
                    folder, gguf_file="model.gguf", config=AutoConfig.from_pretrained(folder), dtype=torch.float32,
                    attn_implementation="eager").eval()
                worst = off(model, expected)
                line.append(f"GGUF {worst:.1e}")
                bad |= worst > 1e-5
            except Exception as e:  # transformers reads fewer architectures than llama.cpp
                line.append(f"GGUF not read: {type(e).__name__}: {str(e)[:100]}")
        if folder.name.startswith("gpt_neox"):
            bad |= not neox_rows(folder)
            line.append("GGUF rows compared")
        failed += bad
        print(*line, "FAILED" if bad else "", report if bad else "", sep="  ")
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
