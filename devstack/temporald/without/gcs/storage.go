// Package storage stands in the place of the Google Cloud Storage client,
// which Temporal's server names for archives. Trimtab-temporal has none and
// never calls it: NewClient returns ErrLeftOut, as does all that would follow.
package storage

import (
	"context"
	"errors"

	"google.golang.org/api/option"
)

// ErrLeftOut is the error of every call.
var ErrLeftOut = errors.New("the Google Cloud client is left out of trimtab-temporal")

// ScopeFullControl is a scope of access.
const ScopeFullControl = "https://www.googleapis.com/auth/devstorage.full_control"

// What the client works on.
type (
	Client         struct{}
	BucketHandle   struct{}
	BucketAttrs    struct{}
	ObjectHandle   struct{}
	ObjectAttrs    struct{ Name string }
	ObjectIterator struct{}
	Query          struct{ Prefix string }
	Reader         struct{}
	Writer         struct{}
)

// NewClient returns ErrLeftOut.
func NewClient(context.Context, ...option.ClientOption) (*Client, error) { return nil, ErrLeftOut }

// Bucket returns a handle on nothing.
func (*Client) Bucket(string) *BucketHandle { return &BucketHandle{} }

// Attrs returns ErrLeftOut.
func (*BucketHandle) Attrs(context.Context) (*BucketAttrs, error) { return nil, ErrLeftOut }

// Object returns a handle on nothing.
func (*BucketHandle) Object(string) *ObjectHandle { return &ObjectHandle{} }

// Objects returns an iterator that fails.
func (*BucketHandle) Objects(context.Context, *Query) *ObjectIterator { return &ObjectIterator{} }

// Next returns ErrLeftOut.
func (*ObjectIterator) Next() (*ObjectAttrs, error) { return nil, ErrLeftOut }

// Attrs returns ErrLeftOut.
func (*ObjectHandle) Attrs(context.Context) (*ObjectAttrs, error) { return nil, ErrLeftOut }

// NewReader returns ErrLeftOut.
func (*ObjectHandle) NewReader(context.Context) (*Reader, error) { return nil, ErrLeftOut }

// NewWriter returns a writer that fails.
func (*ObjectHandle) NewWriter(context.Context) *Writer { return &Writer{} }

// Read returns ErrLeftOut.
func (*Reader) Read([]byte) (int, error) { return 0, ErrLeftOut }

// Close does nothing.
func (*Reader) Close() error { return nil }

// Write returns ErrLeftOut.
func (*Writer) Write([]byte) (int, error) { return 0, ErrLeftOut }

// Close returns ErrLeftOut.
func (*Writer) Close() error { return ErrLeftOut }

// CloseWithError does nothing.
func (*Writer) CloseWithError(error) error { return nil }
