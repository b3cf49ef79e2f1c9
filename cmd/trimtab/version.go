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

// releaseVersion, releaseCommit and releaseDate are set by the linker of a
// release (-X main.releaseVersion=…); they are empty in other builds.
var releaseVersion, releaseCommit, releaseDate string

// versionDocument identifies this program and says how it computes.
type versionDocument struct {
	Schema string `json:"schema"`
	// Version is the release, a pseudo-version, or "(devel)".
	Version string `json:"version"`
	// Revision is the commit it was built from, where that is known.
	Revision string `json:"revision,omitempty"`
	// Date is the date of the commit, in RFC 3339.
	Date string `json:"date,omitempty"`
	// Modified is true if the sources were changed after the commit.
	Modified bool `json:"modified,omitempty"`
	// BuildID is the SHA-256 of the executable; it names the build in the
	// record.
	BuildID string `json:"build_id"`
	Go      string `json:"go"`
	// Platform is GOOS/GOARCH.
	Platform string `json:"platform"`
	// Numerics is the contract of a spec that does not name one.
	Numerics string `json:"numerics"`
	// Contracts are all numeric contracts that this build computes under.
	Contracts []string `json:"contracts"`
	// Kernels is the implementation in use, and Available those that this
	// processor and build have; TRIMTAB_KERNELS selects one of them.
	Kernels   string   `json:"kernels"`
	Available []string `json:"available_kernels"`
}

// versionCmd is "trimtab version".
func (a *app) versionCmd() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "print the version, the build id and the numeric contracts", Args: argCount(0, 0),
		Example: "  trimtab version -o json",
		RunE: func(*cobra.Command, []string) error {
			doc := version()
			if a.wantsJSON() {
				return a.printDocument(doc)
			}
			fmt.Fprintf(a.out, "trimtab %s%s\nbuild %s\n%s %s, numerics %s, %s kernels (available: %s)\n",
				doc.Version, doc.commit(), doc.BuildID, doc.Go, doc.Platform, strings.Join(doc.Contracts, " and "),
				doc.Kernels, strings.Join(doc.Available, ", "))
			return nil
		},
	}
}

// commit is the part of the version line in parentheses: revision, date, and
// whether the sources were modified.
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

// version describes the running program: by the release that it was stamped
// with, or else by the build information that Go embeds.
func version() versionDocument {
	doc := versionDocument{
		Schema: "trimtab.version/v1", Version: "(devel)", BuildID: buildID(), Go: runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH, Numerics: string(tensor.V1), Contracts: numericsNames,
		Kernels: tensor.Implementation(), Available: tensor.Implementations(),
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

// buildID is the SHA-256 of the running executable, or empty if that cannot
// be read.
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
