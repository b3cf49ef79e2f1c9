package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/audit"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/notary"
	"github.com/trimtab/trimtab/plainfile"
	"github.com/trimtab/trimtab/storage"
)

// proofsName is the file of an exported model that shows where it came from.
const proofsName = "proofs.json"

func (a *app) auditProveCmd() *cobra.Command {
	var offline string
	var keys []string
	cmd := &cobra.Command{
		Use:   "prove [STREAM SEQUENCE]",
		Short: "prove that an event is in the record, or check a proof without a database", Args: argCount(0, 2),
		Long: `Print a proof that an event is in the record under the newest signed head, as JSON that
stands for itself. With --offline, check such a file, or the folder of an exported model,
against its signed head: no database is needed. The folder's proofs show the model's
digest as an output of an attempt, that attempt's inputs as outputs or frozen
data, and so on down to what was imported. A head is worth as much as the key: give the one
that you know with --key, else the one in the data folder is used.`,
		Example: "  trimtab audit prove my-run 12 > proof.json\n  trimtab audit prove --offline proof.json\n  " +
			"trimtab audit prove --offline ./my-model --key \"$(cat key.txt)\"",
		RunE: func(cmd *cobra.Command, args []string) error {
			if offline != "" {
				if len(args) > 0 {
					return usagef("leave out the event", "--offline checks a file or a folder")
				}
				return a.checkProof(offline, keys)
			}
			if len(args) != 2 {
				return usagef("give a stream and the sequence of an event, as `trimtab audit log` lists them",
					"no event is named")
			}
			n, err := strconv.ParseInt(args[1], 10, 64)
			if err != nil || n < 1 {
				return usagef("give a number from 1 on", "%q is no sequence", args[1])
			}
			return a.withStore(cmd, func(ctx context.Context, s *session) error {
				if err := a.signHead(ctx, s); err != nil {
					return err
				}
				p, err := notary.Prove(ctx, s.store,
					storage.EventRef{Stream: resolveStream(ctx, s, args[0]), Sequence: n})
				if err != nil {
					return err
				}
				return a.printJSON(p)
			})
		},
	}
	cmd.Flags().StringVar(&offline, "offline", "", "check this proof, or this folder of an exported model")
	cmd.Flags().StringArrayVar(&keys, "key", nil,
		"a key that the head may be signed with (default: that of the data folder)")
	return cmd
}

// writeProofs writes the proofs of a model into its exported folder, beside its files. A model of which nothing can be
// proved yet is exported all the same.
func (a *app) writeProofs(ctx context.Context, s *session, model trimtab.Digest, folder string) (put bool, err error) {
	if err := a.signHead(ctx, s); err != nil {
		return false, err
	}
	p, err := notary.ProveModel(ctx, s.store, model)
	if err != nil {
		a.note("%s is left out: %v", proofsName, err)
		return false, nil
	}
	if keys, err := a.verificationKeys(nil); err == nil {
		p.Key = keys[0]
	}
	raw, err := json.MarshalIndent(p, "", " ")
	if err != nil {
		return false, err
	}
	err = plainfile.WriteNew(filepath.Join(folder, proofsName), 0o644, append(raw, '\n'))
	return err == nil, writeError(folder, err)
}

func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// proofDocument is what a proof showed, as one document.
type proofDocument struct {
	Schema  string         `json:"schema"`
	Model   string         `json:"model,omitempty"`
	Event   *audit.Event   `json:"event,omitempty"`
	Head    *headDocument  `json:"head"`
	Origins []audit.Origin `json:"origins,omitempty"`
}

// checkProof checks a proof, or the proofs of an exported model, without a database.
func (a *app) checkProof(path string, keys []string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fileError(path, err)
	}
	verifiers, err := a.verificationKeys(keys)
	if err != nil {
		return err
	}
	doc := proofDocument{Schema: "trimtab.checked/v1"}
	if info.IsDir() {
		err = doc.checkFolder(path, verifiers)
	} else {
		err = doc.checkFile(path, verifiers)
	}
	if err != nil {
		if _, ok := errors.AsType[*trimtab.Error](err); ok {
			return err
		}
		return trimtab.NewError(trimtab.Verification, "proof_fails",
			"ask for the proof again; if it fails again, the record or the model was changed", "%s: %w", path, err)
	}
	if a.wantsJSON() {
		return a.printDocument(doc)
	}
	a.printProven(doc)
	return nil
}

func (c *proofDocument) checkFile(path string, keys []string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return fileError(path, err)
	}
	p, err := audit.ParseProof(raw)
	if err != nil {
		return err
	}
	h, err := p.Check(keys...)
	c.Event, c.Head = &p.Event, headOf(h)
	return err
}

func (c *proofDocument) checkFolder(path string, keys []string) error {
	raw, err := os.ReadFile(filepath.Join(path, proofsName))
	if err != nil {
		return fileError(filepath.Join(path, proofsName), err)
	}
	p, err := audit.ParseProofs(raw)
	if err != nil {
		return err
	}
	d, err := checkpoint.FolderDigest(path)
	if err != nil {
		return err
	}
	h, origins, err := p.Check(string(d), keys...)
	c.Model, c.Head, c.Origins = string(d), headOf(h), origins
	return err
}

func (a *app) printProven(c proofDocument) {
	if c.Event != nil {
		fmt.Fprintf(a.out, "event %d of %s (%s by %s, %s) is in the record\n", c.Event.Sequence,
			escapeLine(c.Event.Stream), escapeLine(c.Event.Type), escapeLine(c.Event.Actor),
			c.Event.At.UTC().Format(time.RFC3339))
	}
	for _, o := range slices.Backward(c.Origins) {
		fmt.Fprintf(a.out, "%s  %s, by %s, %s\n", trimtab.Digest(o.Digest).Short(), escapeLine(o.What),
			escapeLine(o.Actor), o.At)
	}
	if c.Model != "" {
		fmt.Fprintf(a.out, "the files here are model %s\n", c.Model)
	}
	fmt.Fprintf(a.out, "all under the signed head of %d events, root %s", c.Head.Size, c.Head.Root)
	if c.Head.At != nil {
		fmt.Fprintf(a.out, ", %s", c.Head.At.Format(time.RFC3339))
	}
	fmt.Fprintln(a.out)
}
