package devstack

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// find is a server that this process started, or one it found running.
type process struct {
	pid     int
	startID string
	adopted bool

	watch sync.Once
	done  chan struct{} // closed when it has ended
	err   error         // how it ended; nil for an adopted one
}

// startProcess runs cmd in a process group of its own, so that Ctrl-C does not reach it.
// With dieWithParent the kernel sends it SIGINT when this process ends (Linux).
func startProcess(cmd *exec.Cmd, dieWithParent bool) (*process, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = !cmd.SysProcAttr.Setsid
	p := &process{done: make(chan struct{})}
	p.watch.Do(func() {}) // watched by Wait below
	started := make(chan error)
	go func() {
		if dieWithParent {
			runtime.LockOSThread() // the signal is bound to the thread that forks
			setDeathSignal(cmd.SysProcAttr)
		}
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		p.pid = cmd.Process.Pid
		p.startID, _ = startID(p.pid)
		started <- nil
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, <-started
}

// adopt takes over a running process that this one did not start.
// It is nil if no process with that id and birth is alive.
func adopt(pid int, born string) *process {
	if b, ok := startID(pid); !ok || b != born {
		return nil
	}
	return &process{pid: pid, startID: born, adopted: true, done: make(chan struct{})}
}

// processIdentity is how a state file tells of a process. It names the folder of the file
// too, so that a copy of the folder does not take the processes of the original
// for its own.
type processIdentity struct {
	Pid    int    `json:"pid"`
	Birth  string `json:"birth"`
	Folder string `json:"folder,omitempty"` // see folderKey; absent in files of before
}

func identityOf(p *process, dir string) processIdentity {
	return processIdentity{p.pid, p.startID, folderKey(dir)}
}

// find is the one that a state file of dir tells of; nil if it does not run,
// or is the original's of which dir is a copy. What was written before folders
// were told apart is believed of a process that has the mark of dir (Linux).
func (l processIdentity) find(dir, mark string) *process {
	p := adopt(l.Pid, l.Birth)
	switch {
	case p == nil || l.Folder == folderKey(dir):
		return p
	case l.Folder != "" || runtime.GOOS == "linux" && !hasTag(l.Pid, mark):
		return nil
	}
	return p
}

// folderKey tells a folder from its copies: device and inode. A folder that is
// moved on its file system keeps them.
func folderKey(dir string) string {
	st, err := os.Stat(dir)
	if err != nil {
		return ""
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return fmt.Sprintf("%d:%d", sys.Dev, sys.Ino)
}

// ended is closed when the process has ended.
func (p *process) ended() <-chan struct{} {
	p.watch.Do(func() {
		go func() {
			for p.alive() {
				time.Sleep(20 * time.Millisecond)
			}
			close(p.done)
		}()
	})
	return p.done
}

func (p *process) alive() bool {
	b, ok := startID(p.pid)
	return ok && b == p.startID
}

// stopStep is one signal and how long it is given to work.
type stopStep struct {
	signal syscall.Signal
	grace  time.Duration
}

// stop sends one signal after the other until the process has ended.
func (p *process) stop(steps ...stopStep) error {
	for _, s := range steps {
		select {
		case <-p.ended():
			return nil
		default:
		}
		if err := syscall.Kill(p.pid, s.signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("stop process %d: %w", p.pid, err)
		}
		select {
		case <-p.ended():
			return nil
		case <-time.After(s.grace):
		}
	}
	return fmt.Errorf("process %d did not end after %v", p.pid, steps)
}

// processTag is in the environment of a process that is started for dir, so that it
// is found even if whoever started it was killed before writing down its id.
func processTag(dir, name string) string { return "TRIMTAB_DEVSTACK=" + name + ":" + dir }

// findTagged finds the processes that have a marker (Linux).
func findTagged(marker string) (found []*process) {
	environs, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, file := range environs {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if !hasTag(pid, marker) {
			continue
		}
		if born, ok := startID(pid); ok && pid != os.Getpid() {
			found = append(found, &process{pid: pid, startID: born, adopted: true, done: make(chan struct{})})
		}
	}
	return found
}

func hasTag(pid int, marker string) bool {
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	return err == nil && strings.Contains("\x00"+string(env), "\x00"+marker+"\x00")
}

// startID tells one life of a process id from another: boot and start time.
// It is false for a process that is gone, or dead and not yet reaped.
func startID(pid int) (string, bool) {
	if pid <= 0 || errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return "", false
	}
	if runtime.GOOS != "linux" {
		return startIDFromPS(pid)
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", false
	}
	return parseStat(string(b))
}

// parseStat reads state (field 3) and start time (field 22) of /proc/PID/stat;
// field 2, the name, may hold anything.
func parseStat(stat string) (string, bool) {
	i := strings.LastIndexByte(stat, ')')
	f := strings.Fields(stat[i+1:])
	if i < 0 || len(f) < 20 || f[0] == "Z" || f[0] == "X" {
		return "", false
	}
	return bootID() + "/" + f[19], true
}

var bootID = sync.OnceValue(func() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
})

func startIDFromPS(pid int) (string, bool) {
	cmd := exec.Command("ps", "-o", "stat=,lstart=", "-p", fmt.Sprint(pid))
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.Output()
	state, born, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	if err != nil || strings.HasPrefix(state, "Z") {
		return "", false
	}
	return strings.TrimSpace(born), true
}
