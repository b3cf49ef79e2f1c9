package main

import (
	"strconv"
	"time"

	"github.com/trimtab/trimtab/devstack"
)

// checkDownloads validates the settings that say what may be downloaded, and
// normalises offline to true or false. The mirror's address is not repeated
// in the error, since it may hold a password.
func (s *settings) checkDownloads() error {
	offline, err := strconv.ParseBool(s.values["offline"])
	if err != nil {
		return usagef("use true or false", "setting offline is %q (from %s)", s.values["offline"], s.origins["offline"])
	}
	s.values["offline"] = strconv.FormatBool(offline)
	if s.values["maven_mirror"] == "" {
		return nil
	}
	if err := devstack.CheckMirror(s.values["maven_mirror"]); err != nil {
		return usagef("write it as https://HOST/PATH", "setting maven_mirror (from %s): %w",
			s.origins["maven_mirror"], err)
	}
	return nil
}

// downloads says whether and from where Postgres is fetched if none is
// installed. On a terminal a progress line shows how far a download is; where
// standard error is a log, the supervisor's own lines have to do.
func (a *app) downloads() *devstack.Downloads {
	d := &devstack.Downloads{Offline: a.settings.value("offline") == "true", Mirror: a.settings.value("maven_mirror")}
	if _, ok := terminal(a.err); ok {
		d.Progress = a.progressLine(200 * time.Millisecond)
	}
	return d
}
