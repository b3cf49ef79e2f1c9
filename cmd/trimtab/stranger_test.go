package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	health "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/trimtab/trimtab/devstack"
)

// A stranger is another user of the same machine. He is given everything that
// is no secret: where the servers listen, the name of every file, the ids of
// the processes, the name of a run that waits for a decision.

// visit is what the stranger tries.
type visit struct {
	Ports   []int  // on which Temporal listens, the frontend's first
	Socket  string // folder of Postgres's socket
	SQL     int    // its port
	Data    string // the data folder
	Paths   []string
	Pids    []int
	Run     string
	Program string // a copy of trimtab of their own
}

// answer is what came of one try.
type answer struct {
	What, Said string
	In         bool // it gave the stranger something
}

// strangerID is a user and a group that no system knows.
const strangerID = 31337

// stranger is the program that the other user runs: it reads a visit and writes answers.
func stranger() {
	var v visit
	if err := json.NewDecoder(os.Stdin).Decode(&v); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	answers := slices.Concat(v.calls(), v.asks(), v.reads(), v.peeks(), v.commands())
	if err := json.NewEncoder(os.Stdout).Encode(answers); err != nil {
		os.Exit(1)
	}
}

func answered(what string, err error) answer {
	if err != nil {
		return answer{what, firstLine(err.Error()), false}
	}
	return answer{what, "done", true}
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line[:min(len(line), 200)]
}

// calls are those to Temporal's ports: gRPC in plain text, without a
// certificate, with a self-made one; and HTTP.
func (v visit) calls() (all []answer) {
	doors := map[string]credentials.TransportCredentials{
		"in plain text":                insecure.NewCredentials(),
		"over TLS without certificate": credentials.NewTLS(&tls.Config{InsecureSkipVerify: true}),
		"with a self-made certificate": credentials.NewTLS(&tls.Config{InsecureSkipVerify: true,
			GetClientCertificate: selfMade}),
	}
	for i, port := range v.Ports {
		address := fmt.Sprintf("127.0.0.1:%d", port)
		name := []string{"frontend", "history", "matching", "worker"}[i]
		for _, how := range slices.Sorted(maps.Keys(doors)) {
			all = append(all, answered(fmt.Sprintf("gRPC to Temporal's %s %s", name, how),
				callTemporal(address, i == 0, doors[how])))
		}
		all = append(all, answered("HTTP to Temporal's "+name, get("http://"+address+"/api/v1/namespaces")),
			answered("HTTPS to Temporal's "+name, get("https://"+address+"/api/v1/namespaces")))
	}
	return all
}

func callTemporal(address string, frontend bool, door credentials.TransportCredentials) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := grpc.NewClient(address, grpc.WithTransportCredentials(door))
	if err != nil {
		return err
	}
	defer c.Close()
	if frontend {
		of := &workflowservice.DescribeNamespaceRequest{Namespace: devstack.Namespace}
		_, err = workflowservice.NewWorkflowServiceClient(c).DescribeNamespace(ctx, of)
	} else {
		_, err = health.NewHealthClient(c).Check(ctx, &health.HealthCheckRequest{})
	}
	return err
}

func get(address string) error {
	client := &http.Client{Timeout: 10 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	res, err := client.Get(address)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err == nil && !strings.HasPrefix(res.Status, "2") {
		err = fmt.Errorf("%s %.80s", res.Status, b)
	}
	return err
}

// selfMade is a certificate that is shown whatever authorities the server names.
func selfMade(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	raw, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	return &tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}, err
}

// asks are logins to Postgres.
func (v visit) asks() (all []answer) {
	for _, role := range []string{"trimtab", "trimtab_app", "trimtab_auditor", "trimtab_temporal", "postgres"} {
		for _, host := range []string{v.Socket, "127.0.0.1"} {
			for _, password := range []string{"", role} {
				query := url.Values{"host": {host}, "port": {strconv.Itoa(v.SQL)}, "user": {role},
					"password": {password},
					"sslmode":  {"disable"}, "connect_timeout": {"10"}}
				address := url.URL{Scheme: "postgres", Path: "/trimtab", RawQuery: query.Encode()}
				how := map[bool]string{true: "by its socket", false: "over TCP"}[host == v.Socket]
				how += map[bool]string{true: " without a password",
					false: " with its name as the password"}[password == ""]
				all = append(all, answered(fmt.Sprintf("Postgres as %s %s", role, how), login(address.String())))
			}
		}
	}
	return all
}

func login(address string) error {
	c, err := pgx.Connect(context.Background(), address)
	if err != nil {
		return err
	}
	return c.Close(context.Background())
}

