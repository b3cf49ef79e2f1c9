// Package smithy is the part of the AWS SDK that names its errors.
package smithy

// APIError is an error with a code.
type APIError interface {
	error
	ErrorCode() string
}
