-- What each step of an attempt reported. A step is one row here and its rows in metric, rollout and timing, written in
-- one transaction. metric and rollout have no foreign key: their step's row is written beside them, and a check of
-- each row would double the time of a load.
create table step (
    attempt  bigint  not null,
    step     integer not null,
    metrics  integer not null,
    rollouts integer not null,
    constraint step_pkey primary key (attempt, step),
    constraint step_attempt foreign key (attempt) references attempt (id),
    constraint step_from_zero check (step >= 0)
);
comment on table step is 'one step that an attempt reported';
comment on column step.metrics is 'how many rows of metric the step has';
comment on column step.rollouts is 'how many rows of rollout the step has';

create table metric (
    attempt bigint           not null,
    step    integer          not null,
    name    text             not null,
    value   double precision not null,
    constraint metric_pkey primary key (attempt, step, name),
    constraint metric_named check (name <> '')
);
comment on table metric is 'functions of code, config, data and seed: a repeat has the same bits';

create table timing (
    attempt bigint           not null,
    step    integer          not null,
    name    text             not null,
    seconds double precision not null,
    constraint timing_pkey primary key (attempt, step, name)
);
comment on table timing is 'how long things took: it does not repeat, so it stands apart; the first one recorded stays';

create table rollout (
    attempt       bigint  not null,
    step          integer not null,
    index         integer not null,
    ended         boolean not null,
    score         real    not null,
    raw_score     real    not null,
    prompt        text    not null,
    prompt_tokens integer[],
    tokens        integer[],
    bytes         bytea,
    text          text    not null,
    logprobs      real[],
    ref_logprobs  real[],
    kl            real[],
    "values"      real[],
    rewards       real[],
    advantages    real[],
    returns       real[],
    constraint rollout_pkey primary key (attempt, step, index)
);
comment on table rollout is 'one PPO episode; every real[] has one element a token of the response';
comment on column rollout.text is 'bytes for people';
comment on column rollout.kl is 'k1: log π − log π_ref';
comment on column rollout.rewards is '−β·kl, plus score at the last token';
comment on column rollout.advantages is 'before whitening';

create table checkpoint (
    attempt    bigint         not null,
    step       integer        not null,
    digest     content_digest not null,
    created_at timestamptz    not null default clock_timestamp(),
    constraint checkpoint_pkey primary key (attempt, step),
    constraint checkpoint_attempt foreign key (attempt) references attempt (id),
    constraint checkpoint_step_from_zero check (step >= 0)
);
comment on table checkpoint is 'the state of an attempt between two steps, in the content-addressed store';
comment on column checkpoint.step is 'the next step to take: steps 0 … step-1 are in the state';

grant select, insert on step, metric, timing, rollout, checkpoint to trimtab_app;
grant select on step, metric, timing, rollout, checkpoint to trimtab_auditor;
