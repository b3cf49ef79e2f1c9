-- A run and an attempt are each two rows: the fact, which never changes, and the state, a projection that the app updates.
create table run (
    id          text           not null,
    name        text           not null,
    seed        numeric(20, 0) not null,
    spec        json           not null,
    spec_digest text           not null,
    origin      text,
    reason      text           not null,
    actor       text           not null,
    created_at  timestamptz    not null default clock_timestamp(),
    constraint run_pkey primary key (id),
    constraint run_id_plain check (id ~ '^[^[:space:]/]{1,100}$'),
    constraint run_origin foreign key (origin) references run (id),
    constraint run_seed_unsigned check (seed between 0 and 18446744073709551615)
);
comment on table run is 'one launch of a spec';
create index run_by_name on run (name, created_at);
create index run_by_time on run (created_at, id);
comment on column run.spec is 'resolved; json, not jsonb, keeps its bytes';
comment on column run.origin is 'the run that this one reruns';

create table run_state (
    run        text        not null,
    status     text        not null,
    next       text        not null,
    error      json,
    started_at timestamptz,
    ended_at   timestamptz,
    constraint run_state_pkey primary key (run),
    constraint run_state_run foreign key (run) references run (id),
    constraint run_state_status_known check (status in
        ('queued', 'running', 'waiting', 'blocked', 'paused', 'completed', 'cancelled', 'failed')),
    constraint run_state_ended_when_closed check
        ((status in ('completed', 'cancelled', 'failed')) = (ended_at is not null))
);
create index run_state_open on run_state (run) where ended_at is null;
comment on table run_state is 'projection of the events of a run';
comment on column run_state.next is 'what happens next, or what a person should do';

create table run_plan (
    run        text        not null,
    revision   integer     not null,
    plan       json        not null,
    actor      text        not null,
    reason     text        not null,
    created_at timestamptz not null default clock_timestamp(),
    constraint run_plan_pkey primary key (run, revision),
    constraint run_plan_run foreign key (run) references run (id)
);
comment on table run_plan is 'every plan a run had; the highest revision holds';

create table attempt (
    id              bigint      generated always as identity,
    run             text        not null,
    stage           text        not null,
    kind            text        not null,
    number          integer     not null,
    config          text        not null,
    cache_key       text        not null,
    reused_from     bigint,
    from_checkpoint text        not null,
    reason          text        not null,
    actor           text        not null,
    created_at      timestamptz not null default clock_timestamp(),
    constraint attempt_pkey primary key (id),
    constraint attempt_once unique (run, stage, number),
    constraint attempt_run foreign key (run) references run (id),
    constraint attempt_reused_from foreign key (reused_from) references attempt (id),
    constraint attempt_number_from_one check (number >= 1),
    constraint attempt_digests check (
        (config = '' or config::content_digest is not null) and
        (cache_key = '' or cache_key::content_digest is not null) and
        (from_checkpoint = '' or from_checkpoint::content_digest is not null))
);
comment on table attempt is 'one try of one stage of a run';
create index attempt_by_cache_key on attempt (cache_key, id) where cache_key <> '';
comment on column attempt.config is 'digest of a document';
comment on column attempt.cache_key is 'digest over kind, stage version, config, inputs, seed and numerics: equal keys give equal bytes';

create table attempt_input (
    attempt  bigint         not null,
    position integer        not null,
    name     text           not null,
    digest   content_digest not null,
    constraint attempt_input_pkey primary key (attempt, position),
    constraint attempt_input_attempt foreign key (attempt) references attempt (id)
);
comment on table attempt_input is 'what an attempt reads: artifacts and dataset versions, under the names its stage gives them';
create index attempt_input_by_digest on attempt_input (digest);

create table attempt_output (
    attempt  bigint         not null,
    position integer        not null,
    name     text           not null,
    digest   content_digest not null,
    constraint attempt_output_pkey primary key (attempt, position),
    constraint attempt_output_attempt foreign key (attempt) references attempt (id)
);
comment on table attempt_output is 'what a completed or reused attempt made';
create index attempt_output_by_digest on attempt_output (digest);

create table attempt_metric (
    attempt  bigint           not null,
    position integer          not null,
    name     text             not null,
    value    double precision not null,
    constraint attempt_metric_pkey primary key (attempt, position),
    constraint attempt_metric_attempt foreign key (attempt) references attempt (id)
);
comment on table attempt_metric is 'final metrics of a completed attempt';

create table attempt_state (
    attempt    bigint      not null,
    status     text        not null,
    steps      integer     not null,
    build      text        not null,
    error      json,
    started_at timestamptz,
    ended_at   timestamptz,
    constraint attempt_state_pkey primary key (attempt),
    constraint attempt_state_attempt foreign key (attempt) references attempt (id),
    constraint attempt_state_status_known check (status in
        ('queued', 'running', 'retrying', 'completed', 'failed', 'cancelled', 'reused', 'skipped', 'stale')),
    constraint attempt_state_steps_positive check (steps >= 0)
);
comment on table attempt_state is 'projection of the events of an attempt';
comment on column attempt_state.build is 'SHA-256 of the program that last started a segment';

create table fence (
    attempt bigint not null,
    token   bigint not null,
    constraint fence_pkey primary key (attempt),
    constraint fence_attempt foreign key (attempt) references attempt (id)
);
comment on table fence is 'who may write for an attempt';
comment on column fence.token is 'only the holder of this token may write; it only rises';

create table progress (
    attempt           bigint             not null,
    step              integer            not null,
    steps             integer            not null,
    phase             text               not null,
    tokens_per_second double precision   not null,
    metric_names      text[]             not null,
    metric_values     double precision[] not null,
    at                timestamptz        not null,
    constraint progress_pkey primary key (attempt),
    constraint progress_attempt foreign key (attempt) references attempt (id)
);
comment on table progress is 'a hint for people, overwritten; no fact';

create table log (
    id      bigint      generated always as identity,
    run     text        not null,
    at      timestamptz not null,
    level   text        not null,
    stage   text        not null,
    attempt integer     not null,
    message text        not null,
    constraint log_pkey primary key (id)
);
comment on table log is 'lines for people; no facts';
create index log_by_run on log (run, id);

grant select, insert on run, run_state, run_plan, attempt, attempt_input, attempt_output, attempt_metric, attempt_state,
    fence, progress, log to trimtab_app;
grant update on run_state, attempt_state, fence, progress to trimtab_app;
grant select on run, run_state, run_plan, attempt, attempt_input, attempt_output, attempt_metric, attempt_state,
    fence, progress, log to trimtab_auditor;
