package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// manCmd writes the manual pages of a release: hidden, since their text is that
// of --help.
func manCmd(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use: "man FOLDER", Short: "write a manual page for each command", Hidden: true, Args: argCount(1, 1),
		Example: "  trimtab man ./man1",
		Long: `Write the manual pages trimtab.1, trimtab-align.1 and so on into a folder, which is
made if it does not exist. SOURCE_DATE_EPOCH, in seconds, is the date on the pages.`,
		RunE: func(_ *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return fmt.Errorf("make the folder of the manual pages: %w", err)
			}
			root.DisableAutoGenTag = true // it holds the day of the build
			header := &doc.GenManHeader{Section: "1", Source: "trimtab " + version().Version, Manual: "Trimtab"}
			if err := doc.GenManTree(root, header, args[0]); err != nil {
				return fmt.Errorf("write the manual pages: %w", err)
			}
			return nil
		},
	}
}
