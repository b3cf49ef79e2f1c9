package storage

// This file has the queries that describe the schema as the catalogs of
// Postgres have it. Each row is one object in four texts: its kind, its parent,
// its name and its definition; see schemaObject.
//
// The queries run with pg_catalog alone on the search path, so that names of
// all other schemas are printed qualified, and nothing that somebody defined
// can stand in for a function or operator that they use. They use columns that
// Postgres 13 to 18 have.
//
// A definition that Postgres deparses hides some functions that it calls, such
// as those of implicit casts. They are listed in it after the word "calls",
// from pg_depend.

// migratedObjects select what the migrations make. verify compares them with
// migrations/schema.txt, line by line.
var migratedObjects = []string{
	// tables, views and sequences
	`select case c.relkind when 'v' then 'view' when 'S' then 'sequence' else 'table' end, '', c.relname,
		concat_ws(', ',
		case c.relkind when 'r' then 'ordinary' when 'm' then 'materialized view' when 'f' then 'foreign'
			when 'p' then 'partitioned' when 'c' then 'composite type' end,
		(select amname::text from pg_am a where a.oid = c.relam),
		case c.relpersistence when 'u' then 'not logged' when 't' then 'temporary' end,
		case when c.relrowsecurity then 'row security' end,
			case when c.relforcerowsecurity then 'row security for its owner' end,
		case when c.relispartition then 'a partition' end, case when c.reloftype <> 0 then 'of a type' end,
		case when c.relkind = 'v' then 'options ' || c.reloptions::text end,
		case when c.relkind = 'v' then rtrim(pg_get_viewdef(c.oid), ';') end,
		'calls ' || nullif((select string_agg(p.refobjid::regprocedure::text, ' ' order by p.refobjid) from pg_rewrite r
			join pg_depend p
			on p.classid = 'pg_rewrite'::regclass and p.objid = r.oid where r.ev_class = c.oid
				and p.refclassid = 'pg_proc'::regclass), ''),
		(select concat_ws(' ', format_type(s.seqtypid, null), 'from', s.seqstart, 'by', s.seqincrement, 'to', s.seqmax,
			case when s.seqcycle then 'round' end)
			from pg_sequence s where s.seqrelid = c.oid))
	from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind not in ('i', 'I', 't')`,

	// columns
	`select 'column', c.relname, a.attname, concat_ws(' ', row_number() over (partition by c.oid order by a.attnum),
		format_type(a.atttypid, a.atttypmod),
		case when a.attnotnull then 'not null' end,
		case when a.attcollation <> t.typcollation then 'collate ' || a.attcollation::regcollation end,
		case a.attidentity when 'a' then 'identity always' when 'd' then 'identity by default' end,
		case a.attgenerated when '' then null else 'generated ' || a.attgenerated::text end,
		'default ' || pg_get_expr(d.adbin, d.adrelid),
			'calls ' || nullif((select string_agg(p.refobjid::regprocedure::text,
			' ' order by p.refobjid)
			from pg_depend p where p.classid = 'pg_attrdef'::regclass and p.objid = d.oid
				and p.refclassid = 'pg_proc'::regclass), ''))
	from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
		join pg_type t on t.oid = a.atttypid
		left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
	where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'v', 'p', 'f')`,

	// constraints; since Postgres 18 not null is one, which stands with its column
	`select 'constraint', coalesce(c.relname, t.typname), n.conname, concat_ws(' ', pg_get_constraintdef(n.oid),
		case when n.contype = 'f'
			then 'enforced by ' || (select string_agg(distinct g.tgfoid::regproc || ' ' || g.tgenabled::text,
			', ')
			from pg_trigger g where g.tgconstraint = n.oid) end,
		'calls ' || nullif((select string_agg(p.refobjid::regprocedure::text, ' ' order by p.refobjid)
			from pg_depend p where p.classid = 'pg_constraint'::regclass and p.objid = n.oid
				and p.refclassid = 'pg_proc'::regclass), ''))
	from pg_constraint n left join pg_class c on c.oid = n.conrelid left join pg_type t on t.oid = n.contypid
	where n.contype <> 'n' and (c.relnamespace = 'public'::regnamespace or t.typnamespace = 'public'::regnamespace)`,

	// indexes
	`select 'index', c.relname, i.relname, concat_ws(' ', m.amname, case when x.indisunique then 'unique' end,
		case when x.indisprimary then 'primary' end,
		case when x.indisexclusion then 'exclusion' end, case when not x.indimmediate then 'deferred' end,
			case when not x.indisvalid then 'not valid' end,
		case when not x.indisready then 'not ready' end, case when not x.indislive then 'dropped' end,
		case when x.indcheckxmin then null end,
			case when to_jsonb(x) ->> 'indnullsnotdistinct' = 'true' then 'nulls not distinct' end,
		(select string_agg(concat_ws(' ', pg_get_indexdef(x.indexrelid, k.n::integer, true),
			case when k.n <= x.indnkeyatts then
				(select o.opcname || ' of ' || o.opcnamespace::regnamespace from pg_opclass o
					where o.oid = (x.indclass::oid[])[k.n - 1]) end,
			case when (x.indcollation::oid[])[k.n - 1] <> 0
				then ((x.indcollation::oid[])[k.n - 1])::regcollation::text end,
			case when (x.indoption::smallint[])[k.n - 1] <> 0 then 'option ' || (x.indoption::smallint[])[k.n - 1]
				end), ', '
				order by k.n)
			from generate_series(1, x.indnatts) k (n)),
		'where ' || pg_get_expr(x.indpred, x.indrelid),
			'calls ' || nullif((select string_agg(p.refobjid::regprocedure::text,
			' ' order by p.refobjid)
			from pg_depend p where p.classid = 'pg_class'::regclass and p.objid = x.indexrelid
				and p.refclassid = 'pg_proc'::regclass), ''))
	from pg_index x join pg_class i on i.oid = x.indexrelid join pg_class c on c.oid = x.indrelid
		join pg_am m on m.oid = i.relam
	where c.relnamespace = 'public'::regnamespace`,

	// triggers, and rules but those that make views
	`select 'trigger', c.relname, t.tgname, concat_ws(' ', t.tgfoid::regprocedure, 'on', t.tgtype,
			'enabled', t.tgenabled,
		case when t.tgdeferrable then 'deferrable' end,
		case when t.tgqual is not null then 'with a condition' end, nullif(encode(t.tgargs, 'hex'), ''),
			nullif(t.tgattr::text, ''), t.tgoldtable, t.tgnewtable)
	from pg_trigger t join pg_class c on c.oid = t.tgrelid where not t.tgisinternal
		and c.relnamespace = 'public'::regnamespace`,
	`select 'rule', c.relname, r.rulename, pg_get_ruledef(r.oid) from pg_rewrite r join pg_class c on c.oid = r.ev_class
	where c.relnamespace = 'public'::regnamespace and not (c.relkind in ('v', 'm') and r.rulename = '_RETURN'
		and r.ev_enabled = 'O')`,
	`select 'policy', c.relname, p.polname, concat_ws(' ', p.polcmd, pg_get_expr(p.polqual, p.polrelid))
		from pg_policy p
		join pg_class c on c.oid = p.polrelid
	where c.relnamespace = 'public'::regnamespace`,
	`select 'inheritance', c.relname, i.inhrelid::regclass::text, 'inherits' from pg_inherits i
		join pg_class c on c.oid = i.inhparent
	where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p')`,

	// functions, whose source is hashed by the program
	`select 'function', '', p.oid::regprocedure::text, concat_ws(' ',
		case p.prokind when 'f' then null else 'kind ' || p.prokind::text end,
		'(' || pg_get_function_arguments(p.oid) || ')', 'returns', pg_get_function_result(p.oid), 'language', l.lanname,
		case p.provolatile when 'i' then 'immutable' when 's' then 'stable' else 'volatile' end,
			case when p.proisstrict then 'strict' end,
		case when p.prosecdef then 'security definer' end, case when p.proleakproof then 'leakproof' end, 'parallel',
			p.proparallel,
		'set ' || p.proconfig::text, case when p.prosupport <> 0 then 'support ' || p.prosupport end, 'in ' || p.probin,
		case when to_jsonb(p) ->> 'prosqlbody' is not null then 'with a parsed body' end), p.prosrc
	from pg_proc p join pg_language l on l.oid = p.prolang where p.pronamespace = 'public'::regnamespace
		and ` + notOfExtension("pg_proc", "p.oid"),

	// domains and other types
	`select 'type', '', t.typname, concat_ws(' ',
		case t.typtype when 'd' then 'domain' when 'e' then 'enum' when 'r' then 'range'
			when 'm' then 'multirange' when 'b' then 'base type' else t.typtype::text end,
		format_type(nullif(t.typbasetype, 0), t.typtypmod), case when t.typnotnull then 'not null' end,
			'default ' || t.typdefault,
		'collate ' || nullif(t.typcollation, 0)::regcollation, t.typinput, t.typoutput, t.typreceive, t.typsend)
	from pg_type t where t.typnamespace = 'public'::regnamespace and t.typtype <> 'c' and t.typcategory <> 'A'
		and ` + notOfExtension("pg_type", "t.oid"),

	// rights; what owners and superusers may do goes without saying
	`with given (of, acl, owner) as (
		select case c.relkind when 'S' then 'sequence ' when 'v' then 'view ' else 'table ' end || c.relname,
			coalesce(c.relacl, acldefault(case c.relkind when 'S' then 's' else 'r'
				end::"char", c.relowner)), c.relowner
			from pg_class c where c.relnamespace = 'public'::regnamespace
				and c.relkind in ('r', 'v', 'm', 'f', 'p', 'S')
		union all select 'column ' || c.relname || '.' || a.attname, a.attacl, c.relowner
			from pg_attribute a join pg_class c on c.oid = a.attrelid where c.relnamespace = 'public'::regnamespace
				and a.attacl is not null and not a.attisdropped
		union all select 'function ' || p.oid::regprocedure, coalesce(p.proacl, acldefault('f', p.proowner)), p.proowner
			from pg_proc p where p.pronamespace = 'public'::regnamespace and ` + notOfExtension("pg_proc", "p.oid") + `
		union all select 'type ' || t.typname, coalesce(t.typacl, acldefault('T', t.typowner)), t.typowner
			from pg_type t
			where t.typnamespace = 'public'::regnamespace and t.typtype = 'd'
		union all select 'schema ' || n.nspname, coalesce(n.nspacl, acldefault('n', n.nspowner)), n.nspowner
			from pg_namespace n where n.nspname = 'public'
		union all select 'database', coalesce(d.datacl, acldefault('d', d.datdba)), d.datdba from pg_database d
			where d.datname = current_database()
		union all select 'default privileges of ' || d.defaclrole::regrole || 
			case d.defaclobjtype when 'r' then ' for tables' when 'S' then ' for sequences' when 'f'
				then ' for functions' when 'T' then ' for types'
				when 'n' then ' for schemas' else d.defaclobjtype::text end, d.defaclacl, d.defaclrole
			from pg_default_acl d where d.defaclnamespace in (0, 'public'::regnamespace))
	select 'grant', g.of, case a.grantee when 0 then 'public' else coalesce(r.rolname::text, a.grantee::text) end,
		string_agg(a.privilege_type || case when a.is_grantable then ' with grant option' else '' end, ', '
			order by a.privilege_type)
	from given g cross join aclexplode(g.acl) a left join pg_roles r on r.oid = a.grantee
	where a.grantee <> g.owner and not coalesce(r.rolsuper and g.of not like 'default%', false) and coalesce(r.rolname,
		'') <> 'pg_database_owner'
	group by g.of, a.grantee, r.rolname`,

	// what belongs to the server, as far as what is read and checked hangs on it
	`select 'database', '', 'encoding', pg_encoding_to_char(encoding)::text from pg_database
		where datname = current_database()`,
	`select 'language', '', l.lanname, concat_ws(' ', case when l.lanpltrusted then 'trusted' end, h.proname, h.prosrc,
		h.probin)
	from pg_language l join pg_proc h on h.oid = l.lanplcallfoid where l.lanname = 'plpgsql'`,
	`select 'builtin type', '', t.typname, concat_ws(' ', t.oid, t.typlen, t.typtype, t.typcategory, t.typinput,
			t.typoutput,
		t.typreceive, t.typsend)
	from pg_type t where t.typnamespace = 'pg_catalog'::regnamespace and t.typname in ('bool', 'bytea', 'int2', 'int4',
		'int8', 'float4', 'float8', 'json', 'name', 'numeric',
		'oid', 'text', 'timestamptz', '_float4', '_int4', '_text')`,
	`select 'builtin operator', '', o.oid::regoperator::text, o.oprcode::text from pg_operator o
	where o.oprnamespace = 'pg_catalog'::regnamespace and o.oprname in ('=', '<>', '<', '<=', '>', '>=', '||')
		and o.oprleft in ('text'::regtype, 'int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'bytea'::regtype,
			'bool'::regtype, 'oid'::regtype)
		and o.oprright in ('text'::regtype, 'int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'bytea'::regtype,
			'bool'::regtype, 'oid'::regtype)`,
	`select 'builtin function', '', p.oid::regprocedure::text, concat_ws(' ', l.lanname, p.prosrc) from pg_proc p
		join pg_language l on l.oid = p.prolang
	where p.pronamespace = 'pg_catalog'::regnamespace and (p.proname in ('aclexplode', 'acldefault', 'array_send',
		'array_out', 'boolsend', 'booleq', 'byteasend', 'byteaeq', 'concat_ws',
			'encode', 'format_type', 'float4send', 'float8send', 'int2send', 'int4send', 'int8send', 'json_send',
				'numeric_out', 'pg_encoding_to_char', 'pg_get_constraintdef',
			'pg_get_expr', 'pg_get_function_arguments', 'pg_get_function_result', 'pg_get_indexdef', 'pg_get_ruledef',
				'pg_get_viewdef', 'sha256', 'string_agg', 'textcat',
			'texteq', 'textne', 'textsend', 'timestamptz_send', 'count', 'bttextcmp', 'btint4cmp', 'btint8cmp',
				'btint48cmp',
				'btint84cmp')
		or p.proname ~ '^(text_(lt|le|gt|ge)|(int(2|4|8|24|42|28|82|48|84)|oid)(eq|ne|lt|le|gt|ge))$')
		and p.oid < 16384`,
	`select 'builtin view', '', c.relname, pg_get_viewdef(c.oid) from pg_class c
		where c.oid = 'pg_catalog.pg_roles'::regclass`,
}

