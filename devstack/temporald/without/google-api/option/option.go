// Package option is the part of Google's API client that configures it: its
// options do nothing.
package option

import "golang.org/x/oauth2"

// ClientOption configures a client.
type ClientOption interface{ none() }

// WithTokenSource is an option that does nothing.
func WithTokenSource(oauth2.TokenSource) ClientOption { return nil }
