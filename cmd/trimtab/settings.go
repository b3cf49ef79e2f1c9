package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/devstack"
	"github.com/trimtab/trimtab/recipes"
)

// setting is one setting. Its value comes from the first of these that has
// one: the flag, the environment variable TRIMTAB_<KEY>, the settings file,
// the default.
type setting struct {
	// key is the name in the settings file, and help the text of the flag.
	key, help string
	// flag is the flag's name where it is not derived from the key: --data
	// names datasets, so the data folder's flag is --data-folder.
	flag string
	// impliedValue is the value of the flag without an argument, as in
	// --offline; empty means that the flag needs one.
	impliedValue string
	// defaultValue computes the default, which may depend on the environment.
	defaultValue func() string
	// secret settings have no flag, since command lines are visible to every
	// user of the machine, and their values are never printed.
	secret bool
}

// constant is a default value that depends on nothing.
func constant(s string) func() string { return func() string { return s } }

// allSettings are all settings, in the order in which doctor prints them. A
// test checks that docs/cli.md lists each of them.
var allSettings = []setting{
	{key: "data", flag: "data-folder", help: "folder of models, logs and the embedded servers",
		defaultValue: defaultData},
	{key: "postgres_url", help: "address of a Postgres database; empty uses the embedded one",
		defaultValue: constant("")},
	{key: "postgres_owner_url", help: "address with the role that owns the database, for migrate",
		defaultValue: constant("")},
	{key: "app_password", help: "password that migrate sets for the role of workers", defaultValue: constant(""),
		secret: true},
	{key: "auditor_password", help: "password that migrate sets for the role of auditors", defaultValue: constant(""),
		secret: true},
	{key: "temporal_address", help: "host:port of a Temporal server; empty uses the embedded one",
		defaultValue: constant("")},
	{key: "temporal_namespace", help: "Temporal namespace", defaultValue: constant("trimtab")},
	{key: "temporal_tls", help: "on: always use TLS to Temporal; auto: if another setting requires it",
		defaultValue: constant("auto")},
	{key: "temporal_tls_ca", help: "file of the CA certificates to trust for Temporal (default: the system's)",
		defaultValue: constant("")},
	{key: "temporal_tls_cert", help: "file of the client certificate for the Temporal server",
		defaultValue: constant("")},
	{key: "temporal_tls_key", help: "file of the client certificate's private key", defaultValue: constant("")},
	{key: "temporal_tls_server_name",
		help:         "name expected in the Temporal server's certificate (default: the host of its address)",
		defaultValue: constant("")},
	{key: "temporal_api_key", help: "API key for the Temporal server, as for Temporal Cloud",
		defaultValue: constant(""), secret: true},
	{key: "audit_copies", help: "comma-separated folders and URLs to which signed tree heads are copied",
		defaultValue: constant("")},
	{key: "audit_key", help: "file of the key that signs tree heads (default: audit.key in the data folder)",
		defaultValue: constant("")},
	{key: "actor", help: "name under which your decisions are recorded (default: your login name)",
		defaultValue: constant("")},
	{key: "require_reasons",
		help:         "whether approve, skip, cancel and a rerun with changes need a --reason: true or false",
		defaultValue: constant("true")},
	{key: "openlineage_url",
		help:         "URL or file that workers send OpenLineage events to; empty sends none",
		defaultValue: constant("")},
	{key: "openlineage_namespace",
		help:         "namespace of OpenLineage events (default: trimtab:// and the database's identity)",
		defaultValue: constant("")},
	{key: "offline", help: "true: never download anything, even if no Postgres is installed",
		defaultValue: constant("false"), impliedValue: "true"},
	{key: "maven_mirror",
		help:         "mirror of Maven Central from which Postgres is downloaded if none is installed",
		defaultValue: constant("")},
	{key: "log_format", help: "text or json", defaultValue: constant("text")},
	{key: "log_level", help: "debug, info, warn or error", defaultValue: constant("info")},
}

// allowedValues lists the values of the settings that have a fixed set of
// them.
var allowedValues = map[string][]string{
	"log_format":      {"text", "json"},
	"log_level":       {"debug", "info", "warn", "error"},
	"temporal_tls":    {"auto", "on"},
	"require_reasons": {"true", "false"},
}

// settings are the resolved values.
type settings struct {
	// values and origins are by key: the value, and where it came from in words.
	values, origins map[string]string
	// file is the settings file that was read, or empty.
	file string
}

