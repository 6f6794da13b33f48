-- Names that certificates were wanted for. An authority counts the new ones of a domain in a week, so that a few projects, made and
-- deleted again and again, would leave none for the others. No foreign keys: what a deleted project took counts on.
create table platform.certificate_names (
    name text primary key,
    project_id text not null,
    owner_id uuid not null,
    below_domain boolean not null,        -- below the server's own domain; otherwise a custom domain
    first_wanted_at timestamptz not null default now()
);
create index certificate_names_first_wanted_at_idx on platform.certificate_names (first_wanted_at);
