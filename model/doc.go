// Package model is a transformer decoder of the families that people have:
// GPT-2, Llama, Qwen, Gemma and others (see [FamilyNames]). Forward and backward
// are written out, next to each other, in one file for each kind of layer:
//
//	embedding.go  token and learned position embeddings
//	attention.go  multi-head, grouped and multi-query attention, sliding windows
//	rotary.go     rotary positions (RoPE) and their scaling
//	mlp.go        the MLP, plain or gated (SwiGLU)
//	norm.go       layer norm and RMS norm
//	block.go      how attention, MLP and norms make a block
//	head.go       log-probabilities, entropies and their gradients
//	scalar.go     the head of reward and value models
//
// and know nothing of how rows are divided among workers (schedule.go), of which
// rows a head asks for (output_rows.go), or of sampling (decoder.go, with the
// paged cache.go and sample.go). A Config says what a model is made of; its zero
// values are GPT-2's. Arrays are listed in parameters.go; what they are called
// and how they are stored is up to the family: family.go, and a file for each.
//
// Shapes in comments: N rows (tokens of a batch), W selected rows of those, T
// tokens of one sequence, C width, V vocabulary, L layers, H heads, KV
// key-value heads, D the size of a head, I the width of the MLP.
//
// All parameters lie in one slab, in the order of parameters.go and without
// gaps, under the names of the family in Hugging Face's library. GPT-2's are
//
//	transformer.wte.weight                      (V, C)          also the output head
//	transformer.wpe.weight                      (Context, C)
//	transformer.h.N.ln_1.weight, .bias          (C), (C)        for N = 0 … L-1
//	transformer.h.N.attn.c_attn.weight, .bias   (C, 3C), (3C)   y = x·W + b
//	transformer.h.N.attn.c_proj.weight, .bias   (C, C), (C)
//	transformer.h.N.ln_2.weight, .bias          (C), (C)
//	transformer.h.N.mlp.c_fc.weight, .bias      (C, 4C), (4C)
//	transformer.h.N.mlp.c_proj.weight, .bias    (4C, C), (C)
//	transformer.ln_f.weight, .bias              (C), (C)
//	score.weight, score.bias                    (1, C), (1)     scalar head only
//
// and most other families store matrices as (out, in): y = x·Wᵀ + b.
//
// A training step is Forward, one or both heads, and BackwardBody:
//
//	ps.Forward(m, batch)
//	logp := ps.LogProbs(m, rows, 1).LogP       // a loss of them, and its gradient dlogp
//	ps.LogProbsBackward(m, g, dlogp, nil)
//	ps.BackwardBody(m, g)
//	optimizer.Step(m.Slab, m.FoldGradient(pool, g), step, steps)
//
// A batch is ragged: sequences lie end to end and there is no padding. A row
// depends on the rows before it in its own sequence and on nothing else, bit
// for bit: every product is one chain of fused multiply-adds over k, and
// attention leaves out absent keys. Hence sampling with a cache equals full
// recomputation, and gradients summed over micro-batches in order equal those
// of the whole batch (see Model.NewGradient). The number of workers and the
// instruction set change nothing either: see package tensor.
package model
