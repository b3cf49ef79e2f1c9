package notary_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/trimtab/trimtab/audit"
	"github.com/trimtab/trimtab/storage"
)

// oddBodies are bodies that events might have, beside those that the program writes.
var oddBodies = []string{
	`{}`, `{"first":0,"from":0,"until":2,"steps":2}`,
	`{"first":1,"from":0,"until":4,"checkpoint":{"step":2,"digest":"x"}}`, `{"from":2,"until":4}`,
	`{"from":"1","until":"3"}`,
	`{"first":3,"until":3,"checkpoint":{"step":4}}`, `{"until":4}`, `{"from":0}`,
	`{"from":0,"until":99999999999,"checkpoint":{}}`, `{"checkpoint":{"step":null}}`, `{"from":null,"until":3}`,
	`{"revision":1}`, `{"revision":"1"}`, `{"revision":null}`, `{"revision":99}`, `{"status":"reused"}`,
	`{"status":"queued"}`, `{"digest":"nothing","name":""}`,
	`{"digest":null,"name":"base"}`, `{"name":"base"}`, `{"document":"nothing"}`, `{"version":"nothing"}`,
	`{"version":null}`, `{"first":"x"}`, `{"revision":"one"}`, `[]`, `not JSON`,
	`{"digest":"x","digest":"y","name":"ü"}`,
}

// What an event tells of is found here as facts_of in the database finds it, with which events were sealed: for every
// event of a record, and for events with odd bodies in odd streams.
func TestFactsAreFoundAsPostgresFindsThem(t *testing.T) {
	r := newRecord(t)
	r.fill()
	r.exec("create table pg_temp.odd (body text)")
	for _, b := range oddBodies {
		_, err := r.owner.Exec(t.Context(), "insert into pg_temp.odd values ($1)", b)
		must(t, err)
	}
	var types []string
	for _, typ := range audit.SealingTypes {
		types = append(types, string(typ))
	}
	// events of the record and odd ones, each with a number of its own behind those of its stream
	r.exec(`insert into pg_temp.odd select distinct convert_from(body, 'UTF8') from event`)
	r.exec(fmt.Sprintf(`insert into event (stream, sequence, at, actor, type, stage, attempt, body, facts, hash)
		select stream, 1000 + row_number() over (partition by stream order by type, stage, attempt, body), now(), 'ann',
			type, stage, attempt, convert_to(body, 'UTF8'), '', ''
		from unnest('{run-one,run-two,dataset/texts,dataset/rankings,dataset/prompts,artifact/x,documents,xyz,ünknown/demos}'::text[]) stream
			cross join unnest('{%s,run_ended}'::text[]) type cross
				join unnest('{"",sft,ppo,absent}'::text[]) stage cross
				join generate_series(0, 2) attempt
			cross join pg_temp.odd where hashtext(stream || type || stage || attempt || body) %% 16 = 0`, strings.Join(types, ",")))
	r.exec(`create function pg_temp.facts_or_error(e event) returns text language plpgsql as $$ begin return facts_of(e.stream, e.sequence, e.type, e.stage, e.attempt, e.body);
		exception when others then return 'error'; end $$`)
	want := map[string]string{}
	rows, err := r.owner.Query(t.Context(), "select stream || ' ' || sequence, pg_temp.facts_or_error(e) from event e")
	must(t, err)
	for rows.Next() {
		var key, facts string
		must(t, rows.Scan(&key, &facts))
		want[key] = facts
	}
	must(t, rows.Err())
	tried, states := 0, 0
	must(t, r.store.Snapshot(t.Context(), func(rd storage.Snapshot) error {
		return rd.RecountFacts(t.Context(), nil, func(told storage.RecountedEvent) error {
			key := fmt.Sprintf("%s %d", told.Stream, told.Sequence)
			facts := want[key]
			switch {
			case told.State:
				states++
				if !strings.Contains(facts, told.Recounts[0].Line()) {
					t.Errorf("%s (%s): %q, in Postgres %q", key, told.Type, told.Recounts[0].Line(), facts)
				}
				return nil
			case told.Err != nil:
				if facts != "error" && !strings.Contains(told.Err.Error(), "not a JSON object") {
					t.Errorf("%s (%s): %v, in Postgres %q", key, told.Type, told.Err, facts)
				}
				return nil
			}
			tried++
			have := ""
			lines := strings.SplitAfter(facts, "\n")
			for i, now := range told.Recounts {
				if now.Deferred && i < len(lines) && strings.HasPrefix(lines[i], now.Table+" ") {
					have += lines[i]
				} else {
					have += now.Line()
				}
			}
			if have != facts {
				t.Errorf("%s (%s %s %d): %q, in Postgres %q", key, told.Type, told.Stage, told.Attempt, have, facts)
			}
			return nil
		})
	}))
	if tried < 4000 || states < 4 {
		t.Errorf("only %d events, %d states", tried, states)
	}
	t.Logf("%d events and %d states", tried, states)
}
