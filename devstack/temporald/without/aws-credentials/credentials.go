// Package credentials is the part of the AWS SDK that keeps credentials: it
// keeps none.
package credentials

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// StaticCredentialsProvider provides nothing.
type StaticCredentialsProvider struct{}

// NewStaticCredentialsProvider returns a StaticCredentialsProvider.
func NewStaticCredentialsProvider(key, secret, session string) StaticCredentialsProvider {
	return StaticCredentialsProvider{}
}

// Retrieve returns aws.ErrLeftOut.
func (StaticCredentialsProvider) Retrieve(context.Context) (aws.Credentials, error) {
	return aws.Credentials{}, aws.ErrLeftOut
}
