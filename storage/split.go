package storage

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
)

// SplitBy says what a split does not tear apart.
type SplitBy string

// The units of a split. Either way all items of one prompt are on one side.
const (
	SplitByPrompt SplitBy = "prompt"
	SplitByGroup  SplitBy = "group" // a ranking's group, or without one its prompt; other items have their prompt
)

// SplitRule says which units are held out, and is kept in the record.
type SplitRule struct {
	By    SplitBy `json:"by"`
	Share float64 `json:"share"`
	Seed  uint64  `json:"seed"`
	Below uint64  `json:"below,string"` // the units whose number is below it are held out
}

// SplitResult is what a split did, or would do.
type SplitResult struct {
	Rule             SplitRule
	Items, HeldOut   int // items that had no split, and those of them that are held out
	Units, TestUnits int
	Replaced         int            // items without a split, which later versions do not hold
	Version          DatasetVersion // of a split that was done
}

// splitEvent is the body of dataset_split.
type splitEvent struct {
	SplitRule
	Replaces []int64 `json:"replaces"` // the events that added what later versions do not hold
	Made     []int64 `json:"made"`     // the events that added it again, with a split
}

// SplitDataset gives every item of a dataset that was imported without a split
// one by a rule, and freezes the result. number numbers a unit; with dry
// nothing is changed. The items without a split stay in the record, and no
// later version holds them; each has its twin with a split, which counts as
// imported from the same files. A second split of a dataset takes what was
// imported since, by the same rule. It fails with Conflict
// "dataset_split_already" when the rule is another one or nothing is left to
// split, "dataset_has_splits" when the data has splits of its own, and
// "dataset_one_unit" when all items are of one unit.
func (s *Store) SplitDataset(ctx context.Context, dataset string, rule SplitRule, number func(unit string) uint64,
	actor string, dry bool) (SplitResult, error) {
	done := SplitResult{Rule: rule}
	err := s.write(ctx, "splitting dataset "+dataset, func(tx pgx.Tx) error {
		kind, err := lockDataset(ctx, tx, dataset)
		if err != nil {
			return err
		}
		if kind == trimtab.KindText {
			return trimtab.NewError(trimtab.Usage, "wrong_kind", "split demonstrations, prompts or rankings",
				"dataset %q holds text, which has no splits", dataset)
		}
		p := splitter{tx: tx, dataset: dataset, kind: kind, actor: actor, number: number, result: &done}
		if err := p.sources(ctx); err != nil {
			return err
		}
		if err := p.measure(ctx); err != nil || dry {
			return err
		}
		return p.apply(ctx)
	})
	return done, err
}

// splitter is a split under way.
type splitter struct {
	tx      pgx.Tx
	dataset string
	kind    trimtab.Kind
	actor   string
	number  func(string) uint64
	result  *SplitResult

	events   []int64           // that added what is to be split
	repeated bool              // the dataset was split before: the rule is given
	merged   map[string]string // units that stand for one another, by the one that stands for all
}

// splitEvents reads the splits that a dataset went through.
func splitEvents(ctx context.Context, q querier, dataset string) ([]splitEvent, error) {
	return queryRows(ctx, q, func(row pgx.CollectableRow) (e splitEvent, err error) {
		var body []byte
		if err := row.Scan(&body); err != nil {
			return e, err
		}
		return e, json.Unmarshal(body, &e)
	}, "select body from event where stream = 'dataset/' || $1 and type = 'dataset_split' order by sequence", dataset)
}

// replacedEvents are the events whose items without a split no version holds any more.
func replacedEvents(ctx context.Context, q querier, dataset string) ([]int64, error) {
	before, err := splitEvents(ctx, q, dataset)
	events := []int64{}
	for _, e := range before {
		events = append(events, e.Replaces...)
	}
	return events, err
}