// unmanagedObjects select objects that no migration makes and that can change
// what the schema means, or who may do what: whatever they return is
// reported.
var unmanagedObjects = []string{
	// owners: all belong to who owns the events
	`with o (owner) as (select relowner from pg_class where oid = 'public.event'::regclass), things (name, owner) as (
		select case relkind when 'S' then 'sequence ' when 'v' then 'view ' else 'table ' end || relname, relowner
			from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'v', 'S')
		union all select 'function ' || oid::regprocedure, proowner from pg_proc p
			where pronamespace = 'public'::regnamespace and ` + notOfExtension("pg_proc", "p.oid") + `
		union all select 'type ' || typname, typowner from pg_type where typnamespace = 'public'::regnamespace
			and typtype = 'd')
	select 'owner', case when (select rolsuper from pg_roles where oid = t.owner) then 'superuser' else '' end, t.name,
		'belongs to ' || t.owner::regrole || ', the events to ' || o.owner::regrole
	from things t cross join o where t.owner <> o.owner
	union all select 'owner', '', 'table event', 'belongs to ' || o.owner::regrole from o
		where o.owner::regrole::text in ('trimtab_app', 'trimtab_auditor')
	union all select 'owner', '', 'schema public', 'belongs to ' || n.nspowner::regrole from pg_namespace n
		join pg_roles r on r.oid = n.nspowner cross join o
		where n.nspname = 'public' and n.nspowner <> o.owner and not r.rolsuper and r.rolname <> 'pg_database_owner'
			and n.nspowner <> (select datdba from pg_database where datname = current_database())`,

	// roles
	`select 'role', '', rolname::text, concat_ws(', ', case when rolsuper then 'superuser' end,
		case when rolcreaterole then 'makes roles' end, case when rolcreatedb then 'makes databases' end,
		case when rolreplication then 'replication' end, case when rolbypassrls then 'passes by row security' end)
	from pg_roles where rolname in ('trimtab_app', 'trimtab_auditor') and (rolsuper or rolcreaterole or rolcreatedb
		or rolreplication or rolbypassrls)
	union all select 'role', '', want, 'is not there' from unnest(array['trimtab_app', 'trimtab_auditor']) want
		where not exists (select from pg_roles where rolname = want)`,
	`select 'member', m.roleid::regrole::text, m.member::regrole::text, case when r.rolname in ('pg_monitor',
		'pg_read_all_settings', 'pg_read_all_stats', 'pg_stat_scan_tables', 'pg_read_all_data') then 'reads' else '' end
	from pg_auth_members m join pg_roles r on r.oid = m.roleid where m.member::regrole::text in ('trimtab_app',
		'trimtab_auditor')`,
	`select 'may act as', m.roleid::regrole::text, m.member::regrole::text, '' from pg_auth_members m
		join pg_roles r on r.oid = m.member
	where m.roleid::regrole::text in ('trimtab_app', 'trimtab_auditor') and not r.rolsuper
		and m.member <> (select relowner
		from pg_class where oid = 'public.event'::regclass)
		and m.member <> (select datdba from pg_database where datname = current_database())`,
	`select 'setting', concat_ws(' in ', case s.setrole when 0 then null else 'role ' || s.setrole::regrole end,
		case s.setdatabase when 0 then null else 'this database' end),
		split_part(c.setting, '=', 1), substr(c.setting, strpos(c.setting, '=') + 1)
	from pg_db_role_setting s cross join unnest(s.setconfig) c (setting)
	where (s.setdatabase = 0 or s.setdatabase = (select oid from pg_database where datname = current_database()))
		and (s.setrole = 0 or s.setrole::regrole::text in ('trimtab_app', 'trimtab_auditor')
			or s.setrole = (select relowner
			from pg_class where oid = 'public.event'::regclass))`,

	// what another schema puts in front of ours: that of a role's name, or one that a setting has on its path
	`select 'shadow', n.nspname, x.name, x.what from pg_namespace n cross join lateral (
		select c.relname::text as name, 'table' as what from pg_class c where c.relnamespace = n.oid
			and c.relkind not in ('i', 'I', 't')
			and exists (select from pg_class o where o.relnamespace = 'public'::regnamespace and o.relname = c.relname
				and o.relkind in ('r', 'v'))
		union all select p.proname::text, 'function' from pg_proc p where p.pronamespace = n.oid
			and exists (select from pg_proc o where o.pronamespace = 'public'::regnamespace and o.proname = p.proname
				and ` + notOfExtension("pg_proc", "o.oid") + `)) x
	where n.nspname not in ('public', 'information_schema') and n.nspname !~ '^pg_(toast|temp)'
		and (n.nspname = 'pg_catalog'
		or n.nspname in ('trimtab_app', 'trimtab_auditor')
		or n.nspname = (select relowner::regrole::text from pg_class where oid = 'public.event'::regclass)
		or exists (select from pg_db_role_setting s cross join unnest(s.setconfig) c (setting)
			where c.setting like 'search_path=%'
			and (s.setdatabase = 0 or s.setdatabase = (select oid from pg_database where datname = current_database()))
			and quote_ident(n.nspname) = any (string_to_array(replace(substr(c.setting, length('search_path=') + 1),
				' ',
				''), ','))))
		and not (n.nspname = 'pg_catalog' and x.what = 'function' and not exists (select from pg_proc p
			where p.pronamespace = n.oid and p.proname = x.name and p.oid >= 16384))`,
	`select 'schema of a role', '', n.nspname, '' from pg_namespace n
		where n.nspname in ('trimtab_app', 'trimtab_auditor')`,

	// what may be taken for a function, operator, type or cast of Postgres's own
	`select 'overload', p.pronamespace::regnamespace::text, p.oid::regprocedure::text, 'function' from pg_proc p
	where p.oid >= 16384 and p.pronamespace in ('public'::regnamespace, 'pg_catalog'::regnamespace)
		and (` + notOfExtension("pg_proc", "p.oid") + ` and (p.pronamespace = 'pg_catalog'::regnamespace
			or ` + namedAsBuiltin + `)
			or ` + namedAsBuiltin + ` and not exists (select from unnest(p.proargtypes) a (t)
				where not ` + builtinOrOurs("a.t") + `)
				and not exists (select from pg_proc o where o.proname = p.proname and o.proargtypes = p.proargtypes
					and o.oid < 16384))
	union all select 'overload', o.oprnamespace::regnamespace::text, o.oid::regoperator::text, 'operator'
		from pg_operator o
	where o.oid >= 16384 and o.oprnamespace in ('public'::regnamespace, 'pg_catalog'::regnamespace)
		and (` + notOfExtension("pg_operator", "o.oid") + ` or o.oprname in ('=', '<>', '<', '<=', '>', '>=', '||')
			and ` + builtinOrOurs("o.oprleft") + ` and ` + builtinOrOurs("o.oprright") + `)
	union all select 'overload', '', c.castsource::regtype || ' as ' || c.casttarget::regtype, 'cast' from pg_cast c
	where c.oid >= 16384 and ` + builtinOrOurs("c.castsource") + ` and ` + builtinOrOurs("c.casttarget") + `
	union all select 'overload', o.opcnamespace::regnamespace::text, o.opcname || ' for ' || o.opcintype::regtype,
		'operator class' from pg_opclass o
	where o.oid >= 16384 and ` + builtinOrOurs("o.opcintype") + ` and ` + notOfExtension("pg_opclass", "o.oid") + `
	union all select 'overload', c.connamespace::regnamespace::text, c.conname, 'default conversion'
		from pg_conversion c
		where c.oid >= 16384 and c.condefault
	union all select 'overload', 'pg_catalog', c.oid::regclass::text, 'table' from pg_class c
	where c.oid >= 16384 and c.relnamespace = 'pg_catalog'::regnamespace and ` + notOfExtension("pg_class", "c.oid") + `
	union all select 'overload', 'pg_catalog', t.typname, 'type' from pg_type t
	where t.oid >= 16384 and t.typnamespace = 'pg_catalog'::regnamespace and t.typtype <> 'c'
		and ` + notOfExtension("pg_type", "t.oid"),

	// things of Postgres's own that call what somebody defined
	`select 'redirected', '', what, 'calls ' || f::regprocedure from (
		select 'operator ' || oid::regoperator, oprcode::oid from pg_operator where oid < 16384
		union all select 'type ' || t.typname || ' ' || x.n, x.f from pg_type t cross join lateral (values ('input',
			t.typinput::oid), ('output', t.typoutput::oid),
			('receive', t.typreceive::oid), ('send', t.typsend::oid), ('modifiers', t.typmodin::oid), ('analyze',
				t.typanalyze::oid)) x (n, f) where t.oid < 16384
		union all select 'cast of ' || castsource::regtype || ' as ' || casttarget::regtype, castfunc from pg_cast
			where oid < 16384
		union all select 'operator class for ' || amproclefttype::regtype, amproc::oid from pg_amproc where oid < 16384
		union all select 'aggregate ' || aggfnoid, x.f from pg_aggregate cross join lateral (values (aggtransfn::oid),
			(aggfinalfn::oid), (aggcombinefn::oid)) x (f) where aggfnoid::oid < 16384
		union all select 'function ' || oid::regprocedure, prosupport::oid from pg_proc where oid < 16384
		union all select 'language ' || lanname, lanplcallfoid from pg_language where oid < 16384
		union all select 'conversion ' || conname, conproc::oid from pg_conversion where oid < 16384
		union all select 'access method ' || amname, amhandler::oid from pg_am where oid < 16384) r (what, f)
	where f >= 16384
	union all select 'redirected', '', 'operator family ' || opfname, 'has the operator ' || amopopr::regoperator
		from pg_amop join pg_opfamily f on f.oid = amopfamily
	where pg_amop.oid < 16384 and amopopr >= 16384`,

	`select 'event trigger', '', evtname, concat_ws(' ', evtevent, evtfoid::regproc,
		case evtenabled when 'D' then 'disabled' end,
		case when not (` + notOfExtension("pg_event_trigger", "e.oid") + `) then 'of an extension' end)
	from pg_event_trigger e`,
	`select 'subscription', c.relname, r.srsubid::text, 'writes to it' from pg_subscription_rel r
		join pg_class c on c.oid = r.srrelid
	where c.relnamespace = 'public'::regnamespace`,
	`select 'extension', '', e.extname, count(*) || ' functions, operators, types and tables in the schema public'
		from pg_extension e
		join pg_depend d on d.refclassid = 'pg_extension'::regclass and d.refobjid = e.oid and d.deptype = 'e'
	where exists (select from pg_proc p where d.classid = 'pg_proc'::regclass and p.oid = d.objid
		and p.pronamespace = 'public'::regnamespace)
		or exists (select from pg_class c where d.classid = 'pg_class'::regclass and c.oid = d.objid
			and c.relnamespace = 'public'::regnamespace)
		or exists (select from pg_type t where d.classid = 'pg_type'::regclass and t.oid = d.objid
			and t.typnamespace = 'public'::regnamespace)
	group by e.extname`,
}

