package main

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/checkpoint/gguf"
)

// The formats of model export.
const (
	formatSafetensors = "safetensors"
	formatGGUF        = "gguf"
)

// ggufTypes are the types that --gguf-type names.
var ggufTypes = map[string]gguf.Type{"f32": gguf.F32, "f16": gguf.F16, "bf16": gguf.BF16, "q8_0": gguf.Q8_0}

// modelExport is an export: first what was asked for, then what was done.
type modelExport struct {
	// target is the folder to write or, if single is set, the GGUF file.
	target string
	single bool
	format string
	// options are for safetensors. kind is for GGUF; nil is the type that the
	// weights are stored in.
	options checkpoint.ExportOptions
	kind    *gguf.Type

	digest trimtab.Digest
	// run is the run that the model was named by, or empty.
	run string
	// weights are the names of the files of weights, papers those of the
	// files beside the model.
	weights, papers []string
	// notes say how the exported form differs from the stored one.
	notes []string
	// provable says that the folder is the stored model, which proofs name.
	provable bool
}

// newExport validates the flags of an export to a target. given reports
// whether a flag was given: flags of the other format are refused, since they
// would change nothing.
func newExport(o modelExportFlags, target string, given func(string) bool) (*modelExport, error) {
	e := &modelExport{target: target, format: o.format}
	isFile := strings.EqualFold(filepath.Ext(target), ".gguf")
	others := []string{"gguf-type"}
	switch {
	case o.format == formatGGUF:
		others, e.single = []string{"dtype", "max-shard-size"}, isFile
	case o.format != formatSafetensors:
		return nil, usagef("use safetensors or gguf", "--format is %q", o.format)
	case isFile:
		return nil, usagef("add --format gguf, or name a folder", "%s names a GGUF file, and --format is safetensors",
			target)
	}
	for _, name := range others {
		if given(name) {
			remedy := "leave it out: a GGUF file is one file, and --gguf-type says its type"
			if name == "gguf-type" {
				remedy = "add --format gguf, or use --dtype"
			}
			return nil, usagef(remedy, "--%s does not go with --format %s", name, o.format)
		}
	}
	return e, e.readTypes(o, given)
}

// readTypes reads the flags about types and sizes.
func (e *modelExport) readTypes(o modelExportFlags, given func(string) bool) error {
	if given("dtype") {
		if o.dtype != "f32" && o.dtype != "bf16" {
			return usagef("use f32 or bf16", "--dtype is %q", o.dtype)
		}
		e.options.DType = strings.ToUpper(o.dtype)
	}
	if given("gguf-type") {
		kind, ok := ggufTypes[o.ggufType]
		if !ok {
			return usagef("use f32, f16, bf16 or q8_0", "--gguf-type is %q", o.ggufType)
		}
		e.kind = &kind
	}
	size, ok := parseSize(o.maxShardSize)
	if !ok {
		return usagef("use a whole number above 0 and a unit: KB, MB, GB, KiB, MiB or GiB, as in 5GB",
			"--max-shard-size is %q", o.maxShardSize)
	}
	e.options.MaxBytes = size
	return nil
}

// parseSize reads a number of bytes as transformers writes max_shard_size:
// 5GB, 500MB, 2GiB, or a number alone. It reports false for anything else and
// for 0.
func parseSize(s string) (int64, bool) {
	units := []struct {
		name string
		size int64
	}{
		{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"", 1},
	}
	for _, u := range units {
		number, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(number, 10, 63)
		return int64(n) * u.size, err == nil && n > 0 && int64(n) <= math.MaxInt64/u.size
	}
	return 0, false
}

// checkTarget checks that the target is new, or an empty folder.
func (e *modelExport) checkTarget() error {
	if !e.single {
		return forNewFiles(e.target)
	}
	switch _, err := os.Lstat(e.target); {
	case err == nil:
		return trimtab.NewError(trimtab.Conflict, "file_exists", "remove it or choose another name", "%s exists",
			e.target)
	case !errors.Is(err, fs.ErrNotExist):
		return writeError(e.target, err)
	}
	if _, err := os.Stat(filepath.Dir(e.target)); err != nil {
		return writeError(e.target, err)
	}
	return nil
}
