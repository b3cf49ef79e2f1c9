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

// samplingFlags are the flags of everything that samples text.
type samplingFlags struct {
	temperature, topP float32
	topK, maxTokens   int
	seed              uint64
	greedy, raw       bool
}

func (o *samplingFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.Float32Var(&o.temperature, "temperature", 1, "divide the logits by this")
	f.IntVar(&o.topK, "top-k", 0, "sample among the k likeliest tokens; 0 is all")
	f.Float32Var(&o.topP, "top-p", 1, "sample among the likeliest tokens that hold this probability")
	f.IntVar(&o.maxTokens, "max-tokens", 64, "at most so many tokens")
	f.Uint64Var(&o.seed, "seed", 1, "seed of the draws: the same seed gives the same text")
	f.BoolVar(&o.greedy, "greedy", false, "always take the likeliest token")
	f.BoolVar(&o.raw, "raw", false, "continue the prompt's text as it stands, without the template of prompts")
}

func (o *samplingFlags) check() error {
	switch {
	case !(o.temperature > 0) || o.temperature > 100:
		return usagef("give more than 0 and at most 100; --greedy takes the likeliest", "--temperature is %g",
			o.temperature)
	case o.topK < 0:
		return usagef("give 0 for all, or more", "--top-k is %d", o.topK)
	case !(o.topP > 0) || o.topP > 1:
		return usagef("give more than 0 and at most 1", "--top-p is %g", o.topP)
	case o.maxTokens < 1:
		return usagef("give at least 1", "--max-tokens is %d", o.maxTokens)
	}
	return nil
}

// responder generates text from one model.
type responder struct {
	model  *model.Model
	tokens *tokenizer.Tokenizer
	pool   *tensor.Pool
	pass   *model.Pass
	flags  samplingFlags
	turn   uint64
}

func newResponder(m *model.Model, t *tokenizer.Tokenizer, o samplingFlags) (*responder, error) {
	if m.Scalar {
		return nil, trimtab.NewError(trimtab.Invalid, "not_a_language_model",
			"choose a model of another stage; trimtab model list shows them",
			"the model has a scalar head: it scores text and writes none")
	}
	pool := tensor.NewPool(0)
	return &responder{model: m, tokens: t, pool: pool, pass: model.NewPass(pool), flags: o}, nil
}

// respond samples one response to a prompt.
func (k *responder) respond(prompt string) (generation, error) {
	ids := dataset.EncodePrompt(k.tokens, prompt)
	if k.flags.raw {
		ids = append([]int32{k.tokens.BeginOfText()}, k.tokens.Encode(prompt)...)
	}
	room := k.model.Config.Context - len(ids)
	if room < 1 {
		return generation{}, trimtab.NewError(trimtab.Invalid, "prompt_too_long", "shorten it",
			"the prompt takes %d tokens and the model's context is %d", len(ids), k.model.Config.Context)
	}
	o := model.SampleOptions{
		Temperature: k.flags.temperature, TopK: k.flags.topK, TopP: k.flags.topP,
		MaxNewTokens: min(k.flags.maxTokens, room),
		StopTokens:   k.tokens.StopTokens(), SuppressTokens: k.tokens.SuppressTokens(),
	}
	if k.flags.greedy {
		o.Temperature = 0
	}
	s := model.Generate(k.pass, k.model, [][]int32{ids}, o, draw.New(k.flags.seed, "generate"), k.turn)[0]
	k.turn++
	return generation{Prompt: prompt, bytes: k.tokens.Decode(s.Tokens), Tokens: s.Tokens, Stopped: s.Stopped}, nil
}

// generation is one sampled response.
type generation struct {
	Schema  string         `json:"schema,omitempty"`
	Model   trimtab.Digest `json:"model"`
	Prompt  string         `json:"prompt"`
	Text    string         `json:"text"` // with � for bytes that are not UTF-8; tokens are exact
	Tokens  []int32        `json:"tokens"`
	Stopped bool           `json:"stopped"` // the response ended by itself
	Seed    uint64         `json:"seed"`
	bytes   []byte
}

func (g generation) document(x trimtab.Digest, seed uint64) generation {
	g.Schema, g.Model, g.Seed = "trimtab.generation/v1", x, seed
	g.Text = strings.ToValidUTF8(string(g.bytes), string(utf8.RuneError))
	return g
}

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

func (a *app) chatCmd() *cobra.Command {
	var o samplingFlags
	cmd := &cobra.Command{
		Use: "chat MODEL", Short: "answer line after line; each line is a prompt of its own", Args: argCount(1, 1),
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

// generate loads a model and hands prompts to it; each response is printed as it comes.
func (a *app) generate(ctx context.Context, s *session, ref string, o samplingFlags,
	prompts func(say func(string) error) error) error {
	x, m, t, err := loadModel(ctx, s, ref)
	if err != nil {
		return err
	}
	k, err := newResponder(m, t, o)
	if err != nil {
		return err
	}
	defer k.pool.Close()
	return prompts(func(prompt string) error {
		g, err := k.respond(prompt)
		if err != nil {
			return err
		}
		if a.wantsJSON() {
			return a.printDocument(g.document(x.Digest, o.seed))
		}
		_, err = fmt.Fprintln(a.out, escapeText(string(g.bytes)))
		return err
	})
}

// chatLoop reads prompts line by line; what cannot be answered does not end the conversation.
func (a *app) chatLoop(say func(string) error) error {
	_, drawn := terminal(a.out)
	if drawn {
		a.note("one prompt a line; an empty line or Ctrl-D ends")
	}
	lines := bufio.NewReader(a.in)
	for {
		if drawn {
			fmt.Fprint(a.err, "> ")
		}
		line, err := lines.ReadString('\n')
		line = strings.TrimRight(line, "\r\n")
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
