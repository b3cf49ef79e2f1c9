// Package retry is the part of the AWS SDK that decides on retries: none.
package retry

// Standard retries nothing.
type Standard struct{}

// NewStandard returns a Standard.
func NewStandard() *Standard { return &Standard{} }

// IsErrorRetryable is always false.
func (*Standard) IsErrorRetryable(error) bool { return false }
