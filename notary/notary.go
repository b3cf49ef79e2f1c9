// Package notary signs the record and verifies it. A Notary, which runs in
// every worker, adds events to the Merkle tree, signs the tree's heads, and
// puts them where a change of the database does not reach them:
//
//	table tree_head        for verification by everybody who reads
//	STORE/tree-heads.jsonl with the files of the checkpoint store
//	copies                 other folders, and addresses that a head is posted to
//
// A Verifier compares the whole record with the heads: schema and rights, the
// chains of events, the tree, the rows that events recorded, and the files of
// models and checkpoints. Anybody with a head from outside of the database can
// detect a change of anything under it, also one by the database's owner.
//
// What is hashed, and how, is defined in package audit.
package notary

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/audit"
	"github.com/trimtab/trimtab/redact"
	"github.com/trimtab/trimtab/storage"
)

// HeadInterval is how often a worker signs a head. It also signs one whenever a
// stage ends.
const HeadInterval = time.Minute

// Notary signs the heads of one database's tree. It is safe for concurrent
// use.
type Notary struct {
	log   *slog.Logger
	store *storage.Store
	// actor is recorded as the one who uses the key.
	actor string
	// key is the path of the signing key, file that of the signed heads in the
	// checkpoint store.
	key  string
	file string
	// copies are folders and addresses.
	copies []string
	client *http.Client

	// mu serializes signing: heads are appended in order of size.
	mu sync.Mutex
	// signer is nil until the key is open and its use is recorded.
	signer *audit.Signer
	// size is that of the last signed head.
	size int64
}

// New makes a notary that signs with the key in the file key, which is made
// if there is none, and appends heads to the database, to file, and, as far
// as possible, to each of copies: folders, or http addresses that a head is
// posted to. Nothing is opened yet, since the disk may be full or read-only
// for now.
func New(lg *slog.Logger, store *storage.Store, actor, key, file string, copies ...string) *Notary {
	return &Notary{log: lg, store: store, actor: actor, key: key, file: file, copies: copies,
		client: &http.Client{Timeout: 10 * time.Second}}
}

// Open opens the key and records, once for each key, with which one heads are
// signed from now on. Signing opens it as well; Open reports errors early.
func (n *Notary) Open(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.open(ctx)
}

// open is Open with the mutex held.
func (n *Notary) open(ctx context.Context) error {
	if n.signer != nil {
		return nil
	}
	signer, err := OpenKey(n.key)
	if err != nil {
		return err
	}
	// The record says from when each key was used, so that a head under a key
	// that it does not mention is conspicuous.
	recorded, err := n.store.HasEvent(ctx, Stream, trimtab.EventKeyUsed, signer.Verifier())
	if err == nil && !recorded {
		body := map[string]any{"verifier": signer.Verifier()}
		err = n.store.RecordEvent(ctx, Stream, n.actor, trimtab.EventKeyUsed, body)
	}
	if err == nil {
		n.signer = signer
	}
	return err
}

// SignHead adds new events to the tree and, if it has grown since the last
// head, signs its head and stores it. A copy that cannot be written is logged
// and not retried: the next head covers everything that this one does.
func (n *Notary) SignHead(ctx context.Context, now time.Time) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.open(ctx); err != nil {
		return err
	}
	h, err := n.store.Seal(ctx)
	if err != nil || h.Size == n.size || h.Size == 0 {
		return err
	}
	h.At = now
	signed, err := n.signer.Sign(h)
	if err != nil {
		return err
	}
	// first: a head that is missing there was taken out
	if err := n.store.PutTreeHead(ctx, h.Size, signed); err != nil {
		return err
	}
	if err := appendHead(n.file, signed); err != nil {
		return fmt.Errorf("keep the tree head in the store: %w", err)
	}
	// Copies come last and may fail: the head is safe by now.
	n.size = h.Size
	for _, where := range n.copies {
		if err := n.copy(ctx, where, signed); err != nil {
			n.log.Warn("a copy of the tree head could not be made", "where", redact.Address(where), "size", h.Size,
				"error", err)
		}
	}
	return nil
}

// Run signs a head at once, then at every HeadInterval until ctx ends, and a
// last one after that.
func (n *Notary) Run(ctx context.Context) {
	n.trySign(ctx) // so that a record is never long without a head
	tick := time.NewTicker(HeadInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			n.trySign(last)
			cancel()
			return
		case <-tick.C:
			n.trySign(ctx)
		}
	}
}

// trySign signs a head; if that fails now, the next head makes up for it.
func (n *Notary) trySign(ctx context.Context) {
	if err := n.SignHead(ctx, time.Now()); err != nil && ctx.Err() == nil {
		n.log.Warn("the tree head could not be kept", "error", err)
	}
}

// SignNow signs a head out of turn, when a stage has ended. Errors are
// logged.
func (n *Notary) SignNow(ctx context.Context) { n.trySign(ctx) }

// Stream is the stream of the events about the record itself.
const Stream = "audit"

// copy appends a head to a folder's file, or posts it to an address as text.
func (n *Notary) copy(ctx context.Context, where, signed string) error {
	if !IsAddress(where) {
		return appendHead(HeadsIn(where), signed)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, where, strings.NewReader(signed))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "text/plain; charset=utf-8")
	resp, err := n.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return trimtab.NewError(trimtab.Unavailable, "copy_refused", "", "%s answers %s", redact.Address(where),
			resp.Status)
	}
	return nil
}

// IsAddress distinguishes an address for copies from a folder.
func IsAddress(where string) bool {
	return strings.HasPrefix(where, "http://") || strings.HasPrefix(where, "https://")
}
