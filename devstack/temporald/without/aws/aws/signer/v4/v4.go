// Package v4 is the part of the AWS SDK that signs requests: it refuses to.
package v4

import (
	"context"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// Signer signs nothing.
type Signer struct{}

// NewSigner returns a Signer.
func NewSigner() *Signer { return &Signer{} }

// SignHTTP returns aws.ErrLeftOut.
func (*Signer) SignHTTP(context.Context, aws.Credentials, *http.Request, string, string, string, time.Time) error {
	return aws.ErrLeftOut
}
