package trimtab

import (
	"math"
	"testing"
)

// TestJSONForms pins the bytes of both forms: stored facts and digests depend
// on them.
func TestJSONForms(t *testing.T) {
	type inner struct {
		B, A int
	}
	value := struct {
		Z    string         `json:"z"`
		Map  map[string]any `json:"map"`
		In   inner          `json:"in"`
		Seed uint64         `json:"seed"`
		Rate float64        `json:"rate"`
		None *int           `json:"none"`
		Raw  []byte         `json:"raw"`
		A    []float32      `json:"a"`
	}{
		Z:    "<a href=\"x\">&\u2028 ü</a>\n",
		Map:  map[string]any{"b": 1, "a": []int{}},
		In:   inner{B: 1, A: 2},
		Seed: math.MaxUint64,
		Rate: 1e-7,
		Raw:  []byte{0, 255},
		A:    []float32{.1, 3},
	}
	for _, c := range []struct {
		name   string
		encode func(any) ([]byte, error)
		want   string
	}{
		{"EncodeJSON", EncodeJSON, `{"z":"<a href=\"x\">&\u2028 ü</a>\n","map":{"a":[],"b":1},"in":{"B":1,"A":2},` +
			`"seed":18446744073709551615,"rate":1e-7,"none":null,"raw":"AP8=","a":[0.1,3]}`},
		{"CanonicalJSON", CanonicalJSON, `{"a":[0.1,3],"in":{"A":2,"B":1},"map":{"a":[],"b":1},"none":null,` +
			`"rate":1e-7,"raw":"AP8=","seed":18446744073709551615,"z":"<a href=\"x\">&\u2028 ü</a>\n"}`},
	} {
		got, err := c.encode(value)
		if err != nil || string(got) != c.want {
			t.Errorf("%s: %v\n got %s\nwant %s", c.name, err, got, c.want)
		}
		if _, err := c.encode(math.NaN()); err == nil {
			t.Errorf("%s: NaN is not JSON, and gave no error", c.name)
		}
	}
}
