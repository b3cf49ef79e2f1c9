-- The roles belong to the whole server, so another database may have made them already.
do $$
declare
    name text;
begin
    foreach name in array array['trimtab_app', 'trimtab_auditor'] loop
        if not exists (select from pg_roles where rolname = name) then
            begin
                execute format('create role %I login nosuperuser nocreatedb nocreaterole noreplication', name);
            exception when duplicate_object or unique_violation then
                null; -- a migration of another database was faster
            end;
        end if;
    end loop;
end
$$;

-- Before version 15 everybody may create tables in the schema public.
revoke create on schema public from public;
grant usage on schema public to trimtab_app, trimtab_auditor;
grant select on public.schema_version to trimtab_app, trimtab_auditor;

-- Digests sort as bytes whatever the locale of the database, as trimtab.MerkleRoot sorts them.
-- A pattern with {64} would take six times as long to check.
create domain content_digest as text collate "C"
    constraint digest_is_sha256 check (length(value) = 71 and value ~ '^sha256:[0-9a-f]*$');
comment on domain content_digest is 'sha256: and 64 lower-case hexadecimal digits';

-- What is compared when a step is repeated: Postgres holds -0 = 0 and every NaN equal, a replay does not.
create function bits(real) returns bytea language sql immutable strict parallel safe as 'select float4send($1)';
create function bits(double precision) returns bytea language sql immutable strict parallel safe as 'select float8send($1)';
create function bits(real[]) returns bytea language sql stable strict parallel safe as 'select array_send($1)';
comment on function bits(real[]) is 'dimensions and the IEEE 754 bits of each element';