// value is the resolved value of a setting, empty where it is not set.
func (s *settings) value(key string) string { return s.values[key] }

// addSettingFlags declares a flag for every setting that is not secret:
// --postgres-url for postgres_url, --data-folder for data.
func addSettingFlags(root *cobra.Command) {
	for _, s := range allSettings {
		if !s.secret {
			root.PersistentFlags().String(s.flagName(), "", s.help)
			root.PersistentFlags().Lookup(s.flagName()).NoOptDefVal = s.impliedValue
		}
	}
}

// settingFlag is the global flag of a setting. A command may have a flag of
// its own by that name: audit prove has an --offline.
func settingFlag(cmd *cobra.Command, s setting) *pflag.Flag {
	return cmd.Root().PersistentFlags().Lookup(s.flagName())
}

// flagName is the name of the setting's flag.
func (s setting) flagName() string {
	if s.flag != "" {
		return s.flag
	}
	return strings.ReplaceAll(s.key, "_", "-")
}

// envName is the name of a setting's environment variable.
func envName(key string) string { return "TRIMTAB_" + strings.ToUpper(key) }

// readSettings resolves and validates all settings. An error names the
// setting and where its value came from, without any secret in it.
func readSettings(cmd *cobra.Command, file string) (*settings, error) {
	v := viper.New()
	v.SetEnvPrefix("TRIMTAB")
	for _, s := range allSettings {
		v.SetDefault(s.key, s.defaultValue())
		_ = v.BindEnv(s.key) // fails only without a key
		if flag := settingFlag(cmd, s); flag != nil && flag.Changed {
			v.Set(s.key, flag.Value.String())
		}
	}
	// The file is read after flags and environment are known, but ranks below
	// them.
	path, err := readSettingsFile(v, file)
	if err != nil {
		return nil, err
	}
	s := &settings{values: map[string]string{}, origins: map[string]string{}, file: path}
	for _, one := range allSettings {
		s.values[one.key] = v.GetString(one.key)
		s.origins[one.key] = origin(cmd, v, one, path)
		if !slices.Contains(pathFlags, one.flagName()) {
			if err := validText(s.values[one.key]); err != nil {
				return nil, usagef("write it in UTF-8", "setting %s (from %s) is not valid: %w", one.key,
					s.origins[one.key], err)
			}
		}
		if list, ok := allowedValues[one.key]; ok && !slices.Contains(list, s.values[one.key]) {
			return nil, usagef("use "+strings.Join(list, ", "),
				"setting %s is %q (from %s)", one.key, s.shown(one.key), s.origins[one.key])
		}
	}
	if err := checkTemporalAddress(s.values["temporal_address"]); err != nil {
		return nil, usagef("write it as host:port", "setting temporal_address is %q (from %s): %w",
			s.shown("temporal_address"), s.origins["temporal_address"], err)
	}
	if err := checkLineageURL(s.values["openlineage_url"]); err != nil {
		return nil, usagef("use an http or https URL, or the absolute path of a file",
			"setting openlineage_url is %q (from %s): %w", s.shown("openlineage_url"), s.origins["openlineage_url"],
			err)
	}
	if err := s.checkDownloads(); err != nil {
		return nil, err
	}
	return s, s.resolveDataFolder()
}

// resolveDataFolder makes the data folder's path absolute. It stays empty for
// a user without a home directory who names none: not every command needs it.
func (s *settings) resolveDataFolder() (err error) {
	switch data := s.values["data"]; {
	case data != "":
		s.values["data"], err = filepath.Abs(data)
	case s.origins["data"] != "default":
		return usagef("set it to the path of a folder, or leave it out",
			"setting data is empty (from %s)", s.origins["data"])
	}
	return err
}

// dataFolder is the path of the data folder, or an error where there is none.
func (s *settings) dataFolder() (string, error) {
	if data := s.value("data"); data != "" {
		return data, nil
	}
	return "", trimtab.NewError(trimtab.Usage, "no_data_folder",
		"name one with --data-folder or TRIMTAB_DATA, or set HOME",
		"choose the data folder: none is set, and neither XDG_DATA_HOME nor HOME is an absolute path")
}

