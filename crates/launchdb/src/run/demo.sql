-- The project `demo`: planets and their larger moons (facts, as astronomical tables list them), readable by everybody,
-- and observations that belong to the user who wrote them. Running it again changes nothing.

create table if not exists public.planets (
    id smallint primary key,                 -- place from the sun
    name text not null unique,
    diameter_km integer not null,
    mass_1e24_kg numeric not null,
    distance_au numeric not null,            -- mean distance from the sun
    orbit_days numeric not null
);

create table if not exists public.moons (
    id smallint primary key,
    planet_id smallint not null references public.planets (id),
    name text not null unique,
    diameter_km numeric not null,
    orbit_days numeric not null,             -- the orbit's length; retrograde ones are not marked
    discovered_in smallint                   -- year; none when always known
);
create index if not exists moons_planet_id_idx on public.moons (planet_id);

create table if not exists public.observations (
    id bigint generated always as identity primary key,
    user_id uuid not null default auth.uid() references auth.users (id) on delete cascade,
    moon_id smallint not null references public.moons (id),
    seen_at timestamptz not null default now(),
    note text
);
create index if not exists observations_user_id_idx on public.observations (user_id);

alter table public.planets enable row level security;
alter table public.moons enable row level security;
alter table public.observations enable row level security;

grant select on public.planets, public.moons to anon, authenticated, service_role;
grant select, insert, update, delete on public.observations to authenticated, service_role;

drop policy if exists "planets are public" on public.planets;
create policy "planets are public" on public.planets for select using (true);
drop policy if exists "moons are public" on public.moons;
create policy "moons are public" on public.moons for select using (true);
drop policy if exists "observations belong to their user" on public.observations;
create policy "observations belong to their user" on public.observations for all to authenticated
    using ((select auth.uid()) = user_id) with check ((select auth.uid()) = user_id);

insert into public.planets (id, name, diameter_km, mass_1e24_kg, distance_au, orbit_days) values
    (1, 'Mercury', 4879, 0.330, 0.387, 88.0),
    (2, 'Venus', 12104, 4.87, 0.723, 224.7),
    (3, 'Earth', 12756, 5.97, 1.000, 365.2),
    (4, 'Mars', 6792, 0.642, 1.524, 687.0),
    (5, 'Jupiter', 142984, 1898, 5.203, 4331),
    (6, 'Saturn', 120536, 568, 9.537, 10747),
    (7, 'Uranus', 51118, 86.8, 19.19, 30589),
    (8, 'Neptune', 49528, 102, 30.07, 59800)
on conflict do nothing;

insert into public.moons (id, planet_id, name, diameter_km, orbit_days, discovered_in) values
    (1, 3, 'Moon', 3474.8, 27.322, null),
    (2, 4, 'Phobos', 22.5, 0.319, 1877),
    (3, 4, 'Deimos', 12.4, 1.262, 1877),
    (4, 5, 'Io', 3643.2, 1.769, 1610),
    (5, 5, 'Europa', 3121.6, 3.551, 1610),
    (6, 5, 'Ganymede', 5268.2, 7.155, 1610),
    (7, 5, 'Callisto', 4820.6, 16.689, 1610),
    (8, 5, 'Amalthea', 167, 0.498, 1892),
    (9, 5, 'Himalia', 139.6, 250.6, 1904),
    (10, 6, 'Mimas', 396.4, 0.942, 1789),
    (11, 6, 'Enceladus', 504.2, 1.370, 1789),
    (12, 6, 'Tethys', 1062.2, 1.888, 1684),
    (13, 6, 'Dione', 1122.8, 2.737, 1684),
    (14, 6, 'Rhea', 1527.6, 4.518, 1672),
    (15, 6, 'Titan', 5149.5, 15.945, 1655),
    (16, 6, 'Hyperion', 270, 21.277, 1848),
    (17, 6, 'Iapetus', 1468.6, 79.330, 1671),
    (18, 6, 'Phoebe', 213, 550.3, 1899),
    (19, 7, 'Miranda', 471.6, 1.413, 1948),
    (20, 7, 'Ariel', 1157.8, 2.520, 1851),
    (21, 7, 'Umbriel', 1169.4, 4.144, 1851),
    (22, 7, 'Titania', 1576.8, 8.706, 1787),
    (23, 7, 'Oberon', 1522.8, 13.463, 1787),
    (24, 7, 'Puck', 162, 0.762, 1985),
    (25, 8, 'Triton', 2706.8, 5.877, 1846),
    (26, 8, 'Nereid', 357, 360.1, 1949),
    (27, 8, 'Proteus', 420, 1.122, 1989),
    (28, 8, 'Larissa', 194, 0.555, 1981)
on conflict do nothing;
