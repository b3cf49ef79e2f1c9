// Package aws stands in the place of the AWS SDK, which Temporal's server
// names for archives in S3 and for Elasticsearch. Trimtab-temporal has neither
// and never calls it: what is here lets the server's packages compile, and
// every call that could do something returns ErrLeftOut.
package aws

import (
	"context"
	"errors"
)

// ErrLeftOut is the error of every call.
var ErrLeftOut = errors.New("the AWS SDK is left out of trimtab-temporal")

// Config is what a client of the SDK is made from.
type Config struct{ Credentials CredentialsProvider }

// Credentials are empty.
type Credentials struct{ AccessKeyID, SecretAccessKey, SessionToken string }

// CredentialsProvider finds credentials.
type CredentialsProvider interface {
	Retrieve(ctx context.Context) (Credentials, error)
}

// ClientLogMode says what a client logs.
type ClientLogMode uint64

// Retryer says which errors are worth another try.
type Retryer interface {
	IsErrorRetryable(error) bool
}

// String returns the address of a copy of s.
func String(s string) *string { return &s }

// Int32 returns the address of a copy of n.
func Int32(n int32) *int32 { return &n }
