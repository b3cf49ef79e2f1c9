-- Datasets of a million items: what was paid for every row is paid for every statement, and what people ask of a frozen
-- version is counted when it is frozen.

-- Both rows that a place in a ranking names have to be there, as before; the two foreign keys asked for each row, which
-- took a quarter of the time of an import.
create function ranking_response_complete() returns trigger
language plpgsql
set search_path = pg_catalog, public, pg_temp
as $$
begin
    if exists (select from added a where not exists (select from ranking r where r.digest = a.ranking)) then
        raise exception 'a ranking of ranking_response is not there'
            using errcode = 'foreign_key_violation', table = 'ranking_response', constraint = 'ranking_response_ranking';
    end if;
    if exists (select from added a where not exists (select from response r where r.digest = a.response)) then
        raise exception 'a response of ranking_response is not there'
            using errcode = 'foreign_key_violation', table = 'ranking_response', constraint = 'ranking_response_response';
    end if;
    return null;
end
$$;
comment on function ranking_response_complete is 'refuses places of rankings or responses that are not there';
alter table ranking_response drop constraint ranking_response_ranking, drop constraint ranking_response_response;
create trigger ranking_response_complete after insert on ranking_response
    referencing new table as added for each statement execute function ranking_response_complete();

-- These are only ever asked for one digest; a hash of it is a third as long as the digest.
drop index dataset_item_by_item, dataset_version_item_by_item, ranking_response_by_response;
create index dataset_item_by_item on dataset_item using hash (item);
create index dataset_version_item_by_item on dataset_version_item using hash (item);
create index ranking_response_by_response on ranking_response using hash (response);

comment on column response.text is 'bytes for people, where they are not UTF-8 themselves, else empty; before schema 8 always; no part of the digest';

-- The length of a text without space around it, as Unicode has space and label.Length counts it, of bytes that may be no UTF-8.
create function trimmed_length_of(bytea) returns integer language plpgsql immutable strict parallel safe as $$
declare
    spaces constant bytea[] := array['\x09', '\x0a', '\x0b', '\x0c', '\x0d', '\x20', '\xc285', '\xc2a0', '\xe19a80', '\xe28080', '\xe28081',
        '\xe28082', '\xe28083', '\xe28084', '\xe28085', '\xe28086', '\xe28087', '\xe28088', '\xe28089', '\xe2808a', '\xe280a8', '\xe280a9',
        '\xe280af', '\xe2819f', '\xe38080']::bytea[];
    space   bytea;
    text    bytea := $1;
    before  integer;
begin
    loop
        before := length(text);
        foreach space in array spaces loop
            if substr(text, 1, length(space)) = space then
                text := substr(text, length(space) + 1);
            end if;
            if length(text) >= length(space) and substr(text, length(text) - length(space) + 1) = space then
                text := substr(text, 1, length(text) - length(space));
            end if;
        end loop;
        if length(text) = before then
            return before;
        end if;
    end loop;
end
$$;
create function trimmed_length(bytea) returns integer language sql immutable strict parallel safe
as $$ select case
    when length($1) = 0 then 0
    when get_byte($1, 0) between 33 and 126 and get_byte($1, length($1) - 1) between 33 and 126 then length($1)
    else trimmed_length_of($1) end $$;
comment on function trimmed_length is 'bytes of a response without space around it; null of one that was erased';

-- What `data show` says of a version. It follows from the version, so no event tells of it.
create table dataset_summary (
    version   content_digest not null,
    held_out  bigint         not null,
    pairs     bigint         not null,
    longer    bigint         not null,
    labellers bigint         not null,
    common    bigint         not null,
    agreed    bigint         not null,
    constraint dataset_summary_pkey primary key (version),
    constraint dataset_summary_version foreign key (version) references dataset_version (digest)
);
comment on table dataset_summary is 'counts of a version, derived by summary_of: of items, copies counted';
comment on column dataset_summary.held_out is 'items of the split test';
comment on column dataset_summary.pairs is 'comparisons of rankings, ties left out';
comment on column dataset_summary.longer is 'twice the pairs whose better response is longer, and once those of equal length';
comment on column dataset_summary.labellers is 'of rankings, by name';
comment on column dataset_summary.common is 'pairs that two labellers both ordered';
comment on column dataset_summary.agreed is 'those of common that both ordered alike';

create function summary_of(version text) returns dataset_summary
language sql stable
set search_path = pg_catalog, public, pg_temp
set work_mem = '64MB'
as $$
    with item as (
        select v.item, v.copies, coalesce(p.split, d.split, r.split, '') as split, r.prompt, r.labeller
        from dataset_version_item v
        left join prompt p on p.digest = v.item left join demonstration d on d.digest = v.item left join ranking r on r.digest = v.item
        where v.version = $1
    ), place as (
        select i.item, i.copies, p.rank, trimmed_length(x.bytes) as length
        from item i join ranking_response p on p.ranking = i.item join response x on x.digest = p.response
    ), answers as (
        select min(copies) as copies, array_agg(rank) as ranks, array_agg(length) as lengths from place group by item
    ), pair as (
        select sum(copies) as pairs, sum(copies * case when lengths[b] > lengths[w] then 2 when lengths[b] = lengths[w] then 1 else 0 end) as longer
        from answers cross join generate_series(1, 9) b cross join generate_series(1, 9) w where ranks[b] < ranks[w]
    ), shared as ( -- prompts of which rankings by several labellers are there
        select prompt from item where prompt is not null group by prompt having min(labeller collate "C") <> max(labeller collate "C")
    ), seen as ( -- those rankings, with their responses in one order
        select i.item, i.copies, i.labeller collate "C" as labeller, i.prompt, array_agg(p.rank order by x.bytes, p.position) as ranks,
            string_agg(int4send(length(x.bytes)) || x.bytes, ''::bytea order by x.bytes, p.position) as responses
        from item i join shared s on s.prompt = i.prompt join ranking_response p on p.ranking = i.item join response x on x.digest = p.response
        group by i.item, i.copies, i.labeller, i.prompt
    ), agreement as (
        select sum(a.copies::bigint * b.copies) as common,
            sum(a.copies::bigint * b.copies) filter (where (a.ranks[m] < a.ranks[n]) = (b.ranks[m] < b.ranks[n])) as agreed
        from seen a join seen b on b.prompt = a.prompt and b.responses = a.responses and a.labeller < b.labeller
        cross join lateral generate_subscripts(a.ranks, 1) m cross join lateral generate_subscripts(a.ranks, 1) n
        where m < n and a.ranks[m] <> a.ranks[n] and b.ranks[m] <> b.ranks[n]
    )
    select $1::content_digest, (select coalesce(sum(copies) filter (where split = 'test'), 0) from item),
        coalesce((select pairs from pair), 0), coalesce((select longer from pair), 0),
        (select count(distinct labeller) from item where labeller <> ''),
        coalesce((select common from agreement), 0), coalesce((select agreed from agreement), 0)
$$;
comment on function summary_of is 'counts what a version holds; of one with erased items the counts are of what is left';

grant select, insert on dataset_summary to trimtab_app;
grant select on dataset_summary to trimtab_auditor;

insert into dataset_summary select (summary_of(v.digest)).* from dataset_version v
where not exists (select from erasure e where exists (select from dataset_version_item i where i.version = v.digest and i.item = e.digest));
