package redact_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/trimtab/trimtab/redact"
)

func TestAddress(t *testing.T) {
	for in, want := range map[string]string{
		"":                      "",
		"db:5432":               "db:5432",
		"/var/lib/a=b@c":        "/var/lib/a=b@c",
		"./heads":               "./heads",
		"folder":                "folder",
		"postgres://ann@db/x":   "postgres://ann@db/x",
		"postgres://db:5432":    "postgres://db:5432",
		"http://lake:5000/a/b?": "http://lake:5000/a/b?",
		"file:///tmp/a?b=c":     "file:///tmp/a?b=c",

		"postgres://ann:hunter2@db:5432/x?sslmode=require":           "postgres://ann:xxxxx@db:5432/x?sslmode=require",
		"postgres://ann:@db/x":                                       "postgres://ann:xxxxx@db/x",
		"postgresql://ann:hun%2Fter2@db/x":                           "postgresql://ann:xxxxx@db/x",
		"postgres://db/x?password=hunter2&user=ann&sslpassword=h2":   "postgres://db/x?password=xxxxx&user=ann&sslpassword=xxxxx",
		"postgres://db/x?pass%77ord=hunter2&PASSWORD=hunter2":        "postgres://db/x?pass%77ord=xxxxx&PASSWORD=xxxxx",
		"postgres://db/x?unheard_of=hunter2&pool_max_conns=4":        "postgres://db/x?unheard_of=xxxxx&pool_max_conns=4",
		"postgres://ann:hunter2@a:1,b:2/x?target_session_attrs=any":  "postgres://ann:xxxxx@a:1,b:2/x?target_session_attrs=any",
		"postgres://ann:hun@ter2@db/x":                               "postgres://ann:xxxxx@db/x",
		"postgres://ann:hun/ter2@db/x":                               "postgres://xxxxx",
		"postgres://ann:123/ter2@db/x":                               "postgres://xxxxx",
		"postgres://ann:hun ter2@db/x":                               "postgres://xxxxx",
		"postgres://ann:hun'ter2@db/x":                               "postgres://xxxxx",
		"postgres://ann:%zz@db/x":                                    "postgres://xxxxx",
		"host=db user=ann":                                           "host=db user=ann",
		"host=db password=hunter2 user=ann":                          "host=db password=xxxxx user=ann",
		"host = db   password = 'hun ter2\\' host=x' sslmode=prefer": "host=db password=xxxxx sslmode=prefer",
		"host=db passwor=hunter2":                                    "host=db xxxxx=xxxxx",
		"host=db password=hun ter2=x":                                "host=db password=xxxxx xxxxx=xxxxx",
		"host=db password='hunter2":                                  "xxxxx",
		"host=db hunter2 =":                                          "host=db xxxxx=xxxxx",
		"hunter2=x@db":                                               "xxxxx=xxxxx",
		"ann:hunter2@db:5432":                                        "xxxxx@db:5432",
		"https://ann:hunter2@lake/x":                                 "https://ann:xxxxx@lake/x",
		"https://hunter2@lake/x":                                     "https://xxxxx@lake/x",
		"https://lake/x?api_key=hunter2&token=h2#hunter2":            "https://lake/x?api_key=xxxxx&token=xxxxx#xxxxx",
		"https://lake/x?hunter2":                                     "https://lake/x?xxxxx",
		"https://lake/x#hunter2":                                     "https://lake/x#xxxxx",
		"socks5://ann:hunter2@proxy:1080":                            "socks5://ann:xxxxx@proxy:1080",
		"password=hunter2 x://y":                                     "xxxxx",
		"host=db password=hunter2://y":                               "host=db password=xxxxx",
		"hun ter2://y":                                               "xxxxx",
	} {
		if got := redact.Address(in); got != want {
			t.Errorf("%s\nshows %s\nwant  %s", in, got, want)
		}
		if again := redact.Address(want); again != want {
			t.Errorf("%s shows again as %s", want, again)
		}
	}
	if got := redact.List("/a, https://u:p@h/x?k=v ,b"); got != "/a, https://u:xxxxx@h/x?k=xxxxx ,b" {
		t.Errorf("a list shows %s", got)
	}
}

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"nothing to hide: 3 of 4 (a=b)": "nothing to hide: 3 of 4 (a=b)",
		"Temporal's pages are at http://127.0.0.1:26212": "Temporal's pages are at " +
			"http://127.0.0.1:26212",
		"NAME@sha256:0123 at 12:00:05":                        "NAME@sha256:0123 at 12:00:05",
		"max_tokens=32, tokens=4":                             "max_tokens=32, tokens=4",
		`Post "https://lake/x?api_key=hunter2": no such host`: `Post "https://lake/x?api_key=xxxxx": no such host`,
		"dial http://ann:hunter2@h/x, then https://hunter2@h.": "dial http://ann:xxxxx@h/x, then " +
			"https://xxxxx@h.",
		"cannot parse `host=h password=hunter2 user=x`: bad": "cannot parse `host=h password=xxxxx " +
			"user=x`: bad",
		"with password='hun ter2' and PGPASSWORD=hunter2":                  "with password=xxxxx and PGPASSWORD=xxxxx",
		"invalid target address ann:hunter2@h:7233":                        "invalid target address ann:xxxxx@h:7233",
		`proxyconnect: invalid proxy address "http://ann:hunter2@p:1": no`: `proxyconnect: invalid proxy address "http://ann:xxxxx@p:1": no`,
	} {
		if got := redact.Text(in); got != want {
			t.Errorf("%s\nreads %s\nwant  %s", in, got, want)
		}
	}
}

