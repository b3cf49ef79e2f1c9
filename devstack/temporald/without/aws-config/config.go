// Package config is the part of the AWS SDK that reads its configuration: it
// finds none.
package config

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// LoadOptions are what options of LoadDefaultConfig would set.
type LoadOptions struct{}

// LoadOptionsFunc is an option of LoadDefaultConfig.
type LoadOptionsFunc func(*LoadOptions) error

// EnvConfig is what the environment says.
type EnvConfig struct{ Credentials aws.Credentials }

// NewEnvConfig returns aws.ErrLeftOut.
func NewEnvConfig() (EnvConfig, error) { return EnvConfig{}, aws.ErrLeftOut }

// LoadDefaultConfig returns aws.ErrLeftOut.
func LoadDefaultConfig(context.Context, ...LoadOptionsFunc) (aws.Config, error) {
	return aws.Config{}, aws.ErrLeftOut
}

// WithRegion is an option that does nothing.
func WithRegion(string) LoadOptionsFunc { return nil }

// WithClientLogMode is an option that does nothing.
func WithClientLogMode(aws.ClientLogMode) LoadOptionsFunc { return nil }
