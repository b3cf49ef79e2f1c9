-- The record can be checked: each event holds the digest of the rows that it tells of and of the event before it, all
-- events are leaves of one Merkle tree, and heads of that tree are signed and kept outside the database as well.
-- The bytes that are hashed are stated in audit/doc.go, which computes them again without this database.

create function field(bytea) returns bytea language sql immutable parallel safe
as $$ select coalesce(int4send(length($1)) || $1, '\xffffffff'::bytea) $$;
comment on function field is 'length in four bytes, most significant first, and the bytes; ffffffff for null';

-- What was taken out of an item because a person asked for it; what is left is digests.
create table erasure (
    relation text           not null,
    digest   content_digest not null,
    event    bigint         not null,
    dataset  text           not null,
    seal     bytea          not null,
    remains  bytea          not null,
    constraint erasure_pkey primary key (relation, digest),
    constraint erasure_relation_known check (relation in ('text_item', 'prompt', 'demonstration', 'ranking', 'response')),
    constraint erasure_dataset foreign key (dataset) references dataset (name)
);
comment on table erasure is 'tombstones of rows whose text was erased';
comment on column erasure.event is 'items_erased in the stream of the dataset';
comment on column erasure.seal is 'SHA-256 of the row as it was';
comment on column erasure.remains is 'SHA-256 of the row as it is now';

alter table dataset_item add column event bigint not null default 0;
alter table dataset_item alter column event drop default;
comment on column dataset_item.event is 'items_added in the stream of the dataset';

-- row_bytes(t) is every column of a row of an audited table, in order: integers, floating-point numbers, booleans and times
-- that are never null as Postgres sends them, everything else as a field, arrays as Postgres sends them and the rest as text. A column that a later migration adds would
-- change what earlier events have hashed: put it into a table of its own.
do $$
declare
    relation text;
    fields   text;
begin
    foreach relation in array array['document', 'dataset', 'text_item', 'prompt', 'demonstration', 'response', 'ranking',
        'ranking_response', 'dataset_item', 'dataset_version', 'dataset_version_item', 'dataset_freeze', 'run', 'run_state',
        'run_plan', 'attempt', 'attempt_input', 'attempt_output', 'attempt_metric', 'attempt_state', 'step', 'metric',
        'timing', 'rollout', 'checkpoint', 'artifact', 'evaluation', 'erasure']
    loop
        select string_agg(format(case
                when not a.attnotnull and y.typname = 'bytea' then 'field($1.%1$I)'
                when not a.attnotnull and y.typname = 'timestamptz' then 'field(timestamptz_send($1.%1$I))'
                when y.typcategory = 'A' then 'field(array_send($1.%1$I))'
                when not a.attnotnull then 'field(convert_to($1.%1$I::text, ''UTF8''))'
                when y.typname in ('int2', 'int4', 'int8', 'float4', 'float8', 'bool', 'timestamptz') then
                    replace(y.typname, 'timestamptz', 'timestamptz_') || 'send($1.%1$I)'
                when y.typname = 'bytea' then 'int4send(length($1.%1$I)) || $1.%1$I'
                else 'int4send(octet_length($1.%1$I::text)) || convert_to($1.%1$I::text, ''UTF8'')'
            end, a.attname), ' || ' order by a.attnum)
        into fields
        from pg_attribute a join pg_type t on t.oid = a.atttypid join pg_type y on y.oid = coalesce(nullif(t.typbasetype, 0), t.oid)
        where a.attrelid = ('public.' || relation)::regclass and a.attnum > 0 and not a.attisdropped;
        execute format('create function row_bytes(public.%I) returns bytea language sql stable parallel safe as %L', relation, 'select ' || fields);
    end loop;
end
$$;

create function seal(relation text, rows bigint, digests bytea) returns text language sql immutable parallel safe
as $$ select relation || ' ' || rows || ' ' || encode(sha256(coalesce(digests, ''::bytea)), 'hex') || E'\n' $$;
comment on function seal is 'a line that stands for rows, from the concatenation of the SHA-256 of each';

-- facts_of is a line for each table of which an event tells rows: the rows as they are when it is asked. Rows of
-- run_state and attempt_state change later, with an event each time; all others do not.
create function facts_of(stream text, sequence bigint, type text, stage text, attempt integer, body bytea) returns text
language plpgsql stable parallel safe
set search_path = pg_catalog, public, pg_temp
as $$
#variable_conflict use_column
declare
    told    json := convert_from($6, 'UTF8')::json;
    tried   bigint; -- the attempt's id
    since   bigint; -- steps
    past    bigint;
    named   text;   -- the dataset
    root    text;
    held    text;   -- the dataset's kind
    facts   text := '';
    part    text;
