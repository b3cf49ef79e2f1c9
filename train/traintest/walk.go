package traintest

import (
	"fmt"
	"reflect"
	"slices"
	"unsafe"
)

// fieldWalk is the result of walking all fields of a trainer at one moment.
type fieldWalk struct {
	fields Fields          // the table
	shared []reflect.Type  // types that are compared by identity
	used   map[string]bool // lines of the table that matched a field
	seen   map[visit]bool
	leaves []leaf // in the order of the walk
	links  []link

	identityDigests map[string]string // digests of the inputs by path, with identities
	inputDigests    map[string]string // the same without identities
}

// leaf is a value that the walk does not descend into: a number, a string, a
// map, a slice of numbers, a shared value, or an empty or nil value of a type
// that could have fields.
type leaf struct {
	path   string
	class  Class // "" where the table has no line for it
	value  reflect.Value
	shared bool // only the identity is compared
}

// link is a pointer or a slice that leads to fields with lines of their own. It
// has no class, but it must not point elsewhere after the steps.
type link struct {
	path    string
	address uintptr
	length  int
}

// visit identifies a place in memory that was walked with a class. The same
// place can be reached with two classes, and is then walked twice.
type visit struct {
	address unsafe.Pointer
	typ     reflect.Type
	class   Class
}

// walk descends into v. Its class is that of the table's line for path, or else
// the class inherited from the field above.
func (w *fieldWalk) walk(path string, v reflect.Value, class Class) {
	if own, ok := w.fields[path]; ok {
		w.used[path] = true
		class = own
	}
	if slices.Contains(w.shared, v.Type()) || comparedByIdentity(v.Kind()) {
		w.leaves = append(w.leaves, leaf{path, class, v, true})
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			w.addLeaf(path, v, class)
		} else if w.firstVisit(v.UnsafePointer(), v.Type(), class) {
			w.addLink(path, v.Pointer(), 1, class)
			w.walk(path, v.Elem(), class)
		}
	case reflect.Interface:
		if v.IsNil() {
			w.addLeaf(path, v, class)
		} else {
			w.walk(path, addressable(v.Elem()), class)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if name := v.Type().Field(i).Name; name != "_" {
				w.walk(join(path, name), field(v, i), class)
			}
		}
	case reflect.Slice, reflect.Array:
		w.walkElements(path, v, class)
	default:
		w.addLeaf(path, v, class)
	}
}

// walkElements descends into the elements of a slice or an array. One of plain
// data is a leaf.
func (w *fieldWalk) walkElements(path string, v reflect.Value, class Class) {
	if v.Len() == 0 || plainData(v.Type().Elem()) {
		w.addLeaf(path, v, class)
		return
	}
	if v.Kind() == reflect.Slice {
		if !w.firstVisit(v.UnsafePointer(), v.Type(), class) {
			return
		}
		w.addLink(path, v.Pointer(), v.Len(), class)
	}
	for i := range v.Len() {
		w.walk(path+"[]", v.Index(i), class)
	}
}

// addLeaf records a leaf that is not shared.
func (w *fieldWalk) addLeaf(path string, v reflect.Value, class Class) {
	w.leaves = append(w.leaves, leaf{path: path, class: class, value: v})
}

// addLink records a pointer or slice on the way to fields. One that a line of
// the table covers belongs to its class, and the root is the trainer itself.
func (w *fieldWalk) addLink(path string, address uintptr, length int, class Class) {
	if class == "" && path != "" {
		w.links = append(w.links, link{path, address, length})
	}
}

// firstVisit records a place and reports whether it is new, so that cyclic data
// ends the walk.
func (w *fieldWalk) firstVisit(address unsafe.Pointer, typ reflect.Type, class Class) bool {
	v := visit{address, typ, class}
	seen := w.seen[v]
	w.seen[v] = true
	return !seen
}

// field returns field i of the struct v. Going through its address lifts
// reflect's protection of unexported fields.
func field(v reflect.Value, i int) reflect.Value {
	f := v.Field(i)
	return reflect.NewAt(f.Type(), unsafe.Pointer(f.UnsafeAddr())).Elem()
}

// addressable returns v, or a copy of it that has an address.
func addressable(v reflect.Value) reflect.Value {
	if v.CanAddr() {
		return v
	}
	c := reflect.New(v.Type()).Elem()
	c.Set(v)
	return c
}

// comparedByIdentity reports whether values of a kind have nothing to compare
// but their identity.
func comparedByIdentity(k reflect.Kind) bool {
	return k == reflect.Func || k == reflect.Chan || k == reflect.UnsafePointer
}

// plainData reports whether a type consists of numbers and booleans only, with
// no reference to other memory.
func plainData(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Struct:
		for i := range t.NumField() {
			if !plainData(t.Field(i).Type) {
				return false
			}
		}
		return true
	case reflect.Array:
		return plainData(t.Elem())
	case reflect.String, reflect.Pointer, reflect.Interface, reflect.Slice, reflect.Map:
		return false
	}
	return !comparedByIdentity(t.Kind())
}

// empty reports whether a leaf is nil or of length 0.
func (l leaf) empty() bool {
	switch l.value.Kind() {
	case reflect.Slice, reflect.Map, reflect.Array, reflect.String:
		return l.value.Len() == 0
	case reflect.Pointer, reflect.Interface:
		return l.value.IsNil()
	}
	return false
}

// identity returns a string that distinguishes a shared value from others.
func (l leaf) identity() string {
	switch l.value.Kind() {
	case reflect.Func: // the address of the closure; Pointer would give that of its code
		return fmt.Sprint(*(*uintptr)(l.value.Addr().UnsafePointer()))
	case reflect.Pointer, reflect.Chan, reflect.UnsafePointer, reflect.Map, reflect.Slice:
		return fmt.Sprint(l.value.Pointer())
	}
	return digestOf(l.value)
}
