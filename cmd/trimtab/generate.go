package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/dataset"
	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/tensor"
	"github.com/trimtab/trimtab/tokenizer"
)

// samplingFlags are the flags of every command that samples text.
type samplingFlags struct {
	// temperature divides the logits, and topP is the probability mass that
	// is kept.
	temperature, topP float32
	// topK limits the tokens to sample among; 0 means all. maxTokens limits
	// the response.
	topK, maxTokens int
	// seed decides every draw.
	seed uint64
	// greedy ignores the temperature; raw leaves the chat template out.
	greedy, raw bool
}

// register declares the flags on a command.
func (o *samplingFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.Float32Var(&o.temperature, "temperature", 1, "softmax temperature: logits are divided by it")
	f.IntVar(&o.topK, "top-k", 0, "sample only from the k most likely tokens; 0 means all")
	f.Float32Var(&o.topP, "top-p", 1, "sample only from the most likely tokens that together have this probability")
	f.IntVar(&o.maxTokens, "max-tokens", 64, "maximum number of tokens in a response")
	f.Uint64Var(&o.seed, "seed", 1, "random seed; the same seed gives the same text")
	f.BoolVar(&o.greedy, "greedy", false, "always take the most likely token")
	f.BoolVar(&o.raw, "raw", false, "continue the text of the prompt itself, without the chat template")
}

// check rejects values out of range. The comparisons are written so that NaN
// fails them.
func (o *samplingFlags) check() error {
	switch {
	case !(o.temperature > 0) || o.temperature > 100:
		return usagef("use more than 0 and at most 100; --greedy takes the most likely token",
			"--temperature is %g", o.temperature)
	case o.topK < 0:
		return usagef("use 0 for all, or more", "--top-k is %d", o.topK)
	case !(o.topP > 0) || o.topP > 1:
		return usagef("use more than 0 and at most 1", "--top-p is %g", o.topP)
	case o.maxTokens < 1:
		return usagef("use 1 or more", "--max-tokens is %d", o.maxTokens)
	}
	return nil
}

// responder samples responses of one model. Its pool of workers must be
// closed.
type responder struct {
	model  *model.Model
	tokens *tokenizer.Tokenizer
	pool   *tensor.Pool
	// pass is reused for every response, which keeps its buffers.
	pass  *model.Pass
	flags samplingFlags
	// turn counts the responses: it is part of the key of the random draws,
	// so that the same prompt twice in a chat may get two answers, and the
	// same chat with the same seed gets the same answers.
	turn uint64
}

// newResponder rejects a model with a scalar head, which cannot generate, and
// starts a pool of workers for the model, which the caller must close.
func newResponder(m *model.Model, t *tokenizer.Tokenizer, o samplingFlags) (*responder, error) {
	if m.Scalar {
		return nil, trimtab.NewError(trimtab.Invalid, "not_a_language_model",
			"choose a model of another stage; trimtab model list shows them",
			"this model has a scalar head: it scores text and cannot generate any")
	}
	pool := tensor.NewPool(0)
	return &responder{model: m, tokens: t, pool: pool, pass: model.NewPass(pool), flags: o}, nil
}

// respond samples one response to a prompt. The number of tokens is limited
// by --max-tokens and by what the model's context leaves.
func (r *responder) respond(prompt string) (generation, error) {
	ids := dataset.EncodePrompt(r.tokens, prompt)
	if r.flags.raw {
		ids = append([]int32{r.tokens.BeginOfText()}, r.tokens.Encode(prompt)...)
	}
	// The response has to fit into the context behind the prompt.
	room := r.model.Config.Context - len(ids)
	if room < 1 {
		return generation{}, trimtab.NewError(trimtab.Invalid, "prompt_too_long", "shorten it",
			"the prompt has %d tokens, and the model's context is %d", len(ids), r.model.Config.Context)
	}
	// Pad and other special tokens are suppressed: training never ends a text
	// with them.
	o := model.SampleOptions{
		Temperature: r.flags.temperature, TopK: r.flags.topK, TopP: r.flags.topP,
		MaxNewTokens: min(r.flags.maxTokens, room),
		StopTokens:   r.tokens.StopTokens(), SuppressTokens: r.tokens.SuppressTokens(),
	}
	if r.flags.greedy {
		o.Temperature = 0
	}
	// One sequence at a time: the response depends on nothing but its own
	// prompt.
	s := model.Generate(r.pass, r.model, [][]int32{ids}, o, draw.New(r.flags.seed, "generate"), r.turn)[0]
	r.turn++
	return generation{Prompt: prompt, bytes: r.tokens.Decode(s.Tokens), Tokens: s.Tokens, Stopped: s.Stopped}, nil
}