begin
    if $5 > 0 and $3 in ('attempt_created', 'attempt_started', 'attempt_status', 'attempt_completed', 'steps_committed') then
        select a.id into tried from attempt a where a.run = $1 and a.stage = $4 and a.number = $5;
        if $3 <> 'steps_committed' then
            select seal('attempt_state', count(*), string_agg(sha256(row_bytes(t)), ''::bytea)) into part from attempt_state t where t.attempt = tried;
            facts := facts || part;
        end if;
        if $3 = 'attempt_created' then
            select seal('attempt', count(*), string_agg(sha256(row_bytes(t)), ''::bytea)) into part from attempt t where t.id = tried;
            facts := facts || part;
            select seal('attempt_input', count(*), string_agg(sha256(row_bytes(t)), ''::bytea order by t.position)) into part from attempt_input t where t.attempt = tried;
            facts := facts || part;
        end if;
        if $3 = 'attempt_completed' or $3 = 'attempt_created' and told ->> 'status' = 'reused' then
            select seal('attempt_output', count(*), string_agg(sha256(row_bytes(t)), ''::bytea order by t.position)) into part from attempt_output t where t.attempt = tried;
            facts := facts || part;
            select seal('attempt_metric', count(*), string_agg(sha256(row_bytes(t)), ''::bytea order by t.position)) into part from attempt_metric t where t.attempt = tried;
            facts := facts || part;
        end if;
        if $3 = 'steps_committed' then
            since := coalesce((told ->> 'first')::bigint, (told ->> 'from')::bigint);
            past := (told ->> 'until')::bigint;
            if since < past then
                select seal('step', count(*), string_agg(sha256(row_bytes(t)), ''::bytea order by t.step)) into part from step t where t.attempt = tried and t.step >= since and t.step < past;
                facts := facts || part;
                select seal('metric', count(*), string_agg(sha256(row_bytes(t)), ''::bytea order by t.step, t.name collate "C")) into part from metric t where t.attempt = tried and t.step >= since and t.step < past;
                facts := facts || part;
                select seal('timing', count(*), string_agg(sha256(row_bytes(t)), ''::bytea order by t.step, t.name collate "C")) into part from timing t where t.attempt = tried and t.step >= since and t.step < past;
                facts := facts || part;
                select seal('rollout', count(*), string_agg(sha256(row_bytes(t)), ''::bytea order by t.step, t.index)) into part from rollout t where t.attempt = tried and t.step >= since and t.step < past;
                facts := facts || part;
            end if;
            if told -> 'checkpoint' is not null then
                select seal('checkpoint', count(*), string_agg(sha256(row_bytes(t)), ''::bytea)) into part from checkpoint t where t.attempt = tried and t.step = (told -> 'checkpoint' ->> 'step')::integer;
                facts := facts || part;
            end if;
        end if;
        return facts;
    end if;

    if $3 in ('run_created', 'run_status') then
        select seal('run_state', count(*), string_agg(sha256(row_bytes(t)), ''::bytea)) into facts from run_state t where t.run = $1;
    end if;
    if $3 = 'run_created' then
        select seal('run', count(*), string_agg(sha256(row_bytes(t)), ''::bytea)) into part from run t where t.id = $1;
        facts := facts || part;
    end if;
    if $3 in ('run_created', 'run_planned') then
        select seal('run_plan', count(*), string_agg(sha256(row_bytes(t)), ''::bytea)) into part from run_plan t where t.run = $1 and t.revision = coalesce((told ->> 'revision')::integer, 0);
        facts := facts || part;
    end if;

    if $3 = 'artifact_made' then
        select seal('artifact', count(*), string_agg(sha256(row_bytes(t)), ''::bytea)) into facts from artifact t
        where t.digest = told ->> 'digest' and t.name = told ->> 'name' and t.stage = $4 and coalesce(t.run, '') = case when $1 like 'artifact/%' then '' else $1 end
            and coalesce((select a.number from attempt a where a.id = t.attempt), 0) = $5;
    elsif $3 = 'evaluation_made' then
        select seal('evaluation', count(*), string_agg(sha256(row_bytes(t)), ''::bytea)) into facts from evaluation t
        where t.run = $1 and t.document = told ->> 'document' and coalesce((select a.number from attempt a where a.id = t.attempt), 0) = $5
            and coalesce((select a.stage from attempt a where a.id = t.attempt), '') = $4;
    elsif $3 = 'document_kept' then
        select seal('document', count(*), string_agg(sha256(row_bytes(t)), ''::bytea)) into facts from document t where t.digest = told ->> 'digest';
    end if;

    named := substr($1, length('dataset/') + 1);
    if $3 = 'dataset_created' then
        select seal('dataset', count(*), string_agg(sha256(row_bytes(t)), ''::bytea)) into facts from dataset t where t.name = named;
    elsif $3 = 'dataset_frozen' then
        root := told ->> 'version';
        select seal('dataset_freeze', count(*), string_agg(sha256(row_bytes(t)), ''::bytea)) into facts from dataset_freeze t
        where t.id = (select f.id from dataset_freeze f where f.dataset = named order by f.id limit 1
            offset (select count(*) from event b where b.stream = $1 and b.type = 'dataset_frozen' and b.sequence < $2));
        select seal('dataset_version', count(*), string_agg(sha256(row_bytes(t)), ''::bytea)) into part from dataset_version t where t.digest = root;
        facts := facts || part;
        select seal('dataset_version_item', count(*), string_agg(sha256(row_bytes(t)), ''::bytea order by t.item)) into part from dataset_version_item t where t.version = root;
        facts := facts || part;
    elsif $3 = 'items_erased' then
        select seal('erasure', count(*), string_agg(sha256(row_bytes(t)), ''::bytea order by t.relation collate "C", t.digest)) into facts from erasure t where t.dataset = named and t.event = $2;
    elsif $3 = 'items_added' then
        select seal('dataset_item', count(*), string_agg(sha256(row_bytes(t)), ''::bytea order by t.item)) into facts from dataset_item t where t.dataset = named and t.event = $2;
        select d.kind into held from dataset d where d.name = named;
        if held = 'text' then
            select seal('text_item', count(*), string_agg(coalesce(e.seal, sha256(row_bytes(t))), ''::bytea order by t.digest)) into part
            from dataset_item i join text_item t on t.digest = i.item left join erasure e on e.relation = 'text_item' and e.digest = t.digest
            where i.dataset = named and i.event = $2;
            facts := facts || part;
        elsif held = 'prompts' then
            select seal('prompt', count(*), string_agg(coalesce(e.seal, sha256(row_bytes(t))), ''::bytea order by t.digest)) into part
            from dataset_item i join prompt t on t.digest = i.item left join erasure e on e.relation = 'prompt' and e.digest = t.digest
            where i.dataset = named and i.event = $2;
            facts := facts || part;
        elsif held = 'demonstrations' then
            select seal('demonstration', count(*), string_agg(coalesce(e.seal, sha256(row_bytes(t))), ''::bytea order by t.digest)) into part
            from dataset_item i join demonstration t on t.digest = i.item left join erasure e on e.relation = 'demonstration' and e.digest = t.digest
            where i.dataset = named and i.event = $2;
            facts := facts || part;
        elsif held = 'rankings' then
            select seal('ranking', count(*), string_agg(coalesce(e.seal, sha256(row_bytes(t))), ''::bytea order by t.digest)) into part
            from dataset_item i join ranking t on t.digest = i.item left join erasure e on e.relation = 'ranking' and e.digest = t.digest
            where i.dataset = named and i.event = $2;
            facts := facts || part;
            select seal('ranking_response', count(*), string_agg(sha256(row_bytes(t)), ''::bytea order by t.ranking, t.position)) into part
            from dataset_item i join ranking_response t on t.ranking = i.item
            where i.dataset = named and i.event = $2;
            facts := facts || part;
            select seal('response', count(*), string_agg(coalesce(e.seal, sha256(row_bytes(t))), ''::bytea order by t.digest)) into part
            from response t left join erasure e on e.relation = 'response' and e.digest = t.digest
            where t.digest in (select p.response from dataset_item i join ranking_response p on p.ranking = i.item where i.dataset = named and i.event = $2);
            facts := facts || part;
        end if;
    end if;
    return facts;
