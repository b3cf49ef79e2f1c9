package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab/tensor"
)

// versionDocument says which program this is.
type versionDocument struct {
	Schema   string `json:"schema"`
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"` // of the version control system, where it was stamped
	Modified bool   `json:"modified,omitempty"`
	BuildID  string `json:"build_id"` // SHA-256 of the executable
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Numerics string `json:"numerics"`
	Kernels  string `json:"kernels"`
}

func (a *app) versionCmd() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "which program this is, and how it computes", Args: takes(0, 0), Example: "  trimtab version -o json",
		RunE: func(*cobra.Command, []string) error {
			doc := version()
			if a.documents() {
				return a.printDocument(doc)
			}
			revision := ""
			if doc.Revision != "" {
				revision = " " + doc.Revision
			}
			if doc.Modified {
				revision += " (modified)"
			}
			fmt.Fprintf(a.out, "trimtab %s%s\nbuild %s\n%s %s, numerics %s, %s kernels\n",
				doc.Version, revision, doc.BuildID, doc.Go, doc.Platform, doc.Numerics, doc.Kernels)
			return nil
		},
	}
}

func version() versionDocument {
	doc := versionDocument{
		Schema: "trimtab.version/v1", Version: "(devel)", BuildID: buildID(), Go: runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH, Numerics: string(tensor.V1), Kernels: tensor.Implementation(),
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return doc
	}
	if info.Main.Version != "" {
		doc.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			doc.Revision = s.Value
		case "vcs.modified":
			doc.Modified = s.Value == "true"
		}
	}
	return doc
}

// buildID is the SHA-256 of the running executable, or empty when it cannot be read.
func buildID() string {
	path, err := os.Executable()
	if err != nil {
		return ""
	}
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return ""
	}
	return hex.EncodeToString(h.Sum(nil))
}
