package devstack

import (
	"os"
	"slices"
	"strings"
)

// IgnoreEnvironment removes from this process's environment the variables that
// configure clients of Postgres (PGSERVICE, PGOPTIONS, PGHOST …) and of Temporal
// (TEMPORAL_…): our clients would obey them and reach another server, or another
// schema, than the embedded one. A program that uses servers named by the user
// must not call it.
func IgnoreEnvironment() {
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); isClientVariable(name) {
			os.Unsetenv(name)
		}
	}
}

// isClientVariable reports whether a variable configures clients of Postgres or
// Temporal.
func isClientVariable(name string) bool {
	return strings.HasPrefix(name, "PG") || strings.HasPrefix(name, "TEMPORAL_")
}

// environment is this process's environment without those variables.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return isClientVariable(name)
	})
}

// serverVariables are the variables that an embedded Temporal server inherits. It
// gets no home, where libpq would look for files, and no settings of proxies,
// trace exporters or other libraries.
var serverVariables = []string{"PATH", "TMPDIR", "USER", "LOGNAME", "TZ", "LANG", "LC_ALL",
	"GOMAXPROCS", "GOMEMLIMIT", "GOGC", "GODEBUG", "GOTRACEBACK"}

// serverEnvironment is the environment of an embedded Temporal server.
func serverEnvironment() (env []string) {
	for _, name := range serverVariables {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return append(env, "TEMPORAL_VERSION_CHECK_DISABLED=true") // the check would contact a server on the internet
}
