-- Mails go into a table instead of out: a send-email hook that is a function, which the tests read.
create table public.mails (
    id bigint generated always as identity primary key,
    event jsonb not null
);
grant select on public.mails to service_role;
create function public.catch_mail(event jsonb) returns jsonb language plpgsql security definer set search_path = '' as $$
begin
    insert into public.mails (event) values (event);
    return '{}';
end $$;
grant usage on schema public to supabase_auth_admin;
grant execute on function public.catch_mail to supabase_auth_admin;

-- Rows of their users only.
create table public.notes (
    id bigint generated always as identity primary key,
    user_id uuid not null default auth.uid() references auth.users (id) on delete cascade,
    text text not null
);
alter table public.notes enable row level security;
create policy own_notes on public.notes to authenticated using (user_id = auth.uid()) with check (user_id = auth.uid());
grant select, insert, update, delete on public.notes to authenticated;

-- As most applications do it: a profile for each new user.
create table public.profiles (
    id uuid primary key references auth.users (id) on delete cascade,
    name text
);
grant select on public.profiles to service_role;
create function public.handle_new_user() returns trigger language plpgsql security definer set search_path = '' as $$
begin
    insert into public.profiles (id, name) values (new.id, new.raw_user_meta_data ->> 'name');
    return new;
end $$;
create trigger on_auth_user_created after insert on auth.users
    for each row execute function public.handle_new_user();
