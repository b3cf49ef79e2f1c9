package notary

import (
	"encoding/json"
	"slices"
	"testing"
)

// Heads that are read are read again from the file that would be written of them.
func FuzzHeads(f *testing.F) {
	f.Add([]byte(`{"note":"a\n1\nb\n\n— a b\n"}` + "\n" + `{"note":"trimtab-`))
	f.Add([]byte("trimtab-01234567\n5\nAAAA\n\n— trimtab-01234567 AAAA\n"))
	f.Add([]byte("{\n\n}{\"note\":\"\"}\n\xff"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		notes, _ := parseHeads(raw)
		if len(raw) > 0 && raw[0] != '{' {
			return // it is one head
		}
		var again []byte
		for _, n := range notes {
			line, err := json.Marshal(headLine{n})
			if err != nil {
				t.Fatal(err)
			}
			again = append(append(again, line...), '\n')
		}
		if back, torn := parseHeads(again); torn > 0 || !slices.Equal(back, notes) {
			t.Errorf("%q, read again %q, %d torn", notes, back, torn)
		}
	})
}
