-- A document is any canonical JSON that others name by digest: stage configs, evaluation reports.
create table document (
    digest     content_digest not null,
    body       bytea          not null,
    created_at timestamptz    not null default clock_timestamp(),
    constraint document_pkey primary key (digest),
    constraint document_digest_of_body check (digest = 'sha256:' || encode(sha256(body), 'hex'))
);
comment on table document is 'canonical JSON that others name by digest: stage configs, evaluation reports';
comment on column document.body is 'exact bytes';

create table dataset (
    name       text        not null,
    kind       text        not null,
    created_at timestamptz not null default clock_timestamp(),
    constraint dataset_pkey primary key (name),
    constraint dataset_kind_known check (kind in ('text', 'prompts', 'demonstrations', 'rankings')),
    constraint dataset_name_plain check (name ~ '^[^[:space:][:cntrl:]@]{1,200}$' and name !~ '^sha256:')
);
comment on table dataset is 'a name under which items of one kind are gathered';

-- Items, a table for each kind. digest is the SHA-256 of the canonical form (trimtab.Item), which holds every
-- column but those marked; the same content is one row however many datasets hold it.
create table text_item (
    digest content_digest not null,
    body   text           not null,
    constraint text_item_pkey primary key (digest)
);
comment on table text_item is 'one document of text';

create table prompt (
    digest content_digest not null,
    prompt text           not null,
    split  text           not null,
    tag    text           not null,
    constraint prompt_pkey primary key (digest),
    constraint prompt_split_known check (split in ('', 'train', 'test'))
);
comment on table prompt is 'what a model is asked';

create table demonstration (
    digest       content_digest not null,
    prompt       text           not null,
    completion   text           not null,
    demonstrator text           not null,
    split        text           not null,
    constraint demonstration_pkey primary key (digest),
    constraint demonstration_split_known check (split in ('', 'train', 'test'))
);
comment on table demonstration is 'a person''s answer to a prompt';

create table response (
    digest    content_digest not null,
    bytes     bytea,
    tokens    integer[],
    tokenizer text           not null,
    model     text           not null,
    text      text           not null,
    constraint response_pkey primary key (digest),
    constraint response_tokenizer_digest check (tokenizer = '' or tokenizer::content_digest is not null),
    constraint response_model_digest check (model = '' or model::content_digest is not null)
);
comment on table response is 'one answer among those that were ranked';
comment on column response.bytes is 'what the labeller saw, undecoded';
comment on column response.tokens is 'ids as sampled; null for imported text';
comment on column response.text is 'bytes for people: no part of the digest';

create table ranking (
    digest    content_digest   not null,
    prompt    text             not null,
    labeller  text             not null,
    guideline text             not null,
    split     text             not null,
    grouping  text             not null,
    seconds   double precision not null,
    constraint ranking_pkey primary key (digest),
    constraint ranking_split_known check (split in ('', 'train', 'test')),
    constraint ranking_seconds_positive check (seconds >= 0)
);
comment on table ranking is 'one labeller''s order of K responses to a prompt';
comment on column ranking.grouping is 'what a split must not tear apart; empty is the prompt';
comment on column ranking.seconds is 'time the labeller took, 0 unknown: no part of the digest, the first one recorded stays';

create table ranking_response (
    ranking  content_digest not null,
    position smallint       not null,
    response content_digest not null,
    rank     smallint       not null,
    constraint ranking_response_pkey primary key (ranking, position),
    constraint ranking_response_ranking foreign key (ranking) references ranking (digest),
    constraint ranking_response_response foreign key (response) references response (digest),
    constraint ranking_response_presented check (position between 1 and 9),
    constraint ranking_response_dense check (rank between 1 and 9)
);
comment on table ranking_response is 'the K responses of a ranking in the order in which they were presented; rank 1 is best, equal ranks are ties';

-- The ranking is what is learned from; its pairs follow from it.
create view comparison as
select better.ranking, better.response as winner, worse.response as loser,
       worse.rank - better.rank as margin, better.position as winner_position, worse.position as loser_position
from ranking_response better
join ranking_response worse on worse.ranking = better.ranking and better.rank < worse.rank;
comment on view comparison is 'K(K-1)/2 pairs of each ranking, less ties';

create table dataset_item (
    dataset  text           not null,
    item     content_digest not null,
    actor    text           not null,
    added_at timestamptz    not null default clock_timestamp(),
    constraint dataset_item_pkey primary key (dataset, item),
    constraint dataset_item_dataset foreign key (dataset) references dataset (name)
);
comment on table dataset_item is 'what was ever added to a dataset, each item once';

create table dataset_version (
    digest content_digest not null,
    kind   text           not null,
    items  integer        not null,
    constraint dataset_version_pkey primary key (digest),
    constraint dataset_version_not_empty check (items >= 1)
);
comment on table dataset_version is 'an immutable multiset of items';
comment on column dataset_version.digest is 'Merkle root of RFC 9162 over the item digests in ascending order, copies counted';

create table dataset_version_item (
    version content_digest not null,
    item    content_digest not null,
    copies  integer        not null,
    constraint dataset_version_item_pkey primary key (version, item),
    constraint dataset_version_item_copies_positive check (copies >= 1)
);
comment on table dataset_version_item is 'the items of a version and how often each is in it';

create table dataset_freeze (
    id         bigint         generated always as identity,
    dataset    text           not null,
    version    content_digest not null,
    actor      text           not null,
    created_at timestamptz    not null default clock_timestamp(),
    constraint dataset_freeze_pkey primary key (id),
    constraint dataset_freeze_dataset foreign key (dataset) references dataset (name),
    constraint dataset_freeze_version foreign key (version) references dataset_version (digest)
);
create index dataset_freeze_by_dataset on dataset_freeze (dataset, id);
create index dataset_freeze_by_version on dataset_freeze (version, id);
comment on table dataset_freeze is 'which version a dataset''s name meant from when on';

grant select, insert on document, dataset, text_item, prompt, demonstration, response, ranking, ranking_response,
    dataset_item, dataset_version, dataset_version_item, dataset_freeze to trimtab_app;
grant select on document, dataset, text_item, prompt, demonstration, response, ranking, ranking_response, comparison,
    dataset_item, dataset_version, dataset_version_item, dataset_freeze to trimtab_auditor;
grant select on comparison to trimtab_app;
