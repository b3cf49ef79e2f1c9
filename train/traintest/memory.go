package traintest

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"math"
	"reflect"
	"slices"
	"unsafe"

	"github.com/trimtab/trimtab/tensor"
)

// region is a half-open range of addresses. Trainers are alive while regions
// are compared, and Go's garbage collector does not move the heap, so an address
// identifies it.
type region struct{ from, to uintptr }

// stateRegions returns the memory of each array of a state.
func stateRegions(state []tensor.NamedArray) []region {
	list := make([]region, len(state))
	for i, a := range state {
		list[i] = regionOf(reflect.ValueOf(a.Data))
	}
	return list
}

// regionOf returns the memory of a slice's elements.
func regionOf(slice reflect.Value) region {
	from := slice.Pointer()
	return region{from, from + uintptr(slice.Len())*slice.Type().Elem().Size()}
}

// region returns the memory of a leaf; that of a slice is its elements.
func (l leaf) region() region {
	if l.value.Kind() == reflect.Slice {
		return regionOf(l.value)
	}
	if !l.value.CanAddr() {
		return region{}
	}
	from := l.value.UnsafeAddr()
	return region{from, from + l.value.Type().Size()}
}

// mergeRegions returns the union of a list: sorted, and with regions joined
// that overlap or touch.
func mergeRegions(list []region) []region {
	list = slices.DeleteFunc(slices.Clone(list), func(r region) bool { return r.from == r.to })
	slices.SortFunc(list, func(a, b region) int { return cmp.Compare(a.from, b.from) })
	var merged []region
	for _, r := range list {
		if n := len(merged); n > 0 && r.from <= merged[n-1].to {
			merged[n-1].to = max(merged[n-1].to, r.to)
		} else {
			merged = append(merged, r)
		}
	}
	return merged
}

// covered reports whether all of r is in the union of a list.
func covered(r region, list []region) bool {
	return slices.ContainsFunc(mergeRegions(list), func(m region) bool { return m.from <= r.from && r.to <= m.to })
}

// protected reports whether an address is in a list that mergeRegions returned.
func protected(address uintptr, merged []region) bool {
	i, ok := slices.BinarySearchFunc(merged, address, func(r region, address uintptr) int {
		return cmp.Compare(r.from, address)
	})
	return ok || i > 0 && address < merged[i-1].to
}

// scramble overwrites the numbers of a leaf, except in the regions to keep. Of
// a slice it also overwrites what lies between length and capacity, since a
// buffer that is resized would bring it back. Booleans, strings and lengths
// stay: they describe a buffer and are not its content.
func scramble(v reflect.Value, keep []region) {
	switch v.Kind() {
	case reflect.Slice:
		if v.Cap() == 0 || !plainData(v.Type().Elem()) {
			return
		}
		for i := range v.Cap() {
			scramble(v.Slice(0, v.Cap()).Index(i), keep)
		}
		return
	case reflect.Array:
		for i := range v.Len() {
			scramble(v.Index(i), keep)
		}
		return
	case reflect.Struct:
		for i := range v.NumField() {
			scramble(field(v, i), keep)
		}
		return
	}
	if !v.CanAddr() || protected(v.UnsafeAddr(), keep) {
		return
	}
	switch { // by values that would show if they were used
	case v.CanFloat():
		v.SetFloat(math.NaN())
	case v.CanInt():
		v.SetInt(-0x5a5a5a5a5a5a5a5b >> (64 - v.Type().Bits()))
	case v.CanUint():
		v.SetUint(0x5a5a5a5a5a5a5a5b >> (64 - v.Type().Bits()))
	}
}

// digest returns the SHA-256 of x and of everything that it refers to. Floats
// count by their bits, so that 0 and −0 differ.
func digest(x any) string { return digestOf(reflect.ValueOf(x)) }

// digestOf is digest of a reflected value, which may be an unexported field.
func digestOf(v reflect.Value) string {
	h := &hasher{Hash: sha256.New(), seen: map[unsafe.Pointer]bool{}}
	h.value(v)
	return fmt.Sprintf("%x", h.Sum(nil))
}

// hasher writes values to a hash, each with its kind or its length before it,
// so that different values do not write the same bytes.
type hasher struct {
	hash.Hash
	seen map[unsafe.Pointer]bool // pointers that are being followed, to end cycles
}

// number writes n in eight bytes.
func (h *hasher) number(n uint64) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], n)
	h.Write(b[:])
}

// value writes a value of any kind. Functions, channels and the like write
// their kind only.
func (h *hasher) value(v reflect.Value) {
	if !v.IsValid() {
		h.number(0)
		return
	}
	h.number(uint64(v.Kind()))
	switch v.Kind() {
	case reflect.Pointer:
		h.pointer(v)
	case reflect.Interface:
		h.value(v.Elem())
	case reflect.Struct:
		v = addressable(v)
		for i := range v.NumField() {
			h.value(field(v, i))
		}
	case reflect.Slice, reflect.Array:
		h.elements(v)
	case reflect.String:
		h.number(uint64(v.Len()))
		h.Write([]byte(v.String()))
	case reflect.Map:
		h.entries(v)
	case reflect.Bool:
		h.number(uint64(*(*uint8)(addressable(v).Addr().UnsafePointer())))
	default:
		h.scalar(v)
	}
}

// pointer writes what a pointer points to; nil and a pointer back to a value
// that is being written count as 0.
func (h *hasher) pointer(v reflect.Value) {
	address := v.UnsafePointer()
	if address == nil || h.seen[address] {
		h.number(0)
		return
	}
	h.seen[address] = true
	h.value(v.Elem())
	delete(h.seen, address)
}

// elements writes a slice or an array. Slices of float32, which are nearly all
// of a trainer's memory, are written in one piece.
func (h *hasher) elements(v reflect.Value) {
	n := v.Len()
	h.number(uint64(n))
	if v.Kind() == reflect.Slice && n > 0 && v.Type().Elem().Kind() == reflect.Float32 {
		h.Write(unsafe.Slice((*byte)(v.UnsafePointer()), 4*n))
		return
	}
	for i := range n {
		h.value(v.Index(i))
	}
}

// entries writes a map, its entries in the order of their digests, since a
// map's own order is random.
func (h *hasher) entries(v reflect.Value) {
	var list []string
	for it := v.MapRange(); it.Next(); {
		list = append(list, digestOf(it.Key())+digestOf(it.Value()))
	}
	slices.Sort(list)
	h.number(uint64(len(list)))
	for _, e := range list {
		h.Write([]byte(e))
	}
}

// scalar writes a number by its bits.
func (h *hasher) scalar(v reflect.Value) {
	switch {
	case v.CanInt():
		h.number(uint64(v.Int()))
	case v.CanUint():
		h.number(v.Uint())
	case v.CanFloat():
		h.number(math.Float64bits(v.Float()))
	}
}
