package devstack

import (
	"context"
	"fmt"
	"net"
	"os"
	"testing"
)

func listen(t testing.TB, port int) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestHelper is no test: it is what other tests run as a process of its own, to kill it.
func TestHelper(t *testing.T) {
	dir := os.Getenv("DEVSTACK_DIR")
	switch os.Getenv("DEVSTACK_HELPER") {
	case "":
		t.Skip("run by other tests")
	case "postgres":
		s, err := StartPostgres(context.Background(), PostgresOptions{Dir: dir, Fast: true})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("ready %d\n", s.Pid)
		select {}
	}
}
