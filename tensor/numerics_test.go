package tensor

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// golden are digests of what numerics v1 gives on fixed arguments, under every
// implementation, build tag and GOAMD64. A change here is a new contract.
var golden = map[string]string{
	"Add":                            "b1989208fba9872c",
	"Mul":                            "154e55a569a05c8d",
	"Scale":                          "8a95b58d5d4cd5f8",
	"Axpy":                           "814227b87cbd6e74",
	"Sum":                            "4c5e8e3a4d65536d",
	"SumSquares":                     "68f9ae0b5ea1f253",
	"Dot":                            "e93947170d00e981",
	"Max":                            "1e917a13a10049e5",
	"Exp":                            "eb26e4267c9044c9",
	"Exp in place":                   "41a7b111bf6e2d8a",
	"GeluForwardBackward":            "56bbacb0d32d62be",
	"GeluForwardBackward in place":   "34c9a60e8052f4f5",
	"Gelu":                           "411530df51c6f960",
	"GeluBackward":                   "f3b51b08d724e8ac",
	"GeluBackward in place":          "fe92f957a39a858e",
	"Softmax":                        "c8713f52c9f9fb02",
	"LogSumExp":                      "d87d0047d98c4cc1",
	"SoftmaxBackward":                "6489efd1d70d6c74",
	"SoftmaxBackward in place":       "f63a2018bd367141",
	"LayerNorm":                      "709411c02d6f4226",
	"LayerNormBackward":              "5a602439bf70d063",
	"LayerNorm without bias":         "0795fc41c3f23d47",
	"RMSNorm":                        "23695dc344ebb1c5",
	"RMSNorm in place with offset":   "92212af46e057b81",
	"RMSNormBackward":                "cd1a6d0da1b874a7",
	"SiLU":                           "74390c3cab19b930",
	"SiLU backward":                  "e86cd4a401103518",
	"SiLU gated":                     "cca5d6ce2ac549fc",
	"SiLU gated backward":            "a7d2957ab22c3356",
	"GeluErf":                        "9efb984222bef89d",
	"GeluErf backward":               "9c519e0766f0812e",
	"GeluErf in place":               "eed11439d3580227",
	"GeluErf gated":                  "29ebdfca5388b043",
	"GeluErf gated backward":         "a6b44d2ad552b6cd",
	"GeluTanh":                       "411530df51c6f960",
	"GeluTanh backward":              "56bbacb0d32d62be",
	"GeluTanh gated":                 "eb20c44d4d090214",
	"GeluTanh gated backward":        "9558cded5657a20c",
	"ReLU":                           "35d4e6558fef889b",
	"ReLU backward":                  "d40007522e501cc2",
	"ReLU gated":                     "4ca3c4f29492469b",
	"ReLU gated backward":            "78e2665ef14dbf26",
	"ReLUSquared":                    "ae6f1079353e771e",
	"ReLUSquared backward":           "61920044fa8ff1de",
	"ReLUSquared gated":              "fe2a80d267de87cd",
	"ReLUSquared gated backward":     "ce40262bd79b1cbb",
	"SiLU in place":                  "3c20141b4c131d3f",
	"SiLU backward in place":         "fa8b480e8b103fde",
	"LayerNormBackward without bias": "cdfc11e8520aa358",
	"RMSNormBackward without offset": "aa413945b6f6bd3f",
	"RMSNorm of two rows":            "b8c63918a1945bfc",
	"Rotate":                         "b7981717bd1333b8",
	"RotateBack":                     "bc166a2507606faf",
	"SoftCap":                        "55caada791b60f93",
	"SoftCapBackward":                "fadbedfd7fc26263",
	"Tanh1":                          "e1313b333fee8a28",
	"AdamW":                          "997b611e3fdfde72",
	"AdamW TensorFlow":               "e565404c59525388",
	"EMA":                            "8c7919d703565307",
	"MatMul":                         "2df07cb9d5559713",
	"MatMulNT":                       "14c832867caf8a9f",
	"MatMulTN":                       "a856ff8e061d3578",
	"Exp1":                           "b1b7eaae1b29dd03",
	"Log1":                           "7d0c73e35788c451",
	"Sin1":                           "26c222b980d0708f",
	"Cos1":                           "858d89f312a731ec",
	"Sqrt1":                          "52a4dd3656031dec",
	"Rsqrt1":                         "0ba3d65934408f90",
	"Sigmoid1":                       "0519db75c501caa3",
	"LogSigmoid1":                    "60d3214b89341397",
}