// sources finds what is to be split, and holds the rule against that of the split before.
func (p *splitter) sources(ctx context.Context) error {
	before, err := splitEvents(ctx, p.tx, p.dataset)
	if err != nil {
		return err
	}
	settled := []int64{}
	for _, e := range before {
		settled = slices.Concat(settled, e.Replaces, e.Made)
		if r := p.result.Rule; r.By != e.By || r.Share != e.Share || r.Seed != e.Seed {
			return trimtab.NewError(trimtab.Conflict, "dataset_split_already",
				fmt.Sprintf("split it with --by %s --share %v --seed %d, or import the files into a dataset of "+
					"another name", e.By, e.Share, e.Seed),
				"dataset %q was split by %s, share %v, seed %d", p.dataset, e.By, e.Share, e.Seed)
		}
		p.result.Rule.Below, p.repeated = e.Below, true
	}
	p.events, err = queryRows(ctx, p.tx, pgx.RowTo[int64],
		"select sequence from event where stream = 'dataset/' || $1 and type = 'items_added' and sequence <> all($2) "+
			"order by sequence", p.dataset, settled)
	if err != nil {
		return err
	}
	if len(p.events) == 0 {
		return trimtab.NewError(trimtab.Conflict, "dataset_split_already",
			"import more, or use the version that it has", "nothing of dataset %q is without a split", p.dataset)
	}
	if err := p.stage(ctx); err != nil {
		return err
	}
	return p.checkNoSplits(ctx)
}

// stage puts what is to be split into a temporary table, since the items of an event lie in no order of their own.
func (p *splitter) stage(ctx context.Context) error {
	for _, sql := range []string{
		"set local idle_in_transaction_session_timeout = 0; set local work_mem = '64MB'",
		"create temporary table split_item (event bigint, item text collate \"C\") on commit drop",
	} {
		if _, err := p.tx.Exec(ctx, sql); err != nil {
			return err
		}
	}
	_, err := p.tx.Exec(ctx, `insert into split_item select i.event, i.item from dataset_item i where i.dataset = $1 and i.event = any($2)
		and not exists (select from erasure e where e.relation = $3 and e.digest = i.item) order by i.event, i.item`, p.dataset, p.events, itemTable[p.kind])
	if err == nil {
		_, err = p.tx.Exec(ctx, "create index on split_item (event, item); analyze split_item")
	}
	return err
}

// checkNoSplits refuses data with splits of its own.
func (p *splitter) checkNoSplits(ctx context.Context) error {
	var train, test int
	err := p.tx.QueryRow(ctx, fmt.Sprintf(`select count(*) filter (where t.split = 'train'), count(*) filter (where t.split = 'test')
		from split_item s join %s t on t.digest = s.item`, itemTable[p.kind])).Scan(&train, &test)
	if err != nil || train+test == 0 {
		return err
	}
	return trimtab.NewError(trimtab.Conflict, "dataset_has_splits",
		"use the split that it has, or import the files into a dataset of another name with --map split=-",
		"the data of dataset %q comes with a split of its own: %d items are of the split train, %d of test", p.dataset,
		train, test)
}

// unit is the SQL of what an item's split must not tear apart.
func (p *splitter) unit() string {
	if p.kind == trimtab.KindRankings && p.result.Rule.By == SplitByGroup {
		return "case t.grouping when '' then t.prompt else t.grouping end"
	}
	return "t.prompt"
}

// plan counts what the split does, and gives the rule the bound at which neither side is empty.
func (p *splitter) measure(ctx context.Context) error {
	if err := p.mergeGroups(ctx); err != nil {
		return err
	}
	count, err := p.units(ctx)
	if err != nil {
		return err
	}
	if !p.repeated {
		if count.different < 2 {
			return trimtab.NewError(trimtab.Conflict, "dataset_one_unit",
				"give the data different prompts or groups, or split it by prompt",
				"all %d items of dataset %q are of one %s: nothing can be held out", count.items, p.dataset,
				p.result.Rule.By)
		}
		p.result.Rule.Below = min(max(p.result.Rule.Below, count.least+1), count.most)
		if count, err = p.units(ctx); err != nil {
			return err
		}
	}
	d := p.result
	d.Items, d.Units, d.HeldOut, d.TestUnits, d.Replaced = count.items, count.different, count.heldOut, count.test, count.items
	return nil
}

