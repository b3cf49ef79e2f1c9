package trimtab

import (
	"bytes"
	"encoding/json"
)

// EncodeJSON returns v as compact JSON in the form of everything that Trimtab
// stores or hashes: the keys of maps in sorted order, the fields of structs in
// the order of their declaration, no HTML escapes (<, > and & stand as they
// are), and no final newline. Equal values give equal bytes.
//
// Bytes made by this function are in databases and behind digests: any change
// to it is a change of format.
func EncodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// CanonicalJSON is EncodeJSON with the keys of every object sorted, those of
// structs too. Moving a field of a struct therefore does not change the digest
// of a config. Numbers keep their digits.
func CanonicalJSON(v any) ([]byte, error) {
	raw, err := EncodeJSON(v)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber() // a float64 would lose digits of a 64-bit seed
	var tree any
	if err := dec.Decode(&tree); err != nil {
		return nil, err
	}
	return EncodeJSON(tree)
}

// mustEncodeJSON is EncodeJSON of a value of strings and integers, which always
// encodes.
func mustEncodeJSON(v any) []byte {
	raw, err := EncodeJSON(v)
	if err != nil {
		panic("trimtab: encode JSON: " + err.Error())
	}
	return raw
}
