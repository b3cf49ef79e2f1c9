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

// process is a server that this process started, or one that it found running. A
// process is identified by its id and its startID, so that a reused id is never
// mistaken for it.
type process struct {
	pid int
	// startID is as of the function startID.
	startID string
	// adopted: another process started it, so its exit status is not available.
	adopted bool

	// watch starts the goroutine that waits for the end, once.
	watch sync.Once
	// done is closed when the process has ended; read it through ended.
	done chan struct{}
	// err is how the process ended, valid once done is closed; nil for an adopted
	// one.
	err error
}

// startProcess runs cmd in a process group of its own, so that the terminal's
// Ctrl-C does not reach it. With dieWithParent the kernel sends it SIGINT when
// this process ends (Linux).
func startProcess(cmd *exec.Cmd, dieWithParent bool) (*process, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	// A new session is a new process group already, and setpgid fails in its leader.
	cmd.SysProcAttr.Setpgid = !cmd.SysProcAttr.Setsid
	p := &process{done: make(chan struct{})}
	p.watch.Do(func() {}) // spent: cmd.Wait below closes done
	started := make(chan error)
	go func() {
		if dieWithParent {
			// The kernel binds the death signal to the thread that forks: it must live as long as the child.
			runtime.LockOSThread()
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

// adopt returns a running process that this one did not start; nil if no process
// with that id and startID is alive.
func adopt(pid int, born string) *process {
	if b, ok := startID(pid); !ok || b != born {
		return nil
	}
	return &process{pid: pid, startID: born, adopted: true, done: make(chan struct{})}
}

// processIdentity identifies a process in a state file. Folder is the folder of
// the file, so that a copy of the folder does not take the processes of the
// original for its own.
type processIdentity struct {
	Pid int `json:"pid"`
	// Birth is the startID.
	Birth string `json:"birth"`
	// Folder is as of folderKey; absent in files written by older versions.
	Folder string `json:"folder,omitempty"`
}

// identityOf is the identity of p as recorded in a state file of dir.
func identityOf(p *process, dir string) processIdentity {
	return processIdentity{p.pid, p.startID, folderKey(dir)}
}

// find returns the process that a state file of dir names; nil if it has ended,
// or if dir is a copy and the process belongs to the original. A file of an older
// version names no folder: on Linux the process must then carry dir's tag.
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

// folderKey distinguishes a folder from its copies, by device and inode. It
// survives a move within a file system; it is empty where it cannot be
// determined.
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

// ended returns a channel that is closed when the process has ended. An adopted
// process is polled every 20 ms: only a parent can wait for it.
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

// alive reports whether the process is running; a zombie is not.
func (p *process) alive() bool {
	b, ok := startID(p.pid)
	return ok && b == p.startID
}

// stopStep is a signal, and how long to wait for it to take effect.
type stopStep struct {
	signal syscall.Signal
	grace  time.Duration
}

// stop sends one signal after the other until the process has ended. It returns
// nil for a process that has ended already.
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
	return fmt.Errorf("process %d did not exit after the signals %v", p.pid, steps)
}

// processTag is an environment variable given to every process that is started
// for dir, so that it can be found even if its parent was killed before it could
// record the process id.
func processTag(dir, name string) string { return "TRIMTAB_DEVSTACK=" + name + ":" + dir }

// findTagged finds the processes that carry a tag, except this one (Linux;
// elsewhere there is no /proc and the result is empty).
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

// hasTag reports whether a process has the tag in its environment.
func hasTag(pid int, marker string) bool {
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	return err == nil && strings.Contains("\x00"+string(env), "\x00"+marker+"\x00")
}

// startID distinguishes one process from another that has the same id: boot id
// and start time. It returns false for a process that has ended, including a
// zombie.
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

// parseStat parses the state (field 3) and start time (field 22) of
// /proc/PID/stat. It counts from the last parenthesis, because field 2, the name
// of the program, may contain anything.
func parseStat(stat string) (string, bool) {
	// f[0] is field 3: what precedes is the id and the name.
	i := strings.LastIndexByte(stat, ')')
	f := strings.Fields(stat[i+1:])
	if i < 0 || len(f) < 20 || f[0] == "Z" || f[0] == "X" {
		return "", false
	}
	return bootID() + "/" + f[19], true
}

// bootID identifies this boot of the machine: start times are relative to it.
var bootID = sync.OnceValue(func() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
})

// startIDFromPS is startID on systems without /proc: the start time, to the
// second, as ps prints it.
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