// parameterRights selects who may set parameters that are reserved to
// superusers. Its catalog exists since Postgres 15, so the query runs only
// where the catalog is found.
const parameterRights = `select 'parameter', case a.grantee when 0 then 'public' else a.grantee::regrole::text end,
	p.parname, a.privilege_type from pg_parameter_acl p cross join aclexplode(p.paracl) a
	where a.grantee = 0 or a.grantee::regrole::text in ('trimtab_app', 'trimtab_auditor')`

// notOfExtension is an SQL condition: the object belongs to no extension that
// was added to the database. Object ids below 16384 are Postgres's own.
func notOfExtension(catalog, oid string) string {
	return `not exists (select from pg_depend x where x.classid = '` + catalog + `'::regclass and x.objid = ` + oid + `
		and x.deptype = 'e' and x.refobjid >= 16384)`
}

// builtinOrOurs is an SQL condition: a type is Postgres's own or made by a
// migration. Only operators and casts of such types can affect our queries.
func builtinOrOurs(oid string) string {
	return `(` + oid + ` < 16384 or exists (select from pg_type y where y.oid = ` + oid + `
		and y.typnamespace = 'public'::regnamespace and y.typtype in ('d', 'c')))`
}

// namedAsBuiltin is an SQL condition: the function p has the name of one of
// Postgres's own, and could be called in its place.
const namedAsBuiltin = `exists (select from pg_proc b where b.pronamespace = 'pg_catalog'::regnamespace
	and b.proname = p.proname and b.oid < 16384)`
