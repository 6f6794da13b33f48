create table items (
  id int primary key, name text not null, price numeric not null, created_at timestamptz not null default now());
insert into items select i, 'item ' || i, i * 1.5 from generate_series(1, 10000) i;
create table parents (id int primary key, name text not null);
create table children (id int primary key, parent_id int not null references parents, name text not null);
create index on children (parent_id);
insert into parents select i, 'parent ' || i from generate_series(1, 1000) i;
insert into children select i, (i - 1) / 10 + 1, 'child ' || i from generate_series(1, 10000) i;
create table events (
  id bigint generated always as identity primary key, name text not null, amount int not null,
  at timestamptz not null default now());
alter table items enable row level security;
alter table parents enable row level security;
alter table children enable row level security;
alter table events enable row level security;
create policy "everybody reads" on items for select using (true);
create policy "everybody reads" on parents for select using (true);
create policy "everybody reads" on children for select using (true);
create policy "everybody writes" on events for insert with check (true);
grant select on items, parents, children to anon, authenticated;
grant insert on events to anon, authenticated;
