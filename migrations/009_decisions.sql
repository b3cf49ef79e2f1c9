-- Who decided is the role under which the database knows him, not who he says he is. A person's decision is first an
-- event decision_requested, which he appends himself: its actor is the role of the session, whatever the caller gives.
-- The event decision, which a worker appends when the decision is taken, names that event.
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
    who      text := case when $3 = 'decision_requested' then session_user else $2 end;
    facts    bytea := convert_to(facts_of($1, number, $3, $4, $5, $6), 'UTF8');
    digest   bytea;
begin
    select s.hash into previous from event_stream s where s.stream = $1;
    digest := event_hash(previous, $1, number, moment, who, $3, $4, $5, $6, facts);
    insert into event (stream, sequence, at, actor, type, stage, attempt, body, facts, hash)
    values ($1, number, moment, who, $3, $4, $5, $6, facts, digest);
    update event_stream s set head = number, hash = digest where s.stream = $1;
    return number;
end
$$;
comment on column event.actor is 'who is said to have done it; of decision_requested the role of the session, taken by append_event';
