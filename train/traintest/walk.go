package traintest

import (
	"fmt"
	"reflect"
	"slices"
	"unsafe"
)

// survey is what a walk over a trainer has met.
type survey struct {
	fields Fields
	shared []reflect.Type
	used   map[string]bool // lines
	seen   map[visit]bool
	leaves []leaf
	bones  []bone

	same, inputs map[string]string // digests of the inputs, with identities and without
}

// leaf is a field without fields of its own: a number, a text, a map, a slice
// of numbers, or nothing where there might be more.
type leaf struct {
	path   string
	class  Class
	v      reflect.Value
	shared bool // only the identity counts
}

// bone is a pointer or a slice on the way to fields that have lines of their own.
type bone struct {
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
func (s *survey) walk(path string, v reflect.Value, class Class) {
	if own, ok := s.fields[path]; ok {
		s.used[path], class = true, own
	}
	if slices.Contains(s.shared, v.Type()) || handle(v.Kind()) {
		s.leaves = append(s.leaves, leaf{path, class, v, true})
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			s.leaf(path, v, class)
		} else if s.first(v.UnsafePointer(), v.Type(), class) {
			s.bone(path, v.Pointer(), 1, class)
			s.walk(path, v.Elem(), class)
		}
	case reflect.Interface:
		if v.IsNil() {
			s.leaf(path, v, class)
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
		s.leaf(path, v, class)
	}
}

// elements walks a slice or an array, or takes it whole where its elements are mere numbers.
func (s *survey) elements(path string, v reflect.Value, class Class) {
	if v.Len() == 0 || flat(v.Type().Elem()) {
		s.leaf(path, v, class)
		return
	}
	if v.Kind() == reflect.Slice {
		if !s.first(v.UnsafePointer(), v.Type(), class) {
			return
		}
		s.bone(path, v.Pointer(), v.Len(), class)
	}
	for i := range v.Len() {
		s.walk(path+"[]", v.Index(i), class)
	}
}

func (s *survey) leaf(path string, v reflect.Value, class Class) {
	s.leaves = append(s.leaves, leaf{path: path, class: class, v: v})
}

func (s *survey) bone(path string, at uintptr, length int, class Class) {
	if class == "" && path != "" {
		s.bones = append(s.bones, bone{path, at, length})
	}
}

// first notes a place and says whether it is new.
func (s *survey) first(at unsafe.Pointer, typ reflect.Type, class Class) bool {
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

// handle says that values of a kind are told apart by identity alone.
func handle(k reflect.Kind) bool {
	return k == reflect.Func || k == reflect.Chan || k == reflect.UnsafePointer
}

// flat says that values of a type are numbers and truths only, at a fixed place.
func flat(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Struct:
		for i := range t.NumField() {
			if !flat(t.Field(i).Type) {
				return false
			}
		}
		return true
	case reflect.Array:
		return flat(t.Elem())
	case reflect.String, reflect.Pointer, reflect.Interface, reflect.Slice, reflect.Map:
		return false
	}
	return !handle(t.Kind())
}

// empty says that there is nothing in a leaf.
func (l leaf) empty() bool {
	switch l.v.Kind() {
	case reflect.Slice, reflect.Map, reflect.Array, reflect.String:
		return l.v.Len() == 0
	case reflect.Pointer, reflect.Interface:
		return l.v.IsNil()
	}
	return false
}

// identity tells a shared value from another one.
func (l leaf) identity() string {
	switch l.v.Kind() {
	case reflect.Func: // the place of the closure, not of its code
		return fmt.Sprint(*(*uintptr)(l.v.Addr().UnsafePointer()))
	case reflect.Pointer, reflect.Chan, reflect.UnsafePointer, reflect.Map, reflect.Slice:
		return fmt.Sprint(l.v.Pointer())
	}
	return digestOf(l.v)
}
