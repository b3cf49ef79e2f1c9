// Package types holds what answers of S3 are made of.
package types

// CommonPrefix is a folder of a listing.
type CommonPrefix struct{ Prefix *string }

// Object is a file of a listing.
type Object struct{ Key *string }

// NoSuchBucket is the error for a bucket that does not exist.
type NoSuchBucket struct{}

func (*NoSuchBucket) Error() string { return "no such bucket" }

// NoSuchKey is the error for a file that does not exist.
type NoSuchKey struct{}

func (*NoSuchKey) Error() string { return "no such key" }
