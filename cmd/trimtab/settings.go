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

// setting is one thing that a flag, TRIMTAB_<KEY>, trimtab.yaml or a default decides, in this order.
type setting struct {
	key, help    string
	flag         string // where it is not the key's: --data names datasets
	impliedValue string // what the flag without a value means; empty: it needs one
	defaultValue func() string
	secret       bool // no flag: it would show in the list of processes
}

func constant(s string) func() string { return func() string { return s } }

var allSettings = []setting{
	{key: "data", flag: "data-folder", help: "folder of models, logs and the embedded servers",
		defaultValue: defaultData},
	{key: "postgres_url", help: "address of a Postgres database; empty uses the embedded one",
		defaultValue: constant("")},
	{key: "postgres_owner_url", help: "address under the role that owns the database, for migrate",
		defaultValue: constant("")},
	{key: "app_password", help: "password that migrate gives the role of workers", defaultValue: constant(""),
		secret: true},
	{key: "auditor_password", help: "password that migrate gives the role of auditors", defaultValue: constant(""),
		secret: true},
	{key: "temporal_address", help: "host:port of a Temporal server; empty uses the embedded one",
		defaultValue: constant("")},
	{key: "temporal_namespace", help: "Temporal namespace", defaultValue: constant("trimtab")},
	{key: "temporal_tls", help: "auto, or on: TLS to Temporal also where no other setting wants it",
		defaultValue: constant("auto")},
	{key: "temporal_tls_ca", help: "file of the authority that vouches for Temporal (default: the system's)",
		defaultValue: constant("")},
	{key: "temporal_tls_cert", help: "file of the certificate that the Temporal server asks for",
		defaultValue: constant("")},
	{key: "temporal_tls_key", help: "file of its private key", defaultValue: constant("")},
	{key: "temporal_tls_server_name", help: "name in the Temporal server's certificate (default: of its address)",
		defaultValue: constant("")},
	{key: "temporal_api_key", help: "API key for the Temporal server, as for Temporal Cloud",
		defaultValue: constant(""), secret: true},
	{key: "audit_copies", help: "folders and addresses, with commas between, to which signed tree heads are copied",
		defaultValue: constant("")},
	{key: "audit_key", help: "file of the key that signs tree heads (default: audit.key in the data folder)",
		defaultValue: constant("")},
	{key: "actor", help: "name that your decisions are recorded under (default: your login name)",
		defaultValue: constant("")},
	{key: "require_reasons",
		help:         "whether approve, skip, cancel, and rerun with changes need a --reason: true or false",
		defaultValue: constant("true")},
	{key: "openlineage_url",
		help:         "where a worker tells OpenLineage events: an http or https address, or a file; empty tells none",
		defaultValue: constant("")},
	{key: "openlineage_namespace",
		help:         "namespace of those events (default: trimtab:// and the identity of the database)",
		defaultValue: constant("")},
	{key: "offline", help: "true: download nothing, also where no Postgres is installed",
		defaultValue: constant("false"), impliedValue: "true"},
	{key: "maven_mirror",
		help:         "address of a mirror of Maven Central, from which Postgres is fetched where none is installed",
		defaultValue: constant("")},
	{key: "log_format", help: "text or json", defaultValue: constant("text")},
	{key: "log_level", help: "debug, info, warn or error", defaultValue: constant("info")},
}

// allowed values of the settings that have a list.
var allowedValues = map[string][]string{
	"log_format":      {"text", "json"},
	"log_level":       {"debug", "info", "warn", "error"},
	"temporal_tls":    {"auto", "on"},
	"require_reasons": {"true", "false"},
}

// settings are the resolved values, each with where it came from.
type settings struct {
	values, origins map[string]string
	file            string // the settings file that was read, if any
}

func (s *settings) value(key string) string { return s.values[key] }

// addSettingFlags declares a flag for every setting that may be one: --postgres-url for postgres_url,
// --data-folder for data.
func addSettingFlags(root *cobra.Command) {
	for _, s := range allSettings {
		if !s.secret {
			root.PersistentFlags().String(s.flagName(), "", s.help)
			root.PersistentFlags().Lookup(s.flagName()).NoOptDefVal = s.impliedValue
		}
	}
}

// settingFlag is the flag of a setting, and not a command's own of that name: audit prove has an --offline.
func settingFlag(cmd *cobra.Command, s setting) *pflag.Flag {
	return cmd.Root().PersistentFlags().Lookup(s.flagName())
}

func (s setting) flagName() string {
	if s.flag != "" {
		return s.flag
	}
	return strings.ReplaceAll(s.key, "_", "-")
}

func envName(key string) string { return "TRIMTAB_" + strings.ToUpper(key) }

