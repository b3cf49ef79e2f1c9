// Package model is a GPT-2-shaped decoder: pre-LayerNorm blocks, learned
// positions, GELU-tanh, an output head tied to the token embedding, and
// optionally a scalar head for reward and value models. Forward and backward
// are written out, neighbours in one file per kind of layer.
//
// Letters: N rows (tokens of a batch), T tokens of one sequence, C width,
// V vocabulary, L layers, H heads, D = C/H.
//
// All parameters lie in one slab, in this order and without gaps, under the
// names of Hugging Face's GPT-2 (Conv1D weights are (in, out): y = x·W + b):
//
//	transformer.wte.weight              (V, C)   also the output head
//	transformer.wpe.weight              (Context, C)
//	transformer.h.N.ln_1.weight, .bias  (C), (C)           for N = 0 … L-1
//	transformer.h.N.attn.c_attn.weight, .bias   (C, 3C), (3C)
//	transformer.h.N.attn.c_proj.weight, .bias   (C, C), (C)
//	transformer.h.N.ln_2.weight, .bias  (C), (C)
//	transformer.h.N.mlp.c_fc.weight, .bias      (C, 4C), (4C)
//	transformer.h.N.mlp.c_proj.weight, .bias    (4C, C), (C)
//	transformer.ln_f.weight, .bias      (C), (C)
//	score.weight, score.bias            (1, C), (1)        scalar head only
//
// One block, with x the stream of rows:
//
//	x = x + proj(attention(qkv(LN1(x))))
//	x = x + W2·gelu(W1·LN2(x) + b1) + b2
//
// A batch is ragged: sequences lie end to end and there is no padding. What
// a row becomes depends on the rows before it in its own sequence and on
// nothing else, bit for bit: every product is one chain of fused
// multiply-adds over k, and attention leaves out absent keys. Hence sampling
// with a cache equals full recomputation, and gradients summed over
// micro-batches in order equal those of the whole batch (see Model.Gradient).
package model
