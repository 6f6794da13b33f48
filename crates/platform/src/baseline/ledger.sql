-- Where it is written down which baseline files a database has. `_launchdb` belongs to the superuser.
create schema _launchdb;
create table _launchdb.baseline_migrations (
    version integer primary key,
    name text not null,
    checksum text not null,                 -- SHA-256 of the file, hex
    applied_at timestamptz not null default now()
);
