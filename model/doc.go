// Package model is a GPT-2-shaped decoder: pre-LayerNorm blocks, learned
// positions, GELU-tanh, an output head tied to the token embedding, and
// optionally a scalar head for reward and value models. Forward and backward
// are written out, next to each other, in one file for each kind of layer:
// embedding.go, attention.go, mlp.go, norm.go, head.go, scalar.go.
//
// Shapes in comments: N rows (tokens of a batch), W selected rows of those, T
// tokens of one sequence, C width, V vocabulary, L layers, H heads, D = C/H.
//
// All parameters lie in one slab, in this order and without gaps, under the
// names of Hugging Face's GPT-2 (Conv1D weights are (in, out): y = x·W + b).
// Comments use the short names of llm.c, in the last column:
//
//	transformer.wte.weight                      (V, C)          wte, also the output head
//	transformer.wpe.weight                      (Context, C)    wpe
//	transformer.h.N.ln_1.weight, .bias          (C), (C)        ln1w, ln1b          for N = 0 … L-1
//	transformer.h.N.attn.c_attn.weight, .bias   (C, 3C), (3C)   qkvw, qkvb
//	transformer.h.N.attn.c_proj.weight, .bias   (C, C), (C)     attprojw, attprojb
//	transformer.h.N.ln_2.weight, .bias          (C), (C)        ln2w, ln2b
//	transformer.h.N.mlp.c_fc.weight, .bias      (C, 4C), (4C)   fcw, fcb
//	transformer.h.N.mlp.c_proj.weight, .bias    (4C, C), (C)    fcprojw, fcprojb
//	transformer.ln_f.weight, .bias              (C), (C)        lnfw, lnfb
//	score.weight, score.bias                    (1, C), (1)     scorew, scoreb: scalar head only
//
// One block, with x the residual stream, a row for each token:
//
//	x = x + attention(LN1(x)·qkvw + qkvb)·attprojw + attprojb
//	x = x + gelu(LN2(x)·fcw + fcb)·fcprojw + fcprojb
//
// A training step is Forward, one or both heads, and BackwardBody:
//
//	ps.Forward(m, batch)
//	ps.LMHead(m, g, rows, 1, func(i int, logp, entropy float32) (dlogp float32) { return -1 / n })
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
