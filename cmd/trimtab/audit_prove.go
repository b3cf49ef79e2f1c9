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

// proofsName is the file in an exported model's folder that proves where the
// model came from.
const proofsName = "proofs.json"

// auditProveCmd is "trimtab audit prove": it prints a proof that an event is
// in the record, or checks one with --offline. Checking needs only the proof
// and the public key: no database, and no trust in the one who runs it.
func (a *app) auditProveCmd() *cobra.Command {
	var offline string
	var keys []string
	cmd := &cobra.Command{
		Use:   "prove [STREAM SEQUENCE]",
		Short: "prove that an event is in the record, or check a proof without a database", Args: argCount(0, 2),
		Long: `Print a proof, as a self-contained JSON document, that an event is in the record under the
newest signed head. With --offline, check such a file, or the folder of an exported model,
against its signed head; no database is needed. The folder's proofs show that the model's
digest is an output of an attempt, that the attempt's inputs are outputs of other attempts
or frozen data, and so on back to what was imported. A signed head is only as trustworthy
as the key: pass the key that you trust with --key; the default is the data folder's own.`,
		Example: `  trimtab audit prove my-run 12 > proof.json
  trimtab audit prove --offline proof.json
  trimtab audit prove --offline ./my-model --key "$(cat key.txt)"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if offline != "" {
				if len(args) > 0 {
					return usagef("leave the arguments out", "--offline takes a file or a folder, and no arguments")
				}
				return a.checkProof(offline, keys)
			}
			if len(args) != 2 {
				return usagef("give a stream and a sequence number, as `trimtab audit log` lists them",
					"audit prove needs an event: got %s", plural(len(args), "argument"))
			}
			n, err := strconv.ParseInt(args[1], 10, 64)
			if err != nil || n < 1 {
				return usagef("give a whole number, 1 or more", "%q is not a sequence number", args[1])
			}
			return a.withStore(cmd, func(ctx context.Context, s *session) error {
				// The newest head may be older than the event: sign one that
				// covers it.
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
		"public key to verify the head with (default: the data folder's; may be repeated)")
	return cmd
}

// writeProofs writes the proofs of a model into its exported folder, beside
// its files, and reports whether it did. A model that cannot be proved yet,
// because no head has been signed since it was recorded, is exported all the
// same. The proofs name the key of this data folder, if it is here, for
// convenience: a reader who trusts the key in the file trusts its author.
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

// printJSON writes v as indented JSON whatever -o says: a proof has one form,
// in which it is kept in a file and checked years later.
func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// proofDocument is what a valid proof shows: an event, or a model with its
// origins, under a signed head.
type proofDocument struct {
	Schema string `json:"schema"`
	// Model is the digest computed from the files in the folder.
	Model string `json:"model,omitempty"`
	// Event is the proved event, for the proof of an event.
	Event *audit.Event `json:"event,omitempty"`
	// Head is the signed head that everything was proved under.
	Head *headDocument `json:"head"`
	// Origins are the model and all that it was made from, the model first.
	Origins []audit.Origin `json:"origins,omitempty"`
}

// checkProof checks the proof in a file, or the proofs in an exported model's
// folder, without a database. A proof that does not hold is exit code 5.
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
		// Errors about the file or the key keep their exit code. All others
		// mean that the proof does not hold.
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

// checkFile checks a file that audit prove printed: the event's hash, its
// inclusion in the tree under the head, and the head's signature.
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

// checkFolder computes the digest of a model's folder and checks that its
// proofs lead from that digest, attempt by attempt, to imported models and
// frozen data, all under one signed head. Papers in the folder do not count:
// they are not part of the model.
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

// printProven prints what a valid proof shows; the origins of a model from
// the imported ones down to the model itself.
func (a *app) printProven(c proofDocument) {
	if c.Event != nil {
		fmt.Fprintf(a.out, "event %d of %s (%s by %s, %s) is in the record\n", c.Event.Sequence,
			escapeLine(c.Event.Stream), escapeLine(string(c.Event.Type)), escapeLine(c.Event.Actor),
			c.Event.At.UTC().Format(time.RFC3339))
	}
	for _, o := range slices.Backward(c.Origins) {
		fmt.Fprintf(a.out, "%s  %s, by %s, %s\n", trimtab.Digest(o.Digest).Short(), escapeLine(o.What),
			escapeLine(o.Actor), o.At)
	}
	if c.Model != "" {
		fmt.Fprintf(a.out, "the files here are model %s\n", c.Model)
	}
	// The head is the last line: compare its root with a copy kept elsewhere.
	fmt.Fprintf(a.out, "all under the signed head of %d events, root %s", c.Head.Size, c.Head.Root)
	if c.Head.At != nil {
		fmt.Fprintf(a.out, ", %s", c.Head.At.Format(time.RFC3339))
	}
	fmt.Fprintln(a.out)
}