// readSettings resolves every setting from flags, environment, file and defaults.
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
				return nil, usagef("write it in UTF-8", "setting %s (from %s) cannot be taken: %w", one.key,
					s.origins[one.key], err)
			}
		}
		if list, ok := allowedValues[one.key]; ok && !slices.Contains(list, s.values[one.key]) {
			return nil, usagef("use "+strings.Join(list, ", "), "setting %s is %q (from %s)", one.key, s.shown(one.key),
				s.origins[one.key])
		}
	}
	if err := checkTemporalAddress(s.values["temporal_address"]); err != nil {
		return nil, usagef("write it as host:port", "setting temporal_address is %q (from %s): %w",
			s.shown("temporal_address"), s.origins["temporal_address"], err)
	}
	if err := checkLineageURL(s.values["openlineage_url"]); err != nil {
		return nil, usagef("give an http or https address, or the full path of a file",
			"setting openlineage_url is %q (from %s): %w", s.shown("openlineage_url"), s.origins["openlineage_url"],
			err)
	}
	if err := s.checkDownloads(); err != nil {
		return nil, err
	}
	return s, s.resolveDataFolder()
}

// resolveDataFolder makes the path of the data folder a full one. Where nobody names
// one and the user has no home it stays empty: not all commands need it.
func (s *settings) resolveDataFolder() (err error) {
	switch data := s.values["data"]; {
	case data != "":
		s.values["data"], err = filepath.Abs(data)
	case s.origins["data"] != "default":
		return usagef("give the path of a folder, or leave it out", "setting data is empty (from %s)",
			s.origins["data"])
	}
	return err
}

// dataFolder is the path of the data folder, for commands that need it.
func (s *settings) dataFolder() (string, error) {
	if data := s.value("data"); data != "" {
		return data, nil
	}
	return "", trimtab.NewError(trimtab.Usage, "no_data_folder",
		"name one with --data-folder or TRIMTAB_DATA, or set HOME",
		"choose the data folder: none is named, and neither XDG_DATA_HOME nor HOME is a full path")
}

// checkTemporalAddress refuses what no gRPC target is, and a user or a secret in it, which no Temporal server takes
// there.
func checkTemporalAddress(address string) error {
	switch {
	case strings.HasPrefix(address, "http://"), strings.HasPrefix(address, "https://"):
		return errors.New("it is the address of a page, not of a server")
	case strings.ContainsAny(address, "@? \t"):
		return errors.New("it holds more than a host and a port")
	}
	return nil
}

// readSettingsFile reads the named file, or the first trimtab.yaml of the usual places; none is fine.
func readSettingsFile(v *viper.Viper, file string) (string, error) {
	if file == "" {
		v.SetConfigName("trimtab")
		v.SetConfigType("yaml")
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
		return "", trimtab.NewError(class, "invalid_settings", "mend the file or leave --config out",
			"settings file %s: %w", file, err)
	}
	return file, checkSettingsFile(file)
}

// checkSettingsFile refuses keys that are no settings, and values that are lists
// or mappings: beside defaults and variables they would be passed over.
func checkSettingsFile(file string) error {
	v := viper.New()
	v.SetConfigFile(file)
	v.SetConfigType("yaml")
	if err := v.ReadInConfig(); err != nil {
		return err // it could be read a moment ago
	}
	for _, key := range v.AllKeys() {
		name, _, nested := strings.Cut(key, ".")
		switch {
		case !slices.Contains(settingKeys(), name):
			return trimtab.NewError(trimtab.Usage, "invalid_settings", recipes.Suggest(key, settingKeys()),
				"settings file %s: unknown key %q", file, key)
		case nested:
			return trimtab.NewError(trimtab.Usage, "invalid_settings", "write it as one text",
				"settings file %s: %s is a mapping", file, name)
		}
		if _, isList := v.Get(key).([]any); isList {
			return trimtab.NewError(trimtab.Usage, "invalid_settings",
				"write it as one text, with commas between where it takes several", "settings file %s: %s is a list",
				file, name)
		}
	}
	return nil
}

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

func settingKeys() []string {
	keys := make([]string, len(allSettings))
	for i, s := range allSettings {
		keys[i] = s.key
	}
	return keys
}

func defaultData() string { return xdg("XDG_DATA_HOME", ".local/share") }
func configHome() string  { return xdg("XDG_CONFIG_HOME", ".config") }

// xdg is our folder in one of the XDG base directory specification; empty for a
// user without a home. It is never in a folder that other users can write, such
// as the temporary one, in which they could have it ready.
func xdg(variable, standard string) string {
	if dir := os.Getenv(variable); filepath.IsAbs(dir) {
		return filepath.Join(dir, "trimtab")
	}
	home, err := os.UserHomeDir()
	if err != nil || !filepath.IsAbs(home) {
		return ""
	}
	return filepath.Join(home, standard, "trimtab")
}