// checkTemporalAddress rejects what is not a gRPC target. A user or password
// in the address is rejected too: Temporal takes none there, and the address
// is logged.
func checkTemporalAddress(address string) error {
	switch {
	case strings.HasPrefix(address, "http://"), strings.HasPrefix(address, "https://"):
		return errors.New("it is a web address")
	case strings.ContainsAny(address, "@? \t"):
		return errors.New("it has more than a host and a port")
	}
	return nil
}

// readSettingsFile reads the named file, or the first trimtab.yaml in the
// working directory and the user's config folder; having none is fine. A file
// found in this way is read only if no other user can write it, since
// settings decide which servers are used.
func readSettingsFile(v *viper.Viper, file string) (string, error) {
	if file == "" {
		v.SetConfigName("trimtab")
		v.SetConfigType("yaml")
		// The file in the working directory wins: it is about a project, and
		// the other one about a user.
		for _, dir := range []string{".", configHome()} {
			if dir == "" {
				continue
			}
			candidate := filepath.Join(dir, "trimtab.yaml")
			if _, err := os.Stat(candidate); err != nil {
				continue
			}
			if err := devstack.CheckSettingsFile(candidate); err != nil {
				return "", usagef("name it with --config if you trust it", "read settings file %s: %w", candidate, err)
			}
			file = candidate
			break
		}
		if file == "" {
			return "", nil
		}
	}
	v.SetConfigFile(file)
	v.SetConfigType("yaml")
	if err := v.ReadInConfig(); err != nil {
		class := trimtab.Usage
		if errors.Is(err, fs.ErrNotExist) {
			class = trimtab.NotFound
		}
		return "", trimtab.NewError(class, "invalid_settings", "fix the file, or leave --config out",
			"settings file %s: %w", file, err)
	}
	return file, checkSettingsFile(file)
}

// checkSettingsFile rejects unknown keys, with the nearest known one as a
// hint, and values that are lists or mappings, which would be ignored
// otherwise. It reads the file by itself, since the other instance also has
// the defaults and the environment.
func checkSettingsFile(file string) error {
	v := viper.New()
	v.SetConfigFile(file)
	v.SetConfigType("yaml")
	if err := v.ReadInConfig(); err != nil {
		return err
	}
	for _, key := range v.AllKeys() {
		name, _, nested := strings.Cut(key, ".")
		switch {
		case !slices.Contains(settingKeys(), name):
			return trimtab.NewError(trimtab.Usage, "invalid_settings", recipes.Suggest(key, settingKeys()),
				"settings file %s: unknown key %q", file, key)
		case nested:
			return trimtab.NewError(trimtab.Usage, "invalid_settings", "write it as a string",
				"settings file %s: %s is a mapping", file, name)
		}
		if _, isList := v.Get(key).([]any); isList {
			return trimtab.NewError(trimtab.Usage, "invalid_settings",
				"write it as a string, with several values separated by commas", "settings file %s: %s is a list",
				file, name)
		}
	}
	return nil
}

// origin says where the value of a setting came from: "flag --x",
// "environment X", the path of the file, or "default".
func origin(cmd *cobra.Command, v *viper.Viper, s setting, file string) string {
	if flag := settingFlag(cmd, s); flag != nil && flag.Changed {
		return "flag --" + s.flagName()
	}
	if os.Getenv(envName(s.key)) != "" {
		return "environment " + envName(s.key)
	}
	if v.InConfig(s.key) {
		return file
	}
	return "default"
}

// settingKeys are the keys of all settings.
func settingKeys() []string {
	keys := make([]string, len(allSettings))
	for i, s := range allSettings {
		keys[i] = s.key
	}
	return keys
}

// defaultData is the default data folder.
func defaultData() string { return xdg("XDG_DATA_HOME", ".local/share") }

// configHome is the user's config folder of this program.
func configHome() string { return xdg("XDG_CONFIG_HOME", ".config") }

// xdg is this program's folder in one of the base directories of the XDG Base
// Directory Specification, or empty for a user without a home directory. It
// never falls back to a folder that other users can write, such as /tmp,
// where they could prepare it.
func xdg(variable, standard string) string {
	if dir := os.Getenv(variable); filepath.IsAbs(dir) {
		return filepath.Join(dir, "trimtab")
	}
	// A relative HOME is no home: the folder would depend on the working
	// directory.
	home, err := os.UserHomeDir()
	if err != nil || !filepath.IsAbs(home) {
		return ""
	}
	return filepath.Join(home, standard, "trimtab")
}
