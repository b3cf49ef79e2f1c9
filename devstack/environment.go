package devstack

import (
	"os"
	"slices"
	"strings"
)

// IgnoreEnvironment takes from this process the variables by which a user
// directs his own clients of Postgres (PGSERVICE, PGOPTIONS, PGHOST …) and of
// Temporal (TEMPORAL_…): our clients would obey them, and reach another server,
// or another schema, than the embedded one. Whoever uses servers that the user
// names must not call it.
func IgnoreEnvironment() {
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); isClientVariable(name) {
			os.Unsetenv(name)
		}
	}
}

func isClientVariable(name string) bool {
	return strings.HasPrefix(name, "PG") || strings.HasPrefix(name, "TEMPORAL_")
}

// environment is that of this process without what directs clients.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return isClientVariable(name)
	})
}

// serverVariables are what an embedded Temporal server is told of the user's
// environment: no home, in which files for libpq may be, no proxies, no
// exporters of traces, no settings of libraries.
var serverVariables = []string{"PATH", "TMPDIR", "USER", "LOGNAME", "TZ", "LANG", "LC_ALL",
	"GOMAXPROCS", "GOMEMLIMIT", "GOGC", "GODEBUG", "GOTRACEBACK"}

func serverEnvironment() (env []string) {
	for _, name := range serverVariables {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return append(env, "TEMPORAL_VERSION_CHECK_DISABLED=true") // it asks a server elsewhere for the newest version
}
