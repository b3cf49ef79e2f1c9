package main

import (
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"log"
	"math"
)

// The constants of exp and gelu, of which ../functions.go is the only home: the reference and the kernels cannot
// diverge. Paths are relative to this folder, in which "go generate" runs the command.
var (
	reference = typeCheck("../functions.go")

	expHigh  = float32Of("expHigh")
	expLow   = float32Of("expLow")
	log2E    = float32Of("log2E")
	ln2High  = float32Of("ln2High")
	ln2Low   = float32Of("ln2Low")
	expMagic = float32Of("expMagic")

	// expCoefficients is twice the coefficients of e**r, highest power first.
	expCoefficients = []float32{
		float32Of("expC7"), float32Of("expC6"), float32Of("expC5"), float32Of("expC4"),
		float32Of("expC3"), float32Of("expC2"), float32Of("expC1"), float32Of("expC0"),
	}

	geluA = float32Of("geluA")
	geluB = float32Of("geluB")
	geluC = float32Of("geluC")
)

// expBias is, as bits, the bias of float32's exponent less one: added to n<<23 it makes 2**(n-1).
var expBias = math.Float32frombits(126 << 23)

// infinity is +Inf.
var infinity = float32(math.Inf(1))

// typeCheck returns the package scope of one Go file, whose constants then have values. Names from other files of the
// package are unknown here, which is no reason to fail: no constant uses them.
func typeCheck(path string) *types.Scope {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path, nil, 0)
	if err != nil {
		log.Fatalf("reading the constants of the reference: %v", err)
	}
	ignore := types.Config{Error: func(error) {}}
	pkg, _ := ignore.Check("tensor", files, []*ast.File{file}, nil)
	return pkg.Scope()
}

// float32Of returns a constant of the reference as the compiler rounds it to float32.
func float32Of(name string) float32 {
	c, ok := reference.Lookup(name).(*types.Const)
	if !ok || c.Val().Kind() == constant.Unknown {
		log.Fatalf("the reference has no constant %s", name)
	}
	value, _ := constant.Float32Val(constant.ToFloat(c.Val()))
	return value
}