// Whatever a library makes of an address, its secret is not seen.
func TestRedactor(t *testing.T) {
	addresses := []string{
		"postgres://ann:hun ter2secret@db/x", "postgres://ann:hun/ter2secret@db/x", "host=db passwor='hunter2 secret'",
		"https://lake/x?key=hunter2%2Fsecret",
		"postgres://ann:123/ter2secret@db/x", "ann:hunter2secret@db",
	}
	r := redact.New(addresses, []string{"plain hunter2", "trimtab", "abc"})
	texts := []string{
		`parse "postgres://ann:hun": invalid port ":hun ter2secret" after host`, "lookup ter2secret: no such host",
		"database=ter2secret@db/x refused",
		"unknown keyword hunter2 secret", "the answer to hunter2/secret", "the answer to hunter2%2Fsecret",
		"the password plain hunter2 is bad", "who is hunter2secret",
	}
	for _, text := range append(texts, addresses...) {
		if got := r.Text(text); strings.Contains(got, "ter2") || strings.Contains(got, "secret") {
			t.Errorf("%s\nreads %s", text, got)
		}
	}
	if got := r.Text("run trimtab doctor, abc"); got != "run trimtab doctor, abc" {
		t.Errorf("words of messages are hidden: %s", got)
	}
	if got := (*redact.Redactor)(nil).Text("https://a:hunter2@b"); got != "https://a:xxxxx@b" {
		t.Errorf("without known secrets: %s", got)
	}
}

// A secret in any of its places, whatever its characters, is not in what is shown.
func FuzzAddress(f *testing.F) {
	for _, s := range []string{"hunter2", "hun ter2", "a'b\\c", "p@ss/w?rd#x=1&y", "%zz%2", "\x00\xff", "'", "://",
		"=x", "xxxxx"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		const mark = "k9q7z4w2" // in front, in the middle and behind
		secret := mark + s + mark
		quoted := strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(secret)
		for _, a := range []string{
			"postgres://ann:" + url.QueryEscape(secret) + "@db/x", "postgres://ann:" + secret + "@db/x",
			"postgres://db/x?password=" + url.QueryEscape(secret),
			"host=db password='" + quoted + "' user=ann", "https://" + url.QueryEscape(secret) + "@lake/",
			"https://lake/x?key=" + url.QueryEscape(secret),
		} {
			if shown := redact.Address(a); strings.Contains(shown, mark) {
				t.Errorf("%q shows %q", a, shown)
			}
			if got := redact.New([]string{a}, nil).Text("while reading " + a + ": bad"); strings.Contains(got, mark) {
				t.Errorf("%q reads %q", a, got)
			}
		}
		_ = redact.Address(s) // takes anything
		_ = redact.List(s)
		_ = redact.Text(s)
	})
}
