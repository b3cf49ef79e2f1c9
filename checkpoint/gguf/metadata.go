package gguf

import (
	"fmt"
	"math"
	"reflect"
	"slices"

	"github.com/trimtab/trimtab"
)

// KeyValue is one entry of a file's metadata. Value is a bool, string, uint8,
// int8, uint16, int16, uint32, int32, uint64, int64, float32 or float64, or a
// slice of one of them.
type KeyValue struct {
	Key   string
	Value any
}

// Metadata is what a file says about itself, in the order of the file. Its getters
// give the error gguf_key if a key is absent or of another type.
type Metadata struct {
	entries []KeyValue
	index   map[string]int
}

// Entries returns all keys and values in the order of the file. The slices among
// the values are the metadata's own and must not be changed.
func (m *Metadata) Entries() []KeyValue { return slices.Clone(m.entries) }

// Keys returns the keys in the order of the file.
func (m *Metadata) Keys() []string {
	keys := make([]string, len(m.entries))
	for i, e := range m.entries {
		keys[i] = e.Key
	}
	return keys
}

// Has reports whether there is such a key.
func (m *Metadata) Has(key string) bool { _, ok := m.index[key]; return ok }

// Value returns a value as KeyValue has it.
func (m *Metadata) Value(key string) (any, error) {
	i, ok := m.index[key]
	if !ok {
		return nil, keyError("the metadata has no key %.80q", key)
	}
	return m.entries[i].Value, nil
}

// String returns a string.
func (m *Metadata) String(key string) (string, error) { return get[string](m, key, "a string") }

// Bool returns a truth value.
func (m *Metadata) Bool(key string) (bool, error) { return get[bool](m, key, "a bool") }

// Strings returns an array of strings, which must not be changed.
func (m *Metadata) Strings(key string) ([]string, error) {
	return get[[]string](m, key, "an array of strings")
}

// Bools returns an array of truth values, which must not be changed.
func (m *Metadata) Bools(key string) ([]bool, error) { return get[[]bool](m, key, "an array of bools") }

// Uint returns an integer of any of the integer types. A negative one is an error.
func (m *Metadata) Uint(key string) (uint64, error) {
	return convert(m, key, "an integer that is not negative", toUint)
}

// Int returns an integer of any of the integer types. One above 2⁶³−1 is an error.
func (m *Metadata) Int(key string) (int64, error) { return convert(m, key, "an integer", toInt) }

// Float returns a float32, widened, or a float64.
func (m *Metadata) Float(key string) (float64, error) { return convert(m, key, "a float", toFloat) }

// Ints returns an array of integers of any of the integer types.
func (m *Metadata) Ints(key string) ([]int64, error) { return convertAll(m, key, "integers", toInt) }

// Floats returns an array of float32, widened, or of float64.
func (m *Metadata) Floats(key string) ([]float64, error) {
	return convertAll(m, key, "floats", toFloat)
}

// get returns the value of a key if it is a T.
func get[T any](m *Metadata, key, want string) (T, error) {
	var zero T
	v, err := m.Value(key)
	if err != nil {
		return zero, err
	}
	if v, ok := v.(T); ok {
		return v, nil
	}
	return zero, mismatchError(key, v, want)
}

// convert returns the value of a key if it can be converted.
func convert[T any](m *Metadata, key, want string, to func(reflect.Value) (T, bool)) (T, error) {
	var zero T
	v, err := m.Value(key)
	if err != nil {
		return zero, err
	}
	if t, ok := to(reflect.ValueOf(v)); ok {
		return t, nil
	}
	return zero, mismatchError(key, v, want)
}

// convertAll returns the array of a key if every element can be converted.
func convertAll[T any](m *Metadata, key, want string, to func(reflect.Value) (T, bool)) ([]T, error) {
	v, err := m.Value(key)
	if err != nil {
		return nil, err
	}
	array := reflect.ValueOf(v)
	if _, ok := to(zeroElement(array)); !ok {
		return nil, mismatchError(key, v, "an array of "+want)
	}
	out := make([]T, array.Len())
	for i := range out {
		var ok bool
		if out[i], ok = to(array.Index(i)); !ok {
			return nil, keyError("element %d of the metadata key %.80q is %v, which is out of range", i, key,
				array.Index(i))
		}
	}
	return out, nil
}

// zeroElement is the zero of an array's elements, and the zero Value for what is
// no array.
func zeroElement(array reflect.Value) reflect.Value {
	if array.Kind() != reflect.Slice {
		return reflect.Value{}
	}
	return reflect.Zero(array.Type().Elem())
}

func toUint(v reflect.Value) (uint64, bool) {
	switch {
	case v.CanUint():
		return v.Uint(), true
	case v.CanInt() && v.Int() >= 0:
		return uint64(v.Int()), true
	}
	return 0, false
}

func toInt(v reflect.Value) (int64, bool) {
	switch {
	case v.CanInt():
		return v.Int(), true
	case v.CanUint() && v.Uint() <= math.MaxInt64:
		return int64(v.Uint()), true
	}
	return 0, false
}

func toFloat(v reflect.Value) (float64, bool) {
	if !v.CanFloat() {
		return 0, false
	}
	return v.Float(), true
}

// mismatchError says what a key is and what it has to be.
func mismatchError(key string, v any, want string) error {
	if array := reflect.ValueOf(v); array.Kind() == reflect.Slice {
		return keyError("the metadata key %.80q is an array of %d %s, where %s was expected", key, array.Len(),
			array.Type().Elem(), want)
	}
	text := fmt.Sprint(v)
	if len(text) > 80 {
		text = text[:80] + "…"
	}
	return keyError("the metadata key %.80q is %q, a %T, where %s was expected", key, text, v, want)
}

func keyError(format string, args ...any) error {
	return trimtab.NewError(trimtab.Invalid, "gguf_key", "convert the model again with a current converter",
		format, args...)
}

// alignmentKey sets the alignment, a uint32.
const (
	alignmentKey     = "general.alignment"
	defaultAlignment = 32
)

// alignment returns the alignment of the data: a power of two, as ggml requires.
func (m *Metadata) alignment() (int64, error) {
	if !m.Has(alignmentKey) {
		return defaultAlignment, nil
	}
	n, err := get[uint32](m, alignmentKey, "a uint32")
	if err == nil && (n == 0 || n&(n-1) != 0) {
		err = keyError("the metadata key %q is %d, which is not a power of two", alignmentKey, n)
	}
	return int64(n), err
}

// padding is the number of bytes from n to the next multiple of a power of two.
func padding(n, alignment int64) int64 { return -n & (alignment - 1) }
