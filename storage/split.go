package storage

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
)

// SplitBy is the unit that a split keeps together.
type SplitBy string

// The units of a split. With either, all items of one prompt are in the same part.
const (
	SplitByPrompt SplitBy = "prompt"
	SplitByGroup  SplitBy = "group" // a ranking's group, or without one its prompt; other items have their prompt
)

// SplitRule says which units are held out. It is recorded with the split.
type SplitRule struct {
	By SplitBy `json:"by"`
	// Share is the fraction of units to hold out, 0 to 1.
	Share float64 `json:"share"`
	Seed  uint64  `json:"seed"`
	// Below is the bound: units whose number is below it are held out.
	Below uint64 `json:"below,string"`
}

// SplitResult is what a split did, or would do.
type SplitResult struct {
	Rule SplitRule
	// Items counts the items that had no split, HeldOut those of them that are
	// held out.
	Items, HeldOut int
	// Units counts the units of these items, TestUnits those that are held out.
	Units, TestUnits int
	// Replaced counts the items without a split, which later versions lack.
	Replaced int
	// Version is the frozen result, unless it was a dry run.
	Version DatasetVersion
}

// SplitDataset assigns every item of a dataset that was imported without a
// split to one by a rule, and freezes the result. number maps a unit to the
// number that the rule compares. With dry nothing is changed.
//
// Items are immutable, so each gets a copy with a split, which counts as
// imported from the same files. The items without a split stay in the record,
// and no later version contains them. A second split takes what was imported
// since, by the same rule.
//
// Errors: Conflict "dataset_split_already" if the rule differs from that of
// the earlier split, or nothing is left to split; "dataset_has_splits" if the
// data came with splits; "dataset_one_unit" if all items are of one unit, so
// that nothing can be held out; "dataset_split_torn" if new data joins units
// that are in different parts. Text has no splits: Usage "wrong_kind".
func (s *Store) SplitDataset(ctx context.Context, dataset string, rule SplitRule, number func(unit string) uint64,
	actor string, dry bool) (SplitResult, error) {
	done := SplitResult{Rule: rule}
	err := s.write(ctx, "splitting dataset "+dataset, func(tx pgx.Tx) error {
		kind, err := lockDataset(ctx, tx, dataset)
		if err != nil {
			return err
		}
		// Text has no prompt or group, so there is no unit to keep together.
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

// splitter is a split in progress, in a transaction that has locked the
// dataset.
type splitter struct {
	tx      pgx.Tx
	dataset string
	kind    trimtab.Kind
	actor   string
	number  func(string) uint64 // of a unit
	result  *SplitResult

	// events are the sequences of the events that added what is to be split.
	events []int64
	// repeated is set if the dataset was split before: the rule is fixed then.
	repeated bool
	// merged maps groups that share a prompt to their representative.
	merged map[string]string
}

// splitEvents reads the earlier splits of a dataset.
func splitEvents(ctx context.Context, q querier, dataset string) ([]datasetSplitBody, error) {
	return queryRows(ctx, q, func(row pgx.CollectableRow) (e datasetSplitBody, err error) {
		var body []byte
		if err := row.Scan(&body); err != nil {
			return e, err
		}
		return e, json.Unmarshal(body, &e)
	}, "select body from event where stream = 'dataset/' || $1 and type = 'dataset_split' order by sequence", dataset)
}

// replacedEvents returns the sequences of the events whose items were
// replaced by copies with a split.
func replacedEvents(ctx context.Context, q querier, dataset string) ([]int64, error) {
	before, err := splitEvents(ctx, q, dataset)
	events := []int64{}
	for _, e := range before {
		events = append(events, e.Replaces...)
	}
	return events, err
}

// sources finds the events whose items are to be split, and compares the rule
// with that of the earlier split.
func (p *splitter) sources(ctx context.Context) error {
	before, err := splitEvents(ctx, p.tx, p.dataset)
	if err != nil {
		return err
	}
	settled := []int64{}
	for _, e := range before {
		// Items that a split replaced or made are not split again.
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
			"import more, or use the version that it has", "dataset %q has no items without a split", p.dataset)
	}
	if err := p.stage(ctx); err != nil {
		return err
	}
	return p.checkNoSplits(ctx)
}

// stage copies what is to be split into a temporary table: dataset_item has
// no index by event, and the table is read several times.
func (p *splitter) stage(ctx context.Context) error {
	for _, sql := range []string{
		"set local idle_in_transaction_session_timeout = 0; set local work_mem = '64MB'",
		"create temporary table split_item (event bigint, item text collate \"C\") on commit drop",
	} {
		if _, err := p.tx.Exec(ctx, sql); err != nil {
			return err
		}
	}
	_, err := p.tx.Exec(ctx, `
		insert into split_item select i.event, i.item from dataset_item i
		where i.dataset = $1 and i.event = any($2)
			and not exists (select from erasure e where e.relation = $3 and e.digest = i.item)
		order by i.event, i.item`, p.dataset, p.events, itemTable[p.kind])
	if err == nil {
		_, err = p.tx.Exec(ctx, "create index on split_item (event, item); analyze split_item")
	}
	return err
}

// checkNoSplits refuses items that were imported with a split.
func (p *splitter) checkNoSplits(ctx context.Context) error {
	var train, test int
	err := p.tx.QueryRow(ctx, fmt.Sprintf(`
		select count(*) filter (where t.split = 'train'), count(*) filter (where t.split = 'test')
		from split_item s join %s t on t.digest = s.item`, itemTable[p.kind])).Scan(&train, &test)
	if err != nil || train+test == 0 {
		return err
	}
	return trimtab.NewError(trimtab.Conflict, "dataset_has_splits",
		"use the split that it has, or import the files into a dataset of another name with --map split=-",
		"the data of dataset %q came with splits: %d items of train, %d of test", p.dataset,
		train, test)
}

// unit is an SQL expression for the unit of the item t.
func (p *splitter) unit() string {
	if p.kind == trimtab.KindRankings && p.result.Rule.By == SplitByGroup {
		return "case t.grouping when '' then t.prompt else t.grouping end"
	}
	return "t.prompt"
}

// measure counts the units and items of both parts. For a first split it
// chooses the rule's bound, moved if necessary so that neither part is empty.
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
		// At least the unit with the smallest number is held out, and at
		// least the one with the largest is not.
		p.result.Rule.Below = min(max(p.result.Rule.Below, count.least+1), count.most)
		if count, err = p.units(ctx); err != nil {
			return err
		}
	}
	d := p.result
	d.Items = count.items
	d.HeldOut = count.heldOut
	d.Units = count.different
	d.TestUnits = count.test
	d.Replaced = count.items // each item without a split gets a copy with one
	return nil
}