end
$$;
comment on function facts_of is 'a line for each table of which an event tells rows: the table, how many, and their digest';

create function event_hash(previous bytea, stream text, sequence bigint, at timestamptz, actor text, type text, stage text, attempt integer, body bytea, facts bytea)
returns bytea language sql immutable parallel safe
as $$ select sha256('trimtab event 1'::bytea || '\x0a'::bytea || previous || field(convert_to(stream, 'UTF8')) || int8send(sequence) || timestamptz_send(at)
    || field(convert_to(actor, 'UTF8')) || field(convert_to(type, 'UTF8')) || field(convert_to(stage, 'UTF8')) || int4send(attempt)
    || field(body) || field(facts)) $$;

alter table event add column facts bytea, add column hash bytea;
alter table event_stream add column hash bytea, add column logged bigint not null default 0;
comment on column event.facts is 'facts_of when the event was appended, exact bytes';
comment on column event.hash is 'SHA-256 over the hash of the event before it in the stream and all of this one';
comment on column event_stream.hash is 'of the last event';
comment on column event_stream.logged is 'how many of the stream''s events are leaves of the tree';

create function next_event(stream text) returns bigint
language plpgsql
security definer
set search_path = pg_catalog, public, pg_temp
as $$
declare
    last bigint;
begin
    loop
        select s.head into last from event_stream s where s.stream = $1 for update;
        if found then
            return last + 1;
        end if;
        insert into event_stream (stream, head, hash) values ($1, 0, decode(repeat('00', 32), 'hex')) on conflict do nothing;
    end loop;
