// Package notary keeps the record honest: it adds events to the tree, signs
// the heads of the tree and puts them where a change of the database does not
// reach them, and it verifies the record against them.
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

// HeadInterval is how often a worker signs a head, beside the ends of stages.
const HeadInterval = time.Minute

// Notary signs the heads of one database's tree.
type Notary struct {
	log    *slog.Logger
	store  *storage.Store
	actor  string // who is told to have begun to use the key
	key    string // its file
	file   string // of heads, in the store
	copies []string
	client *http.Client

	mu     sync.Mutex
	signer *audit.Signer // once the key is open, and told to the record
	size   int64         // of the head that was signed last
}

// New makes a notary that signs with the key at a path, made if there is none,
// and keeps heads in the database, in a file and, as far as it can, in each of
// copies, which are folders, or addresses that a head is posted to. The disk may be full or read-only for now: the key
// is opened when it is needed.
func New(lg *slog.Logger, store *storage.Store, actor, key, file string, copies ...string) *Notary {
	return &Notary{log: lg, store: store, actor: actor, key: key, file: file, copies: copies,
		client: &http.Client{Timeout: 10 * time.Second}}
}

// Open opens the key and tells the record with which key heads are signed from now on, once for each key.
func (n *Notary) Open(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.open(ctx)
}

func (n *Notary) open(ctx context.Context) error {
	if n.signer != nil {
		return nil
	}
	signer, err := OpenKey(n.key)
	if err != nil {
		return err
	}
	told, err := n.store.HasEvent(ctx, Stream, "key_used", signer.Verifier())
	if err == nil && !told {
		err = n.store.RecordEvent(ctx, Stream, n.actor, "key_used", map[string]any{"verifier": signer.Verifier()})
	}
	if err == nil {
		n.signer = signer
	}
	return err
}

// SignHead signs the head of the tree if it has grown. A copy that cannot be made is
// an error in the log, and is made up for by the next head: each head stands for all before it.
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
	n.size = h.Size
	for _, where := range n.copies {
		if err := n.copy(ctx, where, signed); err != nil {
			n.log.Warn("a copy of the tree head could not be made", "where", redact.Address(where), "size", h.Size,
				"error", err)
		}
	}
	return nil
}

// Verify keeps a head at once, every minute until ctx ends, and once more then.
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

// trySign keeps a head; one that cannot be kept now is kept with the next.
func (n *Notary) trySign(ctx context.Context) {
	if err := n.SignHead(ctx, time.Now()); err != nil && ctx.Err() == nil {
		n.log.Warn("the tree head could not be kept", "error", err)
	}
}

// SignNow keeps a head beside the minutes, when a stage has ended.
func (n *Notary) SignNow(ctx context.Context) { n.trySign(ctx) }

// Stream is that of the events about the record itself.
const Stream = "audit"

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

// IsAddress tells an address from a folder.
func IsAddress(where string) bool {
	return strings.HasPrefix(where, "http://") || strings.HasPrefix(where, "https://")
}