// unitCounts is what a look at all units gives.
type unitCounts struct {
	items, heldOut  int
	different, test int
	least, most     uint64 // numbers
}

func (p *splitter) units(ctx context.Context) (c unitCounts, err error) {
	rows, err := p.tx.Query(ctx,
		fmt.Sprintf("select %s as unit, count(*) from split_item s join %s t on t.digest = s.item group by unit",
			p.unit(), itemTable[p.kind]))
	if err != nil {
		return c, err
	}
	var unit string
	var items int
	seen := map[string]bool{} // of units that stand for others
	_, err = pgx.ForEachRow(rows, []any{&unit, &items}, func() error {
		number, fresh := p.numberOf(unit), true
		if all, ok := p.merged[unit]; ok {
			fresh, seen[all] = !seen[all], true
		}
		if c.items == 0 {
			c.least = number
		}
		c.least, c.most, c.items = min(c.least, number), max(c.most, number), c.items+items
		test := number < p.result.Rule.Below
		if test {
			c.heldOut += items
		}
		if fresh {
			c.different++
		}
		if fresh && test {
			c.test++
		}
		return nil
	})
	return c, err
}

// numberOf is the number of a unit, or of the one that stands for it.
func (p *splitter) numberOf(unit string) uint64 {
	if all, ok := p.merged[unit]; ok {
		unit = all
	}
	return p.number(unit)
}

// mergeGroups finds groups that have a prompt in common, of all that is in the dataset: they are on one side, that of
// the first by name.
func (p *splitter) mergeGroups(ctx context.Context) error {
	p.merged = map[string]string{}
	if p.kind != trimtab.KindRankings || p.result.Rule.By != SplitByGroup {
		return nil
	}
	shared, err := queryRows(ctx, p.tx, pgx.RowTo[[]string], fmt.Sprintf(`select array_agg(distinct %[1]s) from dataset_item i join ranking t on t.digest = i.item
		where i.dataset = $1 group by t.prompt having min(%[1]s collate "C") <> max(%[1]s collate "C")`, p.unit()), p.dataset)
	if err != nil {
		return err
	}
	for _, units := range shared {
		for _, u := range units[1:] {
			a, b := p.find(units[0]), p.find(u)
			p.merged[max(a, b)] = min(a, b)
		}
	}
	for u := range p.merged {
		p.merged[u] = p.find(u)
	}
	for _, all := range p.merged {
		p.merged[all] = all
	}
	return nil
}

// find follows a unit to the one that stands for it.
func (p *splitter) find(unit string) string {
	for {
		next, ok := p.merged[unit]
		if !ok || next == unit {
			return unit
		}
		unit = next
	}
}

// apply writes the items with their splits, event by event, and freezes what the dataset holds now.
func (p *splitter) apply(ctx context.Context) error {
	next, err := nextEvent(ctx, p.tx, datasetSubject(p.dataset))
	if err != nil {
		return err
	}
	for _, event := range p.events {
		if err := p.copyEvent(ctx, event); err != nil {
			return err
		}
	}
	made, err := queryRows(ctx, p.tx, pgx.RowTo[int64],
		"select sequence from event where stream = 'dataset/' || $1 and type = 'items_added' and sequence >= $2 "+
			"order by sequence", p.dataset, next)
	if err != nil {
		return err
	}
	d := p.result
	body := map[string]any{"by": d.Rule.By, "share": d.Rule.Share, "seed": d.Rule.Seed,
		"below":    strconv.FormatUint(d.Rule.Below, 10),
		"replaces": p.events, "made": made, "replaced": d.Replaced, "items": d.Items, "held_out": d.HeldOut}
	if err := appendEvent(ctx, p.tx, datasetSubject(p.dataset), p.actor, "dataset_split", body); err != nil {
		return err
	}
	if d.Version, err = freezeAll(ctx, p.tx, p.dataset, p.kind, p.actor); err != nil {
		return err
	}
	return p.checkIntact(ctx)
}

