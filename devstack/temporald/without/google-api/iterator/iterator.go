// Package iterator is the part of Google's API client that ends listings.
package iterator

import "errors"

// Done is the error at the end of a listing.
var Done = errors.New("no more items in iterator")