// generation is one sampled response.
type generation struct {
	Schema string `json:"schema,omitempty"`
	// Model is the digest of the model that was sampled.
	Model trimtab.Digest `json:"model"`
	// Prompt is the text as given, without the template.
	Prompt string `json:"prompt"`
	// Text has U+FFFD for bytes that are not UTF-8; Tokens is exact.
	Text string `json:"text"`
	// Tokens are the sampled ids, the one that ended the response included.
	Tokens []int32 `json:"tokens"`
	// Stopped is true if the model ended the response itself, and false if it
	// ran into --max-tokens or the end of the context.
	Stopped bool   `json:"stopped"`
	Seed    uint64 `json:"seed"`
	// bytes is the decoded response, which may not be valid UTF-8.
	bytes []byte
}

// document completes the JSON form of g.
func (g generation) document(digest trimtab.Digest, seed uint64) generation {
	g.Schema, g.Model, g.Seed = "trimtab.generation/v1", digest, seed
	g.Text = strings.ToValidUTF8(string(g.bytes), string(utf8.RuneError))
	return g
}

// generateCmd is "trimtab generate": one response to one prompt. It is
// reproducible: the same model, prompt, flags and seed give the same tokens
// on every machine.
func (a *app) generateCmd() *cobra.Command {
	var o samplingFlags
	cmd := &cobra.Command{
		Use: "generate MODEL PROMPT", Short: "sample a response to a prompt", Args: argCount(2, 2),
		Example: `  trimtab generate my-assistant/ppo "What does a fisher make?"
  echo "What does a fisher make?" | trimtab generate my-assistant/ppo - --greedy -o json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(); err != nil {
				return err
			}
			prompt := args[1]
			// A trailing line feed is an artefact of the pipe and no part of
			// the prompt.
			if prompt == "-" {
				text, err := readAll(a.in, "standard input")
				if err != nil {
					return err
				}
				prompt = strings.TrimSuffix(string(text), "\n")
			}
			return a.withStore(cmd, func(ctx context.Context, s *session) error {
				return a.generate(ctx, s, args[0], o, func(say func(string) error) error { return say(prompt) })
			})
		},
	}
	o.register(cmd)
	return cmd
}

// chatCmd is "trimtab chat". The models here are trained on single turns, so
// that a chat has no memory: every line is answered on its own.
func (a *app) chatCmd() *cobra.Command {
	var o samplingFlags
	cmd := &cobra.Command{
		Use: "chat MODEL", Short: "answer line by line; each line is a prompt of its own", Args: argCount(1, 1),
		Example: "  trimtab chat my-assistant/ppo\n  trimtab chat my-assistant/sft --temperature 0.7 < questions.txt",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(); err != nil {
				return err
			}
			return a.withStore(cmd, func(ctx context.Context, s *session) error {
				return a.generate(ctx, s, args[0], o, a.chatLoop)
			})
		},
	}
	o.register(cmd)
	return cmd
}

// generate loads a model and calls prompts with a function that answers one
// prompt; each response is printed when it is complete.
func (a *app) generate(
	ctx context.Context, s *session, ref string, o samplingFlags, prompts func(say func(string) error) error,
) error {
	art, m, t, err := loadModel(ctx, s, ref)
	if err != nil {
		return err
	}
	r, err := newResponder(m, t, o)
	if err != nil {
		return err
	}
	defer r.pool.Close()
	return prompts(func(prompt string) error {
		g, err := r.respond(prompt)
		if err != nil {
			return err
		}
		if a.wantsJSON() {
			return a.printDocument(g.document(art.Digest, o.seed))
		}
		_, err = fmt.Fprintln(a.out, escapeText(string(g.bytes)))
		return err
	})
}

// chatLoop reads prompts line by line until the input ends, and on a terminal
// until an empty line. On a terminal a prompt that is too long is only noted;
// in a pipe it is an error, since nobody would see the note.
func (a *app) chatLoop(say func(string) error) error {
	_, drawn := terminal(a.out)
	if drawn {
		a.note("one prompt per line; an empty line or Ctrl-D ends the chat")
	}
	lines := bufio.NewReader(a.in)
	for {
		if drawn {
			fmt.Fprint(a.err, "> ")
		}
		line, err := lines.ReadString('\n')
		line = strings.TrimRight(line, "\r\n")
		// In a pipe an empty line is skipped, as between paragraphs.
		if line == "" && (err != nil || drawn) {
			return ignoreEOF(err)
		}
		if line == "" {
			continue
		}
		if err := say(line); err != nil {
			if trimtab.AsError(err).Type != "prompt_too_long" || !drawn {
				return err
			}
			a.note("%v", err)
		}
		if err != nil {
			return ignoreEOF(err)
		}
	}
}

// ignoreEOF turns the end of input into success.
func ignoreEOF(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}