// copyEvent adds the items of an event once more, each with its split, and tells that they are of the same files.
func (p *splitter) copyEvent(ctx context.Context, event int64) error {
	a, err := newItemImport(ctx, p.tx, p.kind)
	if err != nil {
		return err
	}
	for last := ""; ; {
		digests, err := queryRows(ctx, p.tx, pgx.RowTo[trimtab.Digest],
			"select item from split_item where event = $1 and item > $2 order by item limit $3", event, last, pageItems)
		if err != nil {
			return err
		}
		if len(digests) == 0 {
			break
		}
		last = string(digests[len(digests)-1])
		found, err := readItems(ctx, p.tx, p.kind, digests)
		if err != nil {
			return err
		}
		for _, d := range found {
			item := p.withSplit(d.item)
			if err := a.add(ctx, item, trimtab.DigestOf(item.Canonical())); err != nil {
				return err
			}
		}
	}
	if added, err := a.finish(ctx, p.dataset, p.actor); err != nil || added.Added == 0 {
		return err
	}
	var raw []byte
	err = p.tx.QueryRow(ctx,
		"select (select body from event where stream = 'dataset/' || $1 and sequence = $2 and type = 'files_imported')",
		p.dataset, event+1).Scan(&raw)
	if err != nil || raw == nil {
		return err
	}
	var body map[string]any
	if err := json.Unmarshal(raw, &body); err != nil {
		return err
	}
	return appendEvent(ctx, p.tx, datasetSubject(p.dataset), p.actor, "files_imported", body)
}

// withSplit is an item with the split that the rule gives it.
func (p *splitter) withSplit(item trimtab.Item) trimtab.Item {
	unit := ""
	switch it := item.(type) {
	case trimtab.Prompt:
		unit = it.Text
	case trimtab.Demonstration:
		unit = it.Prompt
	case trimtab.Ranking:
		if unit = it.Prompt; p.result.Rule.By == SplitByGroup && it.Group != "" {
			unit = it.Group
		}
	}
	split := trimtab.SplitTrain
	if p.numberOf(unit) < p.result.Rule.Below {
		split = trimtab.SplitTest
	}
	return inSplit(item, split)
}

// inSplit is an item as it is in a split.
func inSplit(item trimtab.Item, split string) trimtab.Item {
	switch it := item.(type) {
	case trimtab.Prompt:
		it.Split = split
		return it
	case trimtab.Demonstration:
		it.Split = split
		return it
	case trimtab.Ranking:
		it.Split = split
		return it
	}
	return item
}

// checkIntact makes sure that no prompt or group of the new version is on both sides: groups that were apart when the
// dataset
// was split before may have grown together.
func (p *splitter) checkIntact(ctx context.Context) error {
	for _, unit := range []string{"t.prompt", p.unit()} {
		var torn int
		err := p.tx.QueryRow(ctx, fmt.Sprintf(`select count(*) from (select from dataset_version_item v join %s t on t.digest = v.item where v.version = $1
			group by %s having bool_or(t.split = 'test') and bool_or(t.split <> 'test')) x`, itemTable[p.kind], unit), p.result.Version.Digest).Scan(&torn)
		if err != nil {
			return err
		}
		if torn > 0 {
			return trimtab.NewError(trimtab.Conflict, "dataset_split_torn",
				"import all files into a dataset of another name and split that",
				"what was added to dataset %q since it was split would bring %d prompts or groups into both parts",
				p.dataset, torn)
		}
	}
	return nil
}
