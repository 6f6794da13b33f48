-- The first project of a new data folder: one table with one row, so that the printed snippet shows something.

create table if not exists public.greetings (
    id integer primary key,
    message text not null
);
alter table public.greetings enable row level security;
grant select on public.greetings to anon, authenticated, service_role;
drop policy if exists "greetings are public" on public.greetings;
create policy "greetings are public" on public.greetings for select using (true);
insert into public.greetings (id, message) values (1, 'Your database answers. Make tables with: launchdb project sql')
on conflict do nothing;