end
$$;
comment on function next_event is 'locks a stream and returns the sequence that its next event will have';

-- append_event is still the only way to write an event. The row of the stream gives it one order: whoever has locked it
-- is alone until the end of his transaction.
create or replace function append_event(stream text, actor text, type text, stage text, attempt integer, body bytea) returns bigint
language plpgsql
security definer
set search_path = pg_catalog, public, pg_temp
as $$
#variable_conflict use_column
declare
    number   bigint := next_event($1);
    previous bytea;
    moment   timestamptz := clock_timestamp();
    facts    bytea := convert_to(facts_of($1, number, $3, $4, $5, $6), 'UTF8');
    digest   bytea;
begin
    select s.hash into previous from event_stream s where s.stream = $1;
    digest := event_hash(previous, $1, number, moment, $2, $3, $4, $5, $6, facts);
    insert into event (stream, sequence, at, actor, type, stage, attempt, body, facts, hash)
    values ($1, number, moment, $2, $3, $4, $5, $6, facts, digest);
    update event_stream s set head = number, hash = digest where s.stream = $1;
    return number;
end
$$;

-- The tree. Its leaves are the hashes of all events, in an order of its own in which those of a stream stay in order.
create table log_leaf (
    index    bigint not null,
    stream   text   not null,
    sequence bigint not null,
    constraint log_leaf_pkey primary key (index),
    constraint log_leaf_once unique (stream, sequence),
    constraint log_leaf_event foreign key (stream, sequence) references event (stream, sequence)
);
comment on table log_leaf is 'which event is which leaf of the tree';

create table log_hash (
    index bigint not null,
    hash  bytea  not null,
    constraint log_hash_pkey primary key (index)
);
comment on table log_hash is 'the hashes of the tree, in the order of golang.org/x/mod/sumdb/tlog';

create table tree_head (
    size bigint not null,
    note text   not null,
    constraint tree_head_pkey primary key (size, note)
);
comment on table tree_head is 'signed heads of the tree, as golang.org/x/mod/sumdb/note writes them';

-- The events that are not in the tree, in order; streams that somebody is writing to just now are left out.
create function unlogged_events(most integer) returns table (stream text, sequence bigint, hash bytea)
language sql
security definer
set search_path = pg_catalog, public, pg_temp
as $$
    with behind as (select s.stream, s.head, s.logged from event_stream s where s.logged < s.head order by s.stream for update skip locked)
    select e.stream, e.sequence, e.hash from behind b join event e on e.stream = b.stream and e.sequence > b.logged and e.sequence <= b.head
    order by e.stream, e.sequence limit $1
$$;

create function add_leaves(streams text[], sequences bigint[], first_leaf bigint, hashes bytea[], first_hash bigint) returns void
language plpgsql
security definer
set search_path = pg_catalog, public, pg_temp
as $$
begin
    insert into log_leaf (index, stream, sequence)
    select $3 + n - 1, s, q from unnest($1, $2) with ordinality as u (s, q, n);
    insert into log_hash (index, hash)
    select $5 + n - 1, h from unnest($4) with ordinality as u (h, n);
    update event_stream e set logged = u.last
    from (select s, max(q) as last from unnest($1, $2) as u (s, q) group by s) u where e.stream = u.s;
