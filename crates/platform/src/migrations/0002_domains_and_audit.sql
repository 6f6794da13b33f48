-- A domain counts from the moment an administrator approved it: without a look into DNS, which this server may not have,
-- nobody else can say that it is not claimed by a stranger before its owner comes. Claims do not keep others from claiming.
alter table platform.project_domains add column approved_at timestamptz;
update platform.project_domains set approved_at = created_at;
alter table platform.project_domains drop constraint project_domains_pkey;
alter table platform.project_domains add primary key (project_id, domain);
create unique index project_domains_domain_key on platform.project_domains (domain) where approved_at is not null;

-- What concerns no project that is there; for administrators.
create index audit_log_server_idx on platform.audit_log (id desc)
    where project_id is null or action = 'project.purge';
