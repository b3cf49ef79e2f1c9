//go:build !linux

package tensor

// adviseHuge does nothing: other systems choose huge pages by themselves, or have no such advice.
func adviseHuge([]float32) {}