end
$$;
comment on function add_leaves is 'adds events to the tree, with the hashes that they complete';

-- erase_item takes the text out of a row and leaves a tombstone; it returns whether there was something to take out.
create function erase_item(dataset text, event bigint, relation text, digest text) returns boolean
language plpgsql
security definer
set search_path = pg_catalog, public, pg_temp
as $$
#variable_conflict use_variable
declare
    blank   text;
    seal    bytea;
    remains bytea;
begin
    blank := case $3
        when 'text_item' then 'body = $2'
        when 'prompt' then 'prompt = $2, tag = $2'
        when 'demonstration' then 'prompt = $2, completion = $2'
        when 'ranking' then 'prompt = $2, grouping = $2'
        when 'response' then 'bytes = null, tokens = null, text = $2'
    end;
    if blank is null or exists (select from public.erasure e where e.relation = $3 and e.digest = $4) then
        return false;
    end if;
    execute format('select sha256(row_bytes(t)) from public.%I t where t.digest = $1 for update', $3) into seal using $4;
    if seal is null then
        return false;
    end if;
    execute format('update public.%I t set %s where t.digest = $1 returning sha256(row_bytes(t))', $3, blank) into remains using $4, '';
    insert into public.erasure (relation, digest, event, dataset, seal, remains) values ($3, $4, $2, $1, seal, remains);
    return true;
end
$$;
comment on function erase_item is 'takes the text out of an item and leaves a tombstone';

-- From an item, a labeller or a response forward to what it went into.
create index dataset_item_by_item on dataset_item (item);
create index dataset_version_item_by_item on dataset_version_item (item);
create index ranking_by_labeller on ranking (labeller);
create index ranking_response_by_response on ranking_response (response);

create index event_stream_unlogged on event_stream (stream) where logged < head;

create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'the table % is only ever added to', tg_table_name using errcode = 'restrict_violation';
end
$$;
do $$
declare
    relation text;
begin
    foreach relation in array array['event', 'log_leaf', 'log_hash', 'tree_head'] loop
        execute format('create trigger %I before update or delete on %I for each row execute function refuse_change()', relation || '_stays', relation);
        execute format('create trigger %I before truncate on %I for each statement execute function refuse_change()', relation || '_is_kept', relation);
    end loop;
end
$$;

revoke all on function append_event, next_event, unlogged_events, add_leaves, erase_item from public;
grant execute on function append_event, next_event, unlogged_events, add_leaves, erase_item to trimtab_app;
grant select on log_leaf, log_hash, tree_head, erasure to trimtab_app, trimtab_auditor;
grant insert on tree_head to trimtab_app;

-- What was recorded before this migration is sealed as it is now.
alter table event disable trigger event_stays;
update dataset_item i set event = coalesce((select max(e.sequence) from event e where e.stream = 'dataset/' || i.dataset and e.type = 'items_added'), 0);
do $$
declare
    e        record;
    previous bytea;
    sealed   bytea;
    stream   text := '';
begin
    for e in select * from event order by stream, sequence loop
        if e.stream <> stream then
            stream := e.stream;
            previous := decode(repeat('00', 32), 'hex');
        end if;
        sealed := convert_to(facts_of(e.stream, e.sequence, e.type, e.stage, e.attempt, e.body), 'UTF8');
        previous := event_hash(previous, e.stream, e.sequence, e.at, e.actor, e.type, e.stage, e.attempt, e.body, sealed);
        update event t set facts = sealed, hash = previous where t.stream = e.stream and t.sequence = e.sequence;
        update event_stream s set hash = previous where s.stream = e.stream;
    end loop;
end
$$;
select append_event('documents', 'trimtab', 'document_kept', '', 0, convert_to(format('{"digest":"%s"}', digest), 'UTF8')) from document order by created_at, digest;
alter table event alter column facts set not null, alter column hash set not null;
alter table event_stream alter column hash set not null;
alter table event enable always trigger event_stays, enable always trigger event_is_kept;
alter table log_leaf enable always trigger log_leaf_stays, enable always trigger log_leaf_is_kept;
alter table log_hash enable always trigger log_hash_stays, enable always trigger log_hash_is_kept;
alter table tree_head enable always trigger tree_head_stays, enable always trigger tree_head_is_kept;