// unitCounts is the result of one pass over all units.
type unitCounts struct {
	items, heldOut  int    // items of all units, and of those below the bound
	different, test int    // units, and those below the bound
	least, most     uint64 // the smallest and the largest number of a unit
}

// units counts the units and their items under the rule.
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

// numberOf is the number of a unit, or of the one that it was merged into.
func (p *splitter) numberOf(unit string) uint64 {
	if all, ok := p.merged[unit]; ok {
		unit = all
	}
	return p.number(unit)
}

// mergeGroups merges groups that have a prompt in common, in the whole
// dataset: they go to the same part, that of the first of them by name. It is
// a union-find without ranks; chains are short.
func (p *splitter) mergeGroups(ctx context.Context) error {
	p.merged = map[string]string{}
	if p.kind != trimtab.KindRankings || p.result.Rule.By != SplitByGroup {
		return nil
	}
	// One row for each prompt that occurs in more than one group.
	shared, err := queryRows(ctx, p.tx, pgx.RowTo[[]string], fmt.Sprintf(`
		select array_agg(distinct %[1]s) from dataset_item i join ranking t on t.digest = i.item
		where i.dataset = $1 group by t.prompt
			having min(%[1]s collate "C") <> max(%[1]s collate "C")`, p.unit()), p.dataset)
	if err != nil {
		return err
	}
	for _, units := range shared {
		for _, u := range units[1:] {
			a, b := p.find(units[0]), p.find(u)
			// The smaller name represents both, so that the result does not
			// depend on the order of rows.
			p.merged[max(a, b)] = min(a, b)
		}
	}
	// Path compression, so that numberOf is one lookup.
	for u := range p.merged {
		p.merged[u] = p.find(u)
	}
	for _, all := range p.merged {
		p.merged[all] = all
	}
	return nil
}

// find returns the representative of a unit.
func (p *splitter) find(unit string) string {
	for {
		next, ok := p.merged[unit]
		if !ok || next == unit {
			return unit
		}
		unit = next
	}
}

// apply writes the copies, event by event, records the split and freezes the
// dataset.
func (p *splitter) apply(ctx context.Context) error {
	// Events of this transaction get sequences from here on, which is how
	// those that copyEvent appends are found again.
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
	body := datasetSplitBody{
		Below:    d.Rule.Below,
		By:       d.Rule.By,
		HeldOut:  d.HeldOut,
		Items:    d.Items,
		Made:     made,
		Replaced: d.Replaced,
		Replaces: p.events,
		Seed:     d.Rule.Seed,
		Share:    d.Rule.Share,
	}
	if err := appendEvent(ctx, p.tx, datasetSubject(p.dataset), p.actor, trimtab.EventDatasetSplit, body); err != nil {
		return err
	}
	if d.Version, err = freezeAll(ctx, p.tx, p.dataset, p.kind, p.actor); err != nil {
		return err
	}
	return p.checkIntact(ctx)
}

// copyEvent adds the items of an event once more, each with its split, and
// records that they come from the same files.
func (p *splitter) copyEvent(ctx context.Context, event int64) error {
	a, err := newItemImport(ctx, p.tx, p.kind)
	if err != nil {
		return err
	}
	// Keyset pagination through split_item, which has an index for it.
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
	// If none of the copies was new there is no event that a files_imported
	// could follow.
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
	return appendEvent(ctx, p.tx, datasetSubject(p.dataset), p.actor, trimtab.EventFilesImported, body)
}

// withSplit is a copy of an item with the split that the rule assigns.
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

// inSplit is a copy of an item in a split. Text is returned as it is.
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

// checkIntact makes sure that no prompt or group of the new version is in
// both parts: data that was imported after the earlier split may connect
// groups that were separate then.
func (p *splitter) checkIntact(ctx context.Context) error {
	for _, unit := range []string{"t.prompt", p.unit()} {
		var torn int
		err := p.tx.QueryRow(ctx, fmt.Sprintf(`
			select count(*) from (
				select from dataset_version_item v join %s t on t.digest = v.item where v.version = $1
				group by %s having bool_or(t.split = 'test') and bool_or(t.split <> 'test')) x`,
			itemTable[p.kind], unit),
			p.result.Version.Digest).Scan(&torn)
		if err != nil {
			return err
		}
		if torn > 0 {
			return trimtab.NewError(trimtab.Conflict, "dataset_split_torn",
				"import all files into a dataset of another name and split that",
				"what was added to dataset %q since it was split would put %d prompts or groups into both parts",
				p.dataset, torn)
		}
	}
	return nil
}
