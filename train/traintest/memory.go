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

// region is some bytes of memory.
type region struct{ from, to uintptr }

// stateRegions of the arrays of a state.
func stateRegions(state []tensor.NamedArray) []region {
	list := make([]region, len(state))
	for i, a := range state {
		list[i] = regionOf(reflect.ValueOf(a.Data))
	}
	return list
}

func regionOf(slice reflect.Value) region {
	from := slice.Pointer()
	return region{from, from + uintptr(slice.Len())*slice.Type().Elem().Size()}
}

// stateRegions of a leaf: of a slice its elements.
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

// mergeRegions sorts regions and joins those that touch.
func mergeRegions(list []region) []region {
	list = slices.DeleteFunc(slices.Clone(list), func(r region) bool { return r.from == r.to })
	slices.SortFunc(list, func(a, b region) int { return cmp.Compare(a.from, b.from) })
	var all []region
	for _, r := range list {
		if n := len(all); n > 0 && r.from <= all[n-1].to {
			all[n-1].to = max(all[n-1].to, r.to)
		} else {
			all = append(all, r)
		}
	}
	return all
}

// covered says that all of r lies in the list.
func covered(r region, list []region) bool {
	return slices.ContainsFunc(mergeRegions(list), func(a region) bool { return a.from <= r.from && r.to <= a.to })
}

// protected says that an address is in the merged list.
func protected(at uintptr, keep []region) bool {
	i, ok := slices.BinarySearchFunc(keep, at, func(r region, at uintptr) int { return cmp.Compare(r.from, at) })
	return ok || i > 0 && at < keep[i-1].to
}

// scramble overwrites the numbers of a leaf, those between a slice's length and
// its capacity too, but for what is kept. Truths, texts and lengths stay: they
// say what a buffer is and not what is in it.
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
	switch {
	case v.CanFloat():
		v.SetFloat(math.NaN())
	case v.CanInt():
		v.SetInt(-0x5a5a5a5a5a5a5a5b >> (64 - v.Type().Bits()))
	case v.CanUint():
		v.SetUint(0x5a5a5a5a5a5a5a5b >> (64 - v.Type().Bits()))
	}
}

// digest of all that x leads to, floats by their bits.
func digest(x any) string { return digestOf(reflect.ValueOf(x)) }

func digestOf(v reflect.Value) string {
	h := &hasher{Hash: sha256.New(), seen: map[unsafe.Pointer]bool{}}
	h.value(v)
	return fmt.Sprintf("%x", h.Sum(nil))
}

type hasher struct {
	hash.Hash
	seen map[unsafe.Pointer]bool // pointers on the way
}

func (h *hasher) number(n uint64) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], n)
	h.Write(b[:])
}

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

func (h *hasher) pointer(v reflect.Value) {
	at := v.UnsafePointer()
	if at == nil || h.seen[at] {
		h.number(0)
		return
	}
	h.seen[at] = true
	h.value(v.Elem())
	delete(h.seen, at)
}

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

// entries of a map, in the order of their hashes.
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
