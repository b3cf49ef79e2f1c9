package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// manCmd is "trimtab man", which writes the manual pages of a release. It is
// hidden, since their text is that of --help. root is the command tree to
// document. The pages depend only on the program and SOURCE_DATE_EPOCH, so
// that packages built from them are reproducible.
func manCmd(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use: "man FOLDER", Short: "write a manual page for every command", Hidden: true, Args: argCount(1, 1),
		Example: "  trimtab man ./man1",
		Long: `Write the manual pages trimtab.1, trimtab-align.1 and so on to a folder, which is created
if it does not exist. The date on the pages is SOURCE_DATE_EPOCH, in seconds.`,
		RunE: func(_ *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return fmt.Errorf("create the folder for the manual pages: %w", err)
			}
			root.DisableAutoGenTag = true // it has the date of the build, which no rebuild could reproduce
			// Section 1 is for commands. Without a date in the header, the
			// generator takes SOURCE_DATE_EPOCH.
			header := &doc.GenManHeader{Section: "1", Source: "trimtab " + version().Version, Manual: "Trimtab"}
			if err := doc.GenManTree(root, header, args[0]); err != nil {
				return fmt.Errorf("write the manual pages: %w", err)
			}
			return nil
		},
	}
}
