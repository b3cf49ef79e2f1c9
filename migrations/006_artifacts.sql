create table artifact (
    id         bigint         generated always as identity,
    digest     content_digest not null,
    kind       text           not null,
    name       text           not null,
    run        text,
    stage      text           not null,
    attempt    bigint,
    parameters bigint         not null,
    actor      text           not null,
    created_at timestamptz    not null default clock_timestamp(),
    constraint artifact_pkey primary key (id),
    constraint artifact_run foreign key (run) references run (id),
    constraint artifact_attempt foreign key (attempt) references attempt (id),
    constraint artifact_kind_named check (kind <> '')
);
comment on table artifact is 'a model in the content-addressed store, as one maker made it';
-- Equal runs make equal bytes, so a digest may have several makers; each is told once.
create unique index artifact_once on artifact (digest, name, coalesce(run, ''), stage, coalesce(attempt, 0));
create index artifact_by_name on artifact (name, id);
create index artifact_by_stage on artifact (run, stage, id);
comment on column artifact.digest is 'SHA-256 of the manifest of its files';

create table evaluation (
    id         bigint         generated always as identity,
    run        text           not null,
    attempt    bigint,
    document   content_digest not null,
    created_at timestamptz    not null default clock_timestamp(),
    constraint evaluation_pkey primary key (id),
    constraint evaluation_run foreign key (run) references run (id),
    constraint evaluation_attempt foreign key (attempt) references attempt (id),
    constraint evaluation_document foreign key (document) references document (digest)
);
comment on table evaluation is 'a report on the models of a run; the newest holds';
create index evaluation_by_run on evaluation (run, id);

grant select, insert on artifact, evaluation to trimtab_app;
grant select on artifact, evaluation to trimtab_auditor;
