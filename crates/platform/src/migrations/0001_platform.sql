-- The control plane's own database. Every row that carries a secret carries it sealed (AES-256-GCM, see base::sealed)
-- or hashed; nothing here is readable by a project's roles.

create schema platform;

create table platform.owners (
    id uuid primary key default gen_random_uuid(),
    email text not null,
    password_hash text not null,          -- Argon2id, PHC string
    is_admin boolean not null default false,
    created_at timestamptz not null default now(),
    last_sign_in_at timestamptz,
    constraint owners_email_key unique (email),
    constraint owners_email_lower check (email = lower(email))
);

create table platform.owner_sessions (
    id uuid primary key default gen_random_uuid(),
    owner_id uuid not null references platform.owners (id) on delete cascade,
    token_hash bytea not null,            -- SHA-256 of the opaque bearer token
    label text not null default '',       -- where it was made: 'api', 'cli', 'dashboard'
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    last_used_at timestamptz,
    constraint owner_sessions_token_hash_key unique (token_hash)
);
create index owner_sessions_owner_id_idx on platform.owner_sessions (owner_id);

-- A spare is a project without owner and name whose database, roles and secrets exist already.
create table platform.projects (
    id text primary key check (id ~ '^proj_[a-z0-9]{3,40}$'),
    owner_id uuid references platform.owners (id),
    name text,
    status text not null check (status in ('provisioning', 'active', 'suspended', 'failed', 'deleted')),
    is_spare boolean not null default false,
    baseline_version integer not null default 0,
    revision bigint not null default 1,   -- grows with every change that a service must see
    failure text,                         -- public reason when status is 'failed'
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    deleted_at timestamptz,
    purge_after timestamptz,              -- end of the retention period of a deleted project
    constraint projects_spare_is_unowned check (is_spare = (owner_id is null))
);
-- A name is taken while its project is not deleted.
create unique index projects_owner_name_key on platform.projects (owner_id, name) where status <> 'deleted';
create index projects_spare_idx on platform.projects (created_at) where is_spare;

-- One row for each finished step of provisioning or removal; the reconciler goes on after the last one.
create table platform.provision_steps (
    project_id text not null references platform.projects (id) on delete cascade,
    step text not null,
    finished_at timestamptz not null default now(),
    primary key (project_id, step)
);

create table platform.secrets (
    project_id text not null,             -- project id, or 'platform'
    kind text not null,                   -- jwt_secret, db_password, authenticator_password, anon_key, service_role_key, publishable_key, secret_key, ...
    version integer not null default 1,
    key_version integer not null,         -- master key that sealed it
    sealed bytea not null,
    created_at timestamptz not null default now(),
    primary key (project_id, kind, version)
);

create table platform.api_keys (
    id bigint generated always as identity primary key,
    project_id text not null references platform.projects (id) on delete cascade,
    name text not null,
    kind text not null check (kind in ('publishable', 'secret')),
    prefix text not null,                 -- first characters, for lists
    hash bytea not null,                  -- SHA-256 of the whole key
    created_at timestamptz not null default now(),
    revoked_at timestamptz,
    last_used_at timestamptz,
    constraint api_keys_hash_key unique (hash)
);
create unique index api_keys_project_name_key on platform.api_keys (project_id, name) where revoked_at is null;

create table platform.project_settings (
    project_id text not null references platform.projects (id) on delete cascade,
    section text not null check (section in ('auth', 'data_api', 'storage', 'limits', 'general')),
    settings jsonb not null default '{}',
    updated_at timestamptz not null default now(),
    primary key (project_id, section)
);

create table platform.project_domains (
    domain text primary key check (domain = lower(domain)),
    project_id text not null references platform.projects (id) on delete cascade,
    created_at timestamptz not null default now()
);

create table platform.migration_state (
    project_id text not null references platform.projects (id) on delete cascade,
    name text not null,
    checksum text not null,               -- SHA-256, hex
    applied_at timestamptz not null default now(),
    duration_ms integer not null,
    primary key (project_id, name)
);

create table platform.audit_log (
    id bigint generated always as identity primary key,
    at timestamptz not null default now(),
    owner_id uuid,                        -- no foreign key: the log outlives the owner
    project_id text,
    action text not null,                 -- 'project.create', 'key.revoke', ...
    detail jsonb not null default '{}',   -- never a secret
    client_ip inet,
    request_id text
);
create index audit_log_project_idx on platform.audit_log (project_id, id desc);

-- Every process follows this channel; the payload is the project's id. Whoever changes a key, a setting or a domain
-- also bumps the project's revision, so one trigger sees everything.
create function platform.project_changed() returns trigger
    language plpgsql
    set search_path = ''
as $$
begin
    if tg_op = 'DELETE' then
        perform pg_catalog.pg_notify('launchdb_project', old.id);
    elsif not new.is_spare then
        perform pg_catalog.pg_notify('launchdb_project', new.id);
    end if;
    return null;
end
$$;
create trigger project_changed after insert or update or delete on platform.projects
    for each row execute function platform.project_changed();
