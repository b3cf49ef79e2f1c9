package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/trimtab/trimtab/devstack"
)

// checkDownloads checks the settings that say what may be downloaded.
func (s *settings) checkDownloads() error {
	offline, err := strconv.ParseBool(s.values["offline"])
	if err != nil {
		return usagef("use true or false", "setting offline is %q (from %s)", s.values["offline"], s.origins["offline"])
	}
	s.values["offline"] = strconv.FormatBool(offline)
	if s.values["maven_mirror"] == "" {
		return nil
	}
	if err := devstack.CheckMirror(s.values["maven_mirror"]); err != nil { // the value may hold a password
		return usagef("give it the form https://HOST/PATH", "setting maven_mirror (from %s): %w",
			s.origins["maven_mirror"], err)
	}
	return nil
}

// downloads say whether and from where Postgres is fetched where none is
// installed. On a terminal a line shows how far that is.
func (a *app) downloads() *devstack.Downloads {
	d := &devstack.Downloads{Offline: a.settings.value("offline") == "true", Mirror: a.settings.value("maven_mirror")}
	if _, ok := terminal(a.err); ok {
		d.Progress = a.progressLine(200 * time.Millisecond)
	}
	return d
}

// progressLine writes how much has come over and over the same line, no more
// often than every so long, and empties the line at the end.
func (a *app) progressLine(every time.Duration) func(done, total int64) {
	var last time.Time
	return func(done, total int64) {
		switch {
		case done == total:
			fmt.Fprint(a.err, "\r\x1b[K")
		case time.Since(last) >= every:
			last = time.Now()
			fmt.Fprintf(a.err, "\r\x1b[K  %s of %s (%d %%)", formatBytes(done), formatBytes(total), 100*done/total)
		}
	}
}
