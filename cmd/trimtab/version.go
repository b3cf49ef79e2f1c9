package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab/tensor"
)

// What the linker of a release sets (-X main.releaseVersion=…); empty in other builds.
var releaseVersion, releaseCommit, releaseDate string

// versionDocument says which program this is.
type versionDocument struct {
	Schema    string   `json:"schema"`
	Version   string   `json:"version"`
	Revision  string   `json:"revision,omitempty"` // the commit, where it is known
	Date      string   `json:"date,omitempty"`     // of the commit, RFC 3339
	Modified  bool     `json:"modified,omitempty"` // the sources were changed after that commit
	BuildID   string   `json:"build_id"`           // SHA-256 of the executable
	Go        string   `json:"go"`
	Platform  string   `json:"platform"`
	Numerics  string   `json:"numerics"`  // the contract of a spec that names none
	Contracts []string `json:"contracts"` // every numeric contract that it computes under
	Kernels   string   `json:"kernels"`
}

func (a *app) versionCmd() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "which program this is, and how it computes", Args: argCount(0, 0),
		Example: "  trimtab version -o json",
		RunE: func(*cobra.Command, []string) error {
			doc := version()
			if a.wantsJSON() {
				return a.printDocument(doc)
			}
			fmt.Fprintf(a.out, "trimtab %s%s\nbuild %s\n%s %s, numerics %s, %s kernels\n",
				doc.Version, doc.commit(), doc.BuildID, doc.Go, doc.Platform, strings.Join(doc.Contracts, " and "),
				doc.Kernels)
			return nil
		},
	}
}

// commit is what follows the version in a line for people.
func (v versionDocument) commit() string {
	parts := slices.DeleteFunc([]string{v.Revision, v.Date}, func(s string) bool { return s == "" })
	if v.Modified {
		parts = append(parts, "modified")
	}
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

// version describes the program that runs: what a release was stamped with,
// else what Go knows of the build.
func version() versionDocument {
	doc := versionDocument{
		Schema: "trimtab.version/v1", Version: "(devel)", BuildID: buildID(), Go: runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH, Numerics: string(tensor.V1), Contracts: numericsNames,
		Kernels: tensor.Implementation(),
	}
	if releaseVersion != "" {
		doc.Version, doc.Revision, doc.Date = releaseVersion, releaseCommit, releaseDate
		return doc
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return doc
	}
	doc.Version = cmp.Or(info.Main.Version, doc.Version)
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			doc.Revision = s.Value
		case "vcs.time":
			doc.Date = s.Value
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