// reads opens everything in the data folder, to read and to write.
func (v visit) reads() (all []answer) {
	for _, path := range v.Paths {
		name, _ := filepath.Rel(v.Data, path)
		if st, err := os.Stat(path); err == nil && st.IsDir() {
			_, err = os.ReadDir(path)
			all = append(all, answered("list "+name, err))
			f, err := os.OpenFile(filepath.Join(path, "stranger"), os.O_CREATE|os.O_WRONLY, 0o600)
			all = append(all, answered("make a file in "+name, errors.Join(err, f.Close())))
			continue
		}
		f, err := os.Open(path)
		all = append(all, answered("read "+name, errors.Join(err, f.Close())))
		f, err = os.OpenFile(path, os.O_WRONLY, 0)
		all = append(all, answered("write "+name, errors.Join(err, f.Close())),
			answered("remove "+name, os.Remove(path)))
	}
	return all
}

// peeks looks at the processes: command lines are for all to see.
func (v visit) peeks() (all []answer) {
	for _, pid := range v.Pids {
		_, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		all = append(all, answered(fmt.Sprintf("read the environment of process %d", pid), err),
			answered(fmt.Sprintf("end process %d", pid), syscall.Kill(pid, syscall.SIGTERM)))
	}
	return all
}

// commands are trimtab's own, on a data folder of another user.
func (v visit) commands() (all []answer) {
	for _, args := range [][]string{
		{"approve", v.Run, "reward", "--reason", "let me in"}, {"skip", v.Run, "reward", "--reason", "let me in"},
		{"cancel", v.Run, "--reason", "let me in"}, {"pause", v.Run}, {"rerun", v.Run, "reward", "--force"},
		{"show", v.Run}, {"runs"}, {"history", v.Run}, {"audit", "verify"}, {"model", "list"}, {"gc", "--yes"},
		{"align", "--size", "smallest", "--detach"}, {"dev", "stop"}, {"dev"}, {"dev", "status"}, {"worker"},
	} {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		cmd := exec.CommandContext(ctx, v.Program, append(args, "--data-folder", v.Data)...)
		var said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &said, &said
		err := cmd.Run()
		cancel()
		all = append(all, answer{"trimtab " + strings.Join(args, " "), firstLine(said.String()), err == nil})
	}
	return all
}

// harmless is what a stranger may have: names of folders that they may pass, that dev
// runs or not, and the program, which is no secret.
var harmless = regexp.MustCompile(`^(read bin/[0-9a-f]{16}/trimtab|trimtab dev status)$`)

func TestStranger(t *testing.T) {
	switch {
	case testing.Short():
		t.Skip("starts Postgres and Temporal")
	case runtime.GOOS != "linux" || os.Geteuid() != 0:
		t.Skip("another user is needed: run as root, on Linux")
	}
	quiet(t)
	data := filepath.Join(stack.folder(t), "data")
	t.Setenv("TRIMTAB_DATA", data)
	code, out, errs := command(t, "", "align", "--size", "smallest", "--seed", "31337", "--name", "guarded",
		"--set", "reward.gates=[{metric: eval_accuracy, min: 0.999}]")
	if code != 1 || !strings.Contains(out, "is blocked") {
		t.Fatalf("exit %d: %s%s", code, errs, out)
	}
	info, ok := devstack.Running(data)
	if !ok {
		t.Fatal("the stack does not run")
	}
	v := visitOf(t, data, info)
	before := v.state(t)
	answers := v.send(t)
	for _, a := range answers {
		if a.In && !harmless.MatchString(a.What) {
			t.Errorf("a stranger could %s: %s", a.What, a.Said)
		}
	}
	t.Log("\n" + listed(answers))
	if after := v.state(t); after != before {
		t.Errorf("after the visit the run and the processes are\n%s\nand were\n%s", after, before)
	}
	v.checkCommandLines(t, info.Endpoints)
}

// listed is what each try was answered; files that were all denied are one line for each way.
func listed(answers []answer) string {
	var b strings.Builder
	denied := map[string]int{}
	for _, a := range answers {
		verb, _, _ := strings.Cut(a.What, " ")
		if slices.Contains([]string{"read", "write", "remove", "list", "make"}, verb) &&
			strings.HasSuffix(a.Said, "permission denied") {
			denied[verb]++
			continue
		}
		fmt.Fprintf(&b, "| %s | %s |\n", a.What, a.Said)
	}
	for _, verb := range slices.Sorted(maps.Keys(denied)) {
		fmt.Fprintf(&b, "| %s %d files or folders | permission denied, each |\n", verb, denied[verb])
	}
	return b.String()
}

