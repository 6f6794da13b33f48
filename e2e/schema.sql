-- What an application of the tests brings: three tables of real data, one of private notes, two functions.

create table airports (
    iata text primary key,
    name text not null,
    city text,
    state text,
    country text,
    latitude double precision not null,
    longitude double precision not null
);

create table flights (
    id bigint generated always as identity primary key,
    date timestamp not null,
    delay int not null,
    distance int not null,
    origin text not null references airports,
    destination text not null references airports
);
create index on flights (origin);
create index on flights (destination);

create table movies (
    id int primary key,
    title text,
    details jsonb not null,
    us_gross bigint,
    released text
);

create table notes (
    id bigint generated always as identity primary key,
    owner uuid not null default auth.uid(),
    body text not null
);

create table hidden (id int primary key);
insert into hidden values (1);

alter table airports enable row level security;
alter table flights enable row level security;
alter table movies enable row level security;
alter table notes enable row level security;

create policy "airports are public" on airports for select using (true);
create policy "flights are public" on flights for select using (true);
create policy "movies need a user" on movies for select to authenticated using (auth.role() = 'authenticated');
create policy "one's own notes" on notes for all to authenticated
    using ((select auth.uid()) = owner) with check ((select auth.uid()) = owner);

grant select on airports, flights to anon, authenticated;
grant select on movies to authenticated;
grant select, insert, update, delete on notes to authenticated;
grant all on airports, flights, movies, notes to service_role;
grant usage on all sequences in schema public to authenticated, service_role;

create function busiest_airports(top int default 3)
    returns table (iata text, departures bigint)
    language sql stable
    as $$
        select origin, count(*) from flights group by origin order by count(*) desc, origin limit top
    $$;

create function add_note(body text) returns notes
    language sql
    as $$ insert into notes (body) values (body) returning * $$;

revoke execute on function add_note(text) from public;
grant execute on function add_note(text) to authenticated;
