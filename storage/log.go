package storage

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// LogLine is one line of a run's log. The log is for people; the audit
// ignores it.
type LogLine struct {
	At                    time.Time // zero at Log is now
	Level, Stage, Message string
	Attempt               int // its number within the stage, 0 for none
}

// Log adds a line to the log of a run.
func (s *Store) Log(ctx context.Context, run string, l LogLine) error {
	var at *time.Time
	if !l.At.IsZero() {
		at = &l.At
	}
	_, err := s.pool.Exec(ctx,
		"insert into log (run, at, level, stage, attempt, message) values ($1, coalesce($2, clock_timestamp()), $3, "+
			"$4, $5, $6)",
		run, at, storableText(l.Level), storableText(l.Stage), l.Attempt, storableText(l.Message))
	return wrapError(ctx, "logging for run "+run, err)
}

// Logs returns up to limit lines of a run's log, 0 for all, after the
// position that an earlier call returned, and the position of the last of
// them. The first call passes 0.
func (s *Store) Logs(ctx context.Context, run string, after int64, limit int) ([]LogLine, int64, error) {
	lines, err := queryRows(ctx, s.pool, func(row pgx.CollectableRow) (l LogLine, err error) {
		err = row.Scan(&after, &l.At, &l.Level, &l.Stage, &l.Attempt, &l.Message)
		return l, err
	},
		`select id, at, level, stage, attempt, message from log where run = $1 and id > $2
			order by id limit nullif($3, 0)`, run, after, limit)
	return lines, after, wrapError(ctx, "reading the log of run "+run, err)
}
