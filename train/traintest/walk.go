package traintest

import (
	"fmt"
	"reflect"
	"slices"
	"unsafe"
)

// fieldWalk is what a walk over a trainer has met.
type fieldWalk struct {
	fields Fields
	shared []reflect.Type
	used   map[string]bool // lines
	seen   map[visit]bool
	leaves []leaf
	links  []link

	identityDigests, inputDigests map[string]string // digests of the inputs, with identities and without
}

// addLeaf is a field without fields of its own: a number, a text, a map, a slice
// of numbers, or nothing where there might be more.
type leaf struct {
	path   string
	class  Class
	value  reflect.Value
	shared bool // only the identity counts
}

// link is a pointer or a slice on the way to fields that have lines of their own.
type link struct {
	path   string
	at     uintptr
	length int
}

// visit is a place that was walked already, as a class.
type visit struct {
	at    unsafe.Pointer
	typ   reflect.Type
	class Class
}

// walk goes through v, whose class is that of the longest line above it or a line of its own.
func (s *fieldWalk) walk(path string, v reflect.Value, class Class) {
	if own, ok := s.fields[path]; ok {
		s.used[path], class = true, own
	}
	if slices.Contains(s.shared, v.Type()) || comparedByIdentity(v.Kind()) {
		s.leaves = append(s.leaves, leaf{path, class, v, true})
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			s.addLeaf(path, v, class)
		} else if s.firstVisit(v.UnsafePointer(), v.Type(), class) {
			s.addLink(path, v.Pointer(), 1, class)
			s.walk(path, v.Elem(), class)
		}
	case reflect.Interface:
		if v.IsNil() {
			s.addLeaf(path, v, class)
		} else {
			s.walk(path, addressable(v.Elem()), class)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if name := v.Type().Field(i).Name; name != "_" {
				s.walk(join(path, name), field(v, i), class)
			}
		}
	case reflect.Slice, reflect.Array:
		s.elements(path, v, class)
	default:
		s.addLeaf(path, v, class)
	}
}

// elements walks a slice or an array, or takes it whole where its elements are mere numbers.
func (s *fieldWalk) elements(path string, v reflect.Value, class Class) {
	if v.Len() == 0 || plainData(v.Type().Elem()) {
		s.addLeaf(path, v, class)
		return
	}
	if v.Kind() == reflect.Slice {
		if !s.firstVisit(v.UnsafePointer(), v.Type(), class) {
			return
		}
		s.addLink(path, v.Pointer(), v.Len(), class)
	}
	for i := range v.Len() {
		s.walk(path+"[]", v.Index(i), class)
	}
}

func (s *fieldWalk) addLeaf(path string, v reflect.Value, class Class) {
	s.leaves = append(s.leaves, leaf{path: path, class: class, value: v})
}

func (s *fieldWalk) addLink(path string, at uintptr, length int, class Class) {
	if class == "" && path != "" {
		s.links = append(s.links, link{path, at, length})
	}
}

// firstVisit notes a place and says whether it is new.
func (s *fieldWalk) firstVisit(at unsafe.Pointer, typ reflect.Type, class Class) bool {
	v := visit{at, typ, class}
	seen := s.seen[v]
	s.seen[v] = true
	return !seen
}

// field i of v, unexported ones too.
func field(v reflect.Value, i int) reflect.Value {
	f := v.Field(i)
	return reflect.NewAt(f.Type(), unsafe.Pointer(f.UnsafeAddr())).Elem()
}

// addressable is v, or a copy of it that has an address.
func addressable(v reflect.Value) reflect.Value {
	if v.CanAddr() {
		return v
	}
	c := reflect.New(v.Type()).Elem()
	c.Set(v)
	return c
}

// comparedByIdentity says that values of a kind are told apart by identity alone.
func comparedByIdentity(k reflect.Kind) bool {
	return k == reflect.Func || k == reflect.Chan || k == reflect.UnsafePointer
}

// plainData says that values of a type are numbers and truths only, at a fixed place.
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

// empty says that there is nothing in a leaf.
func (l leaf) empty() bool {
	switch l.value.Kind() {
	case reflect.Slice, reflect.Map, reflect.Array, reflect.String:
		return l.value.Len() == 0
	case reflect.Pointer, reflect.Interface:
		return l.value.IsNil()
	}
	return false
}

// identity tells a shared value from another one.
func (l leaf) identity() string {
	switch l.value.Kind() {
	case reflect.Func: // the place of the closure, not of its code
		return fmt.Sprint(*(*uintptr)(l.value.Addr().UnsafePointer()))
	case reflect.Pointer, reflect.Chan, reflect.UnsafePointer, reflect.Map, reflect.Slice:
		return fmt.Sprint(l.value.Pointer())
	}
	return digestOf(l.value)
}
