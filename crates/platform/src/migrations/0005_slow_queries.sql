-- Requests of the data API whose statements took long, the newest of each project; for its owner. Statements have parameters in
-- place of values.
create table platform.slow_queries (
    id bigint generated always as identity primary key,
    project_id text not null references platform.projects (id) on delete cascade,
    at timestamptz not null,
    duration_ms bigint not null,
    statement text not null,
    role text not null,
    method text not null,
    path text not null,
    request_id text not null,
    row_count bigint,
    error_code text
);
create index slow_queries_project_idx on platform.slow_queries (project_id, id desc);
