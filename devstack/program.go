package devstack

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// programState is the file program.json: the build of the program that was asked
// about last, and what its file looked like then. To hash it takes longer than
// all that a command which looks at a run does.
type programState struct {
	File    string `json:"file"` // device, inode, size, and time of change in nanoseconds
	BuildID string `json:"build_id"`
}

// cachedBuildID is buildID, unless dir remembers it of the very same file.
func cachedBuildID(dir, path string) (string, error) {
	f, err := openProgram(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	is, note := fileFingerprint(f), filepath.Join(dir, "program.json")
	var known programState
	if readJSON(note, &known) == nil && known.File == is && is != "" && known.BuildID != "" {
		return known.BuildID, nil
	}
	id, err := buildID(path)
	if err == nil {
		_ = writeJSON(note, programState{is, id}) // else the next one hashes again
	}
	return id, err
}

// fileFingerprint tells a file from every other, and from what it was before a change; "" where that cannot be told.
func fileFingerprint(f *os.File) string {
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return fmt.Sprintf("%d %d %d %d", st.Dev, st.Ino, info.Size(), info.ModTime().UnixNano())
}
