package checkpoint

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/tokenizer"
)

// readByHand reads a safetensors file as its README describes it, and prints
// per array name, shape and the sum of its elements in order.
const readByHand = `
import json, struct, sys
import numpy as np
raw = open(sys.argv[1], "rb").read()
(n,) = struct.unpack("<Q", raw[:8])
header, data = json.loads(raw[8:8+n]), raw[8+n:]
assert header.pop("__metadata__") == {"format": "pt"} and n % 8 == 0
end = 0
for name, a in header.items():
    begin, stop = a["data_offsets"]
    assert a["dtype"] == "F32" and begin == end
    end = stop
    x = np.frombuffer(data[begin:stop], "<f4").reshape(a["shape"])
    print(name, "x".join(map(str, x.shape)), "%.9e" % sum(map(float, x.ravel())))
assert end == len(data)
`

func TestNumpyReadsTheWeights(t *testing.T) {
	python := "/usr/bin/python3"
	if err := exec.Command(python, "-c", "import numpy").Run(); err != nil {
		t.Skipf("%s has no numpy: %v", python, err)
	}
	s := open(t)
	m, tok := someModel(t, true)
	dir := t.TempDir()
	if err := Export(s, save(t, s, m, tok), filepath.Join(dir, "out")); err != nil {
		t.Fatal(err)
	}
	got, err := exec.Command(python, "-c", readByHand, filepath.Join(dir, "out", weightsName)).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, got)
	}
	var want strings.Builder
	for _, p := range m.NamedParameters() {
		sum := 0.0
		for _, v := range p.Data {
			sum += float64(v)
		}
		want.WriteString(strings.Join([]string{p.Name, strings.ReplaceAll(joinInts(p.Shape), ",", "x"),
			fmt.Sprintf("%.9e", sum)}, " ") + "\n")
	}
	if string(got) != want.String() {
		t.Errorf("got\n%swant\n%s", got, want.String())
	}
}

func BenchmarkSaveAndLoadModel(b *testing.B) {
	tok, err := tokenizer.Train([]string{"the cat sat on the mat"}, 260)
	if err != nil {
		b.Fatal(err)
	}
	m := model.New(model.Config{Layers: 6, Width: 384, Heads: 6, Context: 256, Vocab: 260}, false)
	s := open(b)
	b.SetBytes(int64(4 * len(m.Slab)))
	for b.Loop() {
		d, err := SaveModel(s, m, tok)
		if err != nil {
			b.Fatal(err)
		}
		if _, _, err := LoadModel(s, d); err != nil {
			b.Fatal(err)
		}
	}
	os.RemoveAll(s.dir)
}