// visitOf finds out, as root, all that is worth a try.
func visitOf(t *testing.T, data string, info devstack.Info) visit {
	t.Helper()
	v := visit{Data: data, Run: "guarded", Pids: []int{info.Pid}}
	var postgres struct {
		Port          int
		Socket, Place string
	}
	var temporal struct{ Port, Pid int }
	var worker struct{ Pid int }
	for file, to := range map[string]any{"postgres/postgres.json": &postgres, "temporal/temporal.json": &temporal,
		"worker.json": &worker} {
		b, err := os.ReadFile(filepath.Join(data, file))
		if err := errors.Join(err, json.Unmarshal(b, to)); err != nil {
			t.Fatal(err)
		}
	}
	v.Socket, v.SQL, v.Pids = postgres.Socket, postgres.Port, append(v.Pids, temporal.Pid, worker.Pid)
	for _, root := range []string{data, postgres.Socket, postgres.Place} {
		if root == "" {
			continue
		}
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if strings.Contains(path, "/postgres/data/") && strings.Count(path, "/") > strings.Count(data, "/")+3 {
				return fs.SkipDir // its thousand files are as closed as their folder
			}
			v.Paths = append(v.Paths, path)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	p := temporal.Port
	if v.Ports = listens(t, temporal.Pid); !slices.Equal(v.Ports, []int{p, p + 1, p + 2, p + 3}) {
		t.Errorf("Temporal listens on %v: want the four ports from %d on, and nothing else", v.Ports, p)
	}
	return v
}

// listens are the TCP ports on which a process listens.
func listens(t *testing.T, pid int) (ports []int) {
	t.Helper()
	own := map[string]bool{}
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, l := range links {
		if to, err := os.Readlink(l); err == nil && strings.HasPrefix(to, "socket:[") {
			own[strings.Trim(strings.TrimPrefix(to, "socket:"), "[]")] = true
		}
	}
	for _, table := range []string{"tcp", "tcp6"} {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		for _, line := range strings.Split(string(b), "\n") {
			f := strings.Fields(line)
			if len(f) < 10 || f[3] != "0A" || !own[f[9]] {
				continue
			}
			port, err := strconv.ParseInt(f[1][strings.LastIndexByte(f[1], ':')+1:], 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			ports = append(ports, int(port))
		}
	}
	slices.Sort(ports)
	return ports
}

// send lets the stranger try, from a folder of their own with a copy of the program.
func (v visit) send(t *testing.T) (answers []answer) {
	t.Helper()
	home, err := os.MkdirTemp("", "trimtab-stranger-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	v.Program = filepath.Join(home, "trimtab")
	self := filepath.Join(home, "stranger")
	err = errors.Join(os.WriteFile(v.Program, program, 0o755), os.Link(v.Program, self),
		os.Chown(home, strangerID, strangerID))
	if err != nil {
		t.Fatal(err)
	}
	in, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Dir, cmd.Stdin, cmd.Stderr = home, bytes.NewReader(in), os.Stderr
	cmd.Env = []string{"HOME=" + home, "PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: strangerID, Gid: strangerID}}
	raw, err := cmd.Output()
	if err := errors.Join(err, json.Unmarshal(raw, &answers)); err != nil {
		t.Fatalf("the stranger: %v\n%s", err, raw)
	}
	return answers
}

// state is what a stranger must not change: the run, its history, the processes, the names of all files.
func (v visit) state(t *testing.T) string {
	t.Helper()
	_, shown, _ := command(t, "", "show", v.Run, "-o", "json")
	var doc struct{ Status string }
	if err := json.Unmarshal([]byte(shown), &doc); err != nil {
		t.Fatal(err)
	}
	_, events, _ := command(t, "", "history", v.Run, "-o", "jsonl")
	s := fmt.Sprintf("%s, %d events", doc.Status, strings.Count(events, "\n"))
	for _, pid := range v.Pids {
		_, err := os.Stat(fmt.Sprintf("/proc/%d/environ", pid))
		s += fmt.Sprintf(", %d alive %v", pid, err == nil)
	}
	return s
}

// checkCommandLines looks for secrets where every user sees them.
func (v visit) checkCommandLines(t *testing.T, e devstack.Endpoints) {
	t.Helper()
	secrets := []string{e.AppPassword, e.AuditorPassword}
	for _, file := range []string{"postgres/postgres.password", "temporal/temporal.password"} {
		b, err := os.ReadFile(filepath.Join(v.Data, file))
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, strings.TrimSpace(string(b)))
	}
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range lines {
		b, _ := os.ReadFile(file)
		for _, secret := range secrets {
			if bytes.Contains(b, []byte(secret)) {
				t.Errorf("a password is in %s: %q", file, b)
			}
		}
	}
}
