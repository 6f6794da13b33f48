-- A small library in which every kind of filter has something to find. Clients with a service key use it.

create schema archive;

create table shelves (
    id int primary key,
    name text not null,
    place text default 'hall'
);

create table books (
    id int primary key,
    shelf_id int references shelves,
    title text not null,
    year int,
    tags text[] not null default '{}',
    loaned int4range not null default 'empty',
    info jsonb not null default '{}',
    lent boolean,
    body tsvector generated always as (to_tsvector('english', title)) stored
);

create table writers (id int primary key, name text not null);
create table books_writers (
    book_id int references books on delete cascade,
    writer_id int references writers,
    primary key (book_id, writer_id)
);
create table archive.books (id int primary key, title text not null);

insert into shelves values (1, 'novels', 'hall'), (2, 'plays', 'cellar'), (3, 'empty', null);
insert into books (id, shelf_id, title, year, tags, loaned, info, lent) values
    (1, 1, 'The Trial', 1925, '{law,dream}', '[10,20)', '{"pages": 200, "lang": "de"}', true),
    (2, 1, 'The Castle', 1926, '{snow,dream}', '[20,30)', '{"pages": 300, "lang": "de"}', false),
    (3, 2, 'Hamlet', 1603, '{ghost}', '[1,5)', '{"pages": 120, "lang": "en"}', null),
    (4, null, 'Fish, (raw)', null, '{}', 'empty', '{}', null);
insert into writers values (1, 'Kafka'), (2, 'Brod'), (3, 'Shakespeare');
insert into books_writers values (1, 1), (1, 2), (2, 1), (3, 3);
insert into archive.books values (1, 'Lost Plays');

grant usage on schema archive to service_role;
grant all on all tables in schema public, archive to service_role;

create function books_since(since int) returns setof books language sql stable
    as $$ select * from books where year >= since $$;
create function add(a int, b int) returns int language sql immutable as $$ select a + b $$;
create function add_all(variadic numbers int[]) returns bigint language sql immutable
    as $$ select sum(n) from unnest(numbers) n $$;
create function longest(numbers int[]) returns int language sql immutable as $$ select max(n) from unnest(numbers) n $$;
create function count_keys(document json) returns bigint language sql immutable
    as $$ select count(*) from json_object_keys(document) $$;
create function touch() returns void language sql as $$ update shelves set place = place $$;
create function retire(until int) returns setof books language sql volatile
    as $$ delete from books where year < until returning * $$;