// series returns n fixed numbers in (-8, 8).
func series(n int, seed uint32) []float32 {
	x := make([]float32, n)
	for i := range x {
		seed = seed*1664525 + 1013904223
		x[i] = (float32(seed>>8)*0x1p-24 - 0.5) * 16
	}
	return x
}

func digest(arrays ...[]float32) string {
	h := sha256.New()
	for _, a := range arrays {
		binary.Write(h, binary.LittleEndian, a)
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:8])
}

func TestGoldenBits(t *testing.T) {
	under(t, func(t *testing.T) {
		expect := func(name, got string) {
			if golden[name] != got {
				t.Errorf("%q: %q, want %q", name, got, golden[name])
			}
		}
		for _, c := range kernelCases {
			var a [][]float32
			for i := range c.arrays {
				a = append(a, series(1003, uint32(i)))
			}
			expect(c.name, digest(append(a, c.run(a))...))
		}
		for _, f := range forms {
			const m, n, k = 37, 45, 61
			c := series(m*n, 9)
			_, lda := f.a(m, n, k)
			_, ldb := f.b(m, n, k)
			f.run(nil, c, n, series(m*k, 10), lda, series(k*n, 11), ldb, m, n, k, true)
			expect(f.name, digest(c))
		}
		for _, c := range functionBounds {
			if strings.Contains(c.name, " ") {
				continue // another range of the same function
			}
			x := series(1003, 12)
			for i, v := range x {
				if c.from >= 0 {
					v = float32(math.Abs(float64(v)))
				}
				x[i] = c.f(v)
			}
			expect(c.name, digest(x))
		}
	})
}

// core are the packages whose arithmetic reaches the bytes of a model.
var core = strings.Fields("model optim dataset train pretrain sft reward ppo starter label checkpoint")

// unstable are functions of package math whose bits may change with the CPU,
// and those that tempt to fuse or reorder.
var unstable = strings.Fields(`Acos Acosh Asin Asinh Atan Atan2 Atanh Cbrt Cos Cosh Erf Erfc Erfcinv Erfinv Exp Exp2 Expm1
	Gamma Hypot J0 J1 Jn Lgamma Log Log10 Log1p Log2 Pow Pow10 Sin Sincos Sinh Tan Tanh Y0 Y1 Yn FMA`)

// TestCoreMath: nothing that reaches bytes calls math.Exp or its like.
func TestCoreMath(t *testing.T) {
	for _, pkg := range append(core, "tensor") {
		err := filepath.WalkDir(filepath.Join("..", pkg), func(name string, d fs.DirEntry, err error) error {
			if os.IsNotExist(err) {
				return nil
			}
			if err != nil {
				return err
			}
			if d.IsDir() && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), "_")) {
				return fs.SkipDir
			}
			if strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") {
				for _, call := range unstableCalls(t, name) {
					t.Errorf("%s: use package tensor's own function", call)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// unstableCalls lists what a file uses of math that it must not, and math/rand.
func unstableCalls(t *testing.T, name string) (found []string) {
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, name, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range f.Imports {
		if strings.HasPrefix(i.Path.Value, `"math/rand`) || i.Path.Value == `"math"` && i.Name != nil {
			found = append(found, fmt.Sprintf("%s: imports %s", set.Position(i.Pos()), i.Path.Value))
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok && x.Name == "math" && slices.Contains(unstable, s.Sel.Name) {
				found = append(found, fmt.Sprintf("%s: math.%s", set.Position(s.Pos()), s.Sel.Name))
			}
		}
		return true
	})
	return found
}

// TestEnvironment runs this test binary with TRIMTAB_KERNELS set.
func TestEnvironment(t *testing.T) {
	if os.Getenv("TRIMTAB_TEST_REPORT") != "" {
		fmt.Printf("kernels %s, error %v\n", Implementation(), InitError())
		return
	}
	last := Implementations()[len(Implementations())-1]
	for value, want := range map[string]string{
		"portable": "kernels portable, error <nil>",
		"":         "kernels " + last + ", error <nil>",
		"mmx":      "kernels " + last + ", error reading TRIMTAB_KERNELS: there are no kernels \"mmx\"",
	} {
		c := exec.Command(os.Args[0], "-test.run=^TestEnvironment$", "-test.v")
		c.Env = append(os.Environ(), "TRIMTAB_TEST_REPORT=1", "TRIMTAB_KERNELS="+value)
		out, err := c.CombinedOutput()
		if errors.Is(err, syscall.ENOEXEC) {
			t.Skip("this test runs in an emulator, which a child does not")
		}
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("TRIMTAB_KERNELS=%q: %v, %s, want %s", value, err, out, want)
		}
	}
}
