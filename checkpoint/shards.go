package checkpoint

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/tensor"
)

// ExportOptions says in which form weights are exported. The zero value is the type that they are stored in, in files
// of at most 5 GB.
type ExportOptions struct {
	// DType is F32 or BF16, to which numbers are rounded (to nearest, ties to even); "" is the type they are stored in.
	DType string
	// MaxBytes is the size above which weights are divided, which transformers calls max_shard_size; 0 is 5 GB. An
	// array is never divided.
	MaxBytes int64
}

// defaultShard is the size of a file of weights, bytes, above which transformers divided them through version 4.
const defaultShard = 5e9

// apply returns the files of a model with its weights as o says, and whether that changed their type.
func (o ExportOptions) apply(files []File) (changed []File, converted bool, err error) {
	raw := fileData(files, weightsName)
	if raw == nil {
		return files, false, nil
	}
	arrays, metadata, err := parseSafetensors(raw)
	if err != nil {
		return nil, false, unsupportedError("%s: %w", weightsName, err)
	}
	files = slices.Clone(files)
	w := &weights{arrays: arrays}
	if converted = o.DType != "" && o.DType != w.dtypes(); converted {
		if files, err = convertConfig(files, o.DType); err != nil {
			return nil, false, err
		}
		if raw, err = convertArrays(arrays, metadata, o.DType); err != nil {
			return nil, false, err
		}
		if arrays, metadata, err = parseSafetensors(raw); err != nil {
			return nil, false, err
		}
		setFile(files, weightsName, raw)
	}
	limit := o.MaxBytes
	if limit <= 0 {
		limit = defaultShard
	}
	if int64(len(raw)) <= limit {
		return files, converted, nil
	}
	files = slices.DeleteFunc(files, func(f File) bool { return f.Name == weightsName })
	files = append(files, divide(arrays, metadata, limit)...)
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	return files, converted, nil
}

// setFile replaces the bytes of a file.
func setFile(files []File, name string, data []byte) {
	files[slices.IndexFunc(files, func(f File) bool { return f.Name == name })].Data = data
}

// convertConfig says in config.json that weights are of another type.
func convertConfig(files []File, dtype string) ([]File, error) {
	names := map[string]string{"F32": "float32", "BF16": "bfloat16"}
	if names[dtype] == "" {
		return nil, unsupportedError("weights cannot be written as %q: want F32 or BF16", dtype)
	}
	c, err := model.ReadConfig(fileData(files, configName))
	if err != nil {
		return nil, unsupportedError("%s: %w", configName, err)
	}
	c.DType = names[dtype]
	raw, err := model.WriteConfig(c)
	if err != nil {
		return nil, unsupportedError("%s: %w", configName, err)
	}
	setFile(files, configName, raw)
	return files, nil
}

// convertArrays encodes arrays as another type.
func convertArrays(arrays []rawArray, metadata map[string]string, dtype string) ([]byte, error) {
	named := make([]tensor.NamedArray, len(arrays))
	for i, a := range arrays {
		named[i] = tensor.NamedArray{Name: a.name, Shape: a.shape, Data: make([]float32, elements(a.shape))}
		if err := a.floats(named[i].Data); err != nil {
			return nil, unsupportedError("%s: %w", weightsName, err)
		}
	}
	var b bytes.Buffer
	err := writeArrays(&b, named, metadata, dtype)
	return b.Bytes(), err
}

// divide writes arrays, in their order, into files of at most limit bytes of data, or of one array, and an index.
func divide(arrays []rawArray, metadata map[string]string, limit int64) []File {
	var groups [][]rawArray
	size, total := int64(0), int64(0)
	for _, a := range arrays {
		n := int64(len(a.raw))
		if len(groups) == 0 || size+n > limit {
			groups, size = append(groups, nil), 0
		}
		groups[len(groups)-1] = append(groups[len(groups)-1], a)
		size, total = size+n, total+n
	}
	of := make(map[string]string, len(arrays))
	var files []File
	for i, g := range groups {
		name := fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, len(groups))
		for _, a := range g {
			of[a.name] = name
		}
		files = append(files, File{Name: name, Data: encodeRaw(g, metadata)})
	}
	return append(files, File{Name: indexName, Data: indented(struct {
		Metadata map[string]int64  `json:"metadata"`
		Map      map[string]string `json:"weight_map"`
	}{map[string]int64{"total_size": total}, of})})
}

// encodeRaw encodes arrays with their bytes as they are.
func encodeRaw(arrays []rawArray, metadata map[string]string) []byte {
	var b bytes.Buffer
	head := rawHeader(arrays, metadata)
	b.Grow(8 + len(head))
	b.Write(headerLength(head))
	b.Write(head)
	for _, a := range arrays {
		b.Write(a.raw)
	}
	return b.Bytes()
}

// joinShards returns the files of an exported folder with its weights in one file, as they were before they were
// divided. Files of a folder with one file of weights are returned as they are, but for an index.
func joinShards(files []File) ([]File, error) {
	index := fileData(files, indexName)
	if index == nil {
		return files, nil
	}
	rest := slices.DeleteFunc(slices.Clone(files), func(f File) bool {
		return f.Name == indexName || strings.HasSuffix(f.Name, ".safetensors") && f.Name != weightsName
	})
	if fileData(files, weightsName) != nil {
		return rest, nil
	}
	w, err := readWeights(files)
	if err != nil {
		return nil, err
	}
	return append(rest, File{Name: weightsName, Data: encodeRaw(w.arrays, w.metadata)}), nil
}

// weightMap is what of an index is read.
type weightMap struct {
	Map map[string]string `json:"weight_map"`
}

// readIndex decodes an index: the name of the file by the name of the array.
func readIndex(index []byte) (map[string]string, error) {
	var x weightMap
	if err := json.Unmarshal(index, &x); err != nil {
		return nil, fmt.Errorf("weight_map is not an object of names of files: %w", err)
	}
	return x.Map, nil
}
