package devstack

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// programState is the file program.json: the build id of the executable that was
// last hashed, and a fingerprint of its file. Hashing it takes longer than
// everything else that a command which only looks at a run does.
type programState struct {
	// File is as of fileFingerprint.
	File string `json:"file"`
	// BuildID is as of buildID.
	BuildID string `json:"build_id"`
}

// cachedBuildID is buildID, read from dir's program.json if that records the very
// same file.
func cachedBuildID(dir, path string) (string, error) {
	f, err := openProgram(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	fingerprint, note := fileFingerprint(f), filepath.Join(dir, "program.json")
	var known programState
	if readJSON(note, &known) == nil && known.File == fingerprint && fingerprint != "" && known.BuildID != "" {
		return known.BuildID, nil
	}
	id, err := buildID(path)
	if err == nil {
		_ = writeJSON(note, programState{fingerprint, id}) // without it the next command hashes again
	}
	return id, err
}

// fileFingerprint identifies a file and its current contents without reading
// them: device, inode, size, and modification time in nanoseconds. It is empty
// where that cannot be determined.
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
