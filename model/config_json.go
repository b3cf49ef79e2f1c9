package model

import "encoding/json"

// ConfigReader reads the fields of a config.json and remembers which of them were asked for.
type ConfigReader struct {
	fields map[string]json.RawMessage
	used   map[string]bool
	err    error
}
