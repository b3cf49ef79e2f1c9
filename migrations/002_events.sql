-- One row for each thing that happened, in the transaction of the fact it tells of.
create table event (
    stream   text        not null,
    sequence bigint      not null,
    at       timestamptz not null,
    actor    text        not null,
    type     text        not null,
    stage    text        not null,
    attempt  integer     not null,
    body     bytea       not null,
    constraint event_pkey primary key (stream, sequence),
    constraint event_sequence_from_one check (sequence >= 1),
    constraint event_type_named check (type <> '')
);
comment on table event is 'append-only record, written by append_event alone';
comment on column event.stream is 'run id, dataset/NAME or artifact/DIGEST';
comment on column event.sequence is '1, 2, 3 … without gaps in each stream';
comment on column event.attempt is 'number of the attempt of the stage, 0 for none';
comment on column event.body is 'the exact bytes of a JSON object, sorted keys';

create table event_stream (
    stream text   not null,
    head   bigint not null,
    constraint event_stream_pkey primary key (stream)
);
comment on table event_stream is 'the last sequence of each stream; its row lock gives the stream one order';

-- append_event is the only way to write an event. It runs with the rights of the owner; the app may call it and no more.
create function append_event(stream text, actor text, type text, stage text, attempt integer, body bytea)
returns bigint
language sql
security definer
set search_path = pg_catalog, public, pg_temp
as $$
    with next as (
        insert into public.event_stream as s (stream, head) values ($1, 1)
        on conflict (stream) do update set head = s.head + 1
        returning s.head
    )
    insert into public.event (stream, sequence, at, actor, type, stage, attempt, body)
    select $1, next.head, clock_timestamp(), $2, $3, $4, $5, $6 from next
    returning event.sequence
$$;
comment on function append_event is 'adds an event to the end of a stream and returns its sequence';

revoke all on function append_event from public;
grant execute on function append_event to trimtab_app;
grant select on event, event_stream to trimtab_app, trimtab_auditor;
