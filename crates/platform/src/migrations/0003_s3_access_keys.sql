-- Access keys of the S3 protocol. A signature can only be checked with the secret itself, so that it is sealed and not hashed.
create table platform.s3_access_keys (
    id bigint generated always as identity primary key,
    project_id text not null references platform.projects (id) on delete cascade,
    name text not null,
    access_key_id text not null,          -- what clients call it
    key_version integer not null,         -- master key that sealed the secret
    sealed bytea not null,                -- the secret; its kind is 's3:<access_key_id>'
    created_at timestamptz not null default now(),
    constraint s3_access_keys_access_key_id_key unique (access_key_id),
    constraint s3_access_keys_project_name_key unique (project_id, name)
);
