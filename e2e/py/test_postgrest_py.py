"""Every method of supabase-py's postgrest, sync and async. The last test of each fails when there is one not called here."""
import inspect, unittest

import postgrest._async.client, postgrest._async.request_builder, postgrest._sync.client, postgrest._sync.request_builder
from postgrest.exceptions import APIError
from postgrest.types import CountMethod, ReturnMethod
from supabase import create_async_client, create_client
from supabase.lib.client_options import AsyncClientOptions, SyncClientOptions

from project import create_project

# Methods that are not called here, and why.
NOT_TESTED = {}


class Watch:
    """Notes which methods of a module's classes, and of what they inherit from, are called."""

    def __init__(self, *modules):
        self.known, self.called = set(), set()
        classes = {c for module in modules for _, c in inspect.getmembers(module, inspect.isclass) if c.__module__ == module.__name__}
        classes |= {base for c in classes for base in c.__mro__ if base.__module__.startswith("postgrest.")}
        for owner in classes:
            for name, member in list(vars(owner).items()):
                if name.startswith("_") or owner.__name__ == "RequestConfig":
                    continue
                if isinstance(member, property):
                    setattr(owner, name, property(self.noted(name, member.fget)))
                elif inspect.isfunction(member):
                    setattr(owner, name, self.noted(name, member))
                else:
                    continue
                self.known.add(name)

    def noted(self, name, function):
        def call(*args, **kwargs):
            self.called.add(name)
            return function(*args, **kwargs)

        return call


def ids(build):
    """A filter on the books, and what is compared with the ids that it finds."""
    return lambda db: build(db.postgrest.table("books").select("id")).order("id"), lambda answer: [row["id"] for row in answer.data]


def data(build):
    return build, lambda answer: answer.data


def both(build):
    return build, lambda answer: (answer.data, answer.count)


# What is asked, how the answer is read, and what it has to be; in this order.
CASES = [
    (*ids(lambda q: q.eq("id", 1)), [1]),
    (*ids(lambda q: q.neq("id", 1)), [2, 3, 4]),
    (*ids(lambda q: q.gt("year", 1925)), [2]),
    (*ids(lambda q: q.gte("year", 1925)), [1, 2]),
    (*ids(lambda q: q.lt("year", 1925)), [3]),
    (*ids(lambda q: q.lte("year", 1925)), [1, 3]),
    (*ids(lambda q: q.is_("year", None)), [4]),
    (*ids(lambda q: q.not_.is_("lent", None)), [1, 2]),
    (*ids(lambda q: q.in_("id", [1, 3, 9])), [1, 3]),
    (*ids(lambda q: q.in_("title", ["Fish, (raw)", "Hamlet"])), [3, 4]),
    (*ids(lambda q: q.match({"shelf_id": 1, "year": 1926})), [2]),
    (*ids(lambda q: q.or_("id.eq.1,and(year.lt.1700,title.eq.Hamlet)")), [1, 3]),
    (*ids(lambda q: q.not_.or_("id.eq.1,id.eq.2")), [3, 4]),
    (*ids(lambda q: q.filter("info->>lang", "eq", "en")), [3]),
    (*ids(lambda q: q.like("title", "The %")), [1, 2]),
    (*ids(lambda q: q.ilike("title", "the %")), [1, 2]),
    (*ids(lambda q: q.like_all_of("title", "The%,%le")), [2]),
    (*ids(lambda q: q.like_any_of("title", "Ham%,%le")), [2, 3]),
    (*ids(lambda q: q.ilike_all_of("title", "the%,%LE")), [2]),
    (*ids(lambda q: q.ilike_any_of("title", "ham%,%LE")), [2, 3]),
    (*ids(lambda q: q.fts("body", "trial | castle")), [1, 2]),
    (*ids(lambda q: q.plfts("body", "the trial")), [1]),
    (*ids(lambda q: q.phfts("title", "fish raw")), [4]),
    (*ids(lambda q: q.wfts("body", "castle or hamlet")), [2, 3]),
    (*ids(lambda q: q.text_search("body", "'castles'", {"config": "english"})), [2]),
    (*ids(lambda q: q.text_search("title", "the trial", {"type": "plain", "config": "english"})), [1]),
    (*ids(lambda q: q.text_search("title", "fish raw", {"type": "phrase"})), [4]),
    (*ids(lambda q: q.text_search("body", "castle or hamlet", {"type": "web_search"})), [2, 3]),
    (*ids(lambda q: q.cs("tags", ["dream"])), [1, 2]),
    (*ids(lambda q: q.cd("tags", ["law", "dream", "ghost"])), [1, 3, 4]),
    (*ids(lambda q: q.contains("info", {"lang": "de"})), [1, 2]),
    (*ids(lambda q: q.contains("loaned", "[12,13)")), [1]),
    (*ids(lambda q: q.contained_by("info", {"lang": "en", "pages": 120, "more": 1})), [3, 4]),
    (*ids(lambda q: q.contained_by("loaned", "[0,20)")), [1, 3, 4]),
    (*ids(lambda q: q.ov("tags", ["snow", "ghost"])), [2, 3]),
    (*ids(lambda q: q.overlaps("loaned", "[19,21)")), [1, 2]),
    (*ids(lambda q: q.sl("loaned", (19, 22))), [1, 3]),
    (*ids(lambda q: q.range_lt("loaned", (19, 22))), [1, 3]),
    (*ids(lambda q: q.sr("loaned", (4, 10))), [1, 2]),
    (*ids(lambda q: q.range_gt("loaned", (4, 10))), [1, 2]),
    (*ids(lambda q: q.nxl("loaned", (9, 15))), [1, 2]),
    (*ids(lambda q: q.range_gte("loaned", (9, 15))), [1, 2]),
    (*ids(lambda q: q.nxr("loaned", (9, 20))), [1, 3]),
    (*ids(lambda q: q.range_lte("loaned", (9, 20))), [1, 3]),
    (*ids(lambda q: q.adj("loaned", (4, 10))), [1, 3]),
    (*ids(lambda q: q.range_adjacent("loaned", (4, 10))), [1, 3]),
    (*data(lambda db: db.from_("books").select("year").order("year", desc=True, nullsfirst=False).limit(2)), [{"year": 1926}, {"year": 1925}]),
    (*data(lambda db: db.from_("books").select("id").order("shelf_id").order("id", desc=True).offset(1).limit(1)), [{"id": 1}]),
    (*data(lambda db: db.from_("books").select("id").order("id").range(1, 2)), [{"id": 2}, {"id": 3}]),
    (*data(lambda db: db.from_("shelves").select("id", "books(id)").eq("id", 1).order("id", desc=True, foreign_table="books").limit(1, foreign_table="books")), [{"id": 1, "books": [{"id": 2}]}]),
    (*data(lambda db: db.from_("shelves").select("books(id)").eq("id", 1).order("id", foreign_table="books").range(1, 1, foreign_table="books")), [{"books": [{"id": 2}]}]),
    (*data(lambda db: db.from_("shelves").select("books(id)").eq("id", 1).or_("year.eq.1926,id.eq.9", reference_table="books")), [{"books": [{"id": 2}]}]),
    (*data(lambda db: db.from_("shelves").select("id, books!inner(id)").eq("books.id", 3)), [{"id": 2, "books": [{"id": 3}]}]),
    (*data(lambda db: db.from_("books").select("id, at:shelves!shelf_id(name)").eq("id", 1)), [{"id": 1, "at": {"name": "novels"}}]),
    (*data(lambda db: db.from_("books").select("id, ...shelves(shelf:name)").eq("id", 1)), [{"id": 1, "shelf": "novels"}]),
    (*data(lambda db: db.from_("books").select("title, writers(name)").eq("id", 1).order("name", foreign_table="writers")), [{"title": "The Trial", "writers": [{"name": "Brod"}, {"name": "Kafka"}]}]),
    (*data(lambda db: db.from_("books").select("count(), id.max()")), [{"count": 4, "max": 4}]),
    (*both(lambda db: db.from_("books").select("id", count=CountMethod.exact).limit(1).order("id")), ([{"id": 1}], 4)),
    (lambda db: db.from_("books").select("id", count=CountMethod.planned), lambda answer: isinstance(answer.count, int), True),
    (lambda db: db.from_("books").select("id", count=CountMethod.estimated), lambda answer: isinstance(answer.count, int), True),
    (*both(lambda db: db.from_("books").select("id", count=CountMethod.exact, head=True)), ([], 4)),
    (*data(lambda db: db.from_("books").select("id").eq("id", 1).single()), {"id": 1}),
    (*data(lambda db: db.from_("books").select("id").eq("id", 1).maybe_single()), {"id": 1}),
    (lambda db: db.from_("books").select("id").eq("id", 9).maybe_single(), lambda answer: answer, None),
    (*data(lambda db: db.from_("shelves").select("id,name").order("id").csv()), "id,name\n1,novels\n2,plays\n3,empty"),
    (*data(lambda db: db.from_("shelves").select("id,place").order("id").strip_nulls()), [{"id": 1, "place": "hall"}, {"id": 2, "place": "cellar"}, {"id": 3}]),
    (lambda db: db.from_("books").select("id").explain(), lambda answer: "Scan" in answer, True),
    (lambda db: db.from_("books").select("id").explain(analyze=True, verbose=True, settings=True, buffers=True, wal=True, format="json"), lambda answer: "Plan" in answer.data[0], True),
    (*data(lambda db: db.from_("books").select("id").eq("id", 1).retry(False)), [{"id": 1}]),
    (*data(lambda db: db.schema("archive").from_("books").select("title")), [{"title": "Lost Plays"}]),
    (*data(lambda db: db.postgrest.from_table("shelves").select("id").eq("id", 1)), [{"id": 1}]),
    (*data(lambda db: db.from_("shelves").insert({"id": 10, "name": "ten"}, returning=ReturnMethod.minimal)), []),
    (*both(lambda db: db.from_("shelves").insert({"id": 11, "name": "eleven"}, count=CountMethod.exact)), ([{"id": 11, "name": "eleven", "place": "hall"}], 1)),
    (*data(lambda db: db.from_("shelves").insert([{"id": 12, "name": "a"}, {"id": 13, "name": "b", "place": "x"}]).select("place").order("id")), [{"place": None}, {"place": "x"}]),
    (*data(lambda db: db.from_("shelves").insert([{"id": 14, "name": "a"}, {"id": 15, "name": "b", "place": "x"}], default_to_null=False).select("place").order("id")), [{"place": "hall"}, {"place": "x"}]),
    (*data(lambda db: db.from_("shelves").insert({"id": 10, "name": "merged"}, upsert=True).select("name")), [{"name": "merged"}]),
    (*data(lambda db: db.from_("shelves").upsert({"id": 10, "name": "ignored"}, ignore_duplicates=True, on_conflict="id")), []),
    (*data(lambda db: db.from_("shelves").upsert([{"id": 10, "name": "x"}, {"id": 16, "name": "y"}], default_to_null=False).select("id").order("id")), [{"id": 10}, {"id": 16}]),
    (*both(lambda db: db.from_("shelves").update({"place": "attic"}, count=CountMethod.exact).eq("id", 10).select("place")), ([{"place": "attic"}], 1)),
    (*both(lambda db: db.from_("shelves").delete(count=CountMethod.exact).eq("id", 11).max_affected(10).select("id")), ([{"id": 11}], 1)),
    (lambda db: db.from_("shelves").delete().gte("id", 10), lambda answer: len(answer.data), 6),
    (*data(lambda db: db.rpc("add", {"a": 1, "b": 2})), 3),
    (*data(lambda db: db.rpc("add", {"a": 1, "b": 2}, get=True)), 3),
    (*data(lambda db: db.rpc("longest", {"numbers": [1, 2, 3]})), 3),
    (*data(lambda db: db.rpc("books_since", {"since": 1925}).select("id").order("id")), [{"id": 1}, {"id": 2}]),
    (*both(lambda db: db.rpc("books_since", {"since": 1925}, count=CountMethod.exact, head=True)), ([], 2)),
    (*data(lambda db: db.rpc("books_since", {"since": 1926}).select("id").single()), {"id": 2}),
    (*data(lambda db: db.rpc("books_since", {"since": 1926}).select("id").csv()), "id\n2"),
    (*data(lambda db: db.rpc("books_since", {"since": 1926}).select("id").maybe_single()), {"id": 2}),
]

# What is refused, and with which code.
REFUSED = [
    (lambda db: db.from_("books").select("id").single(), "PGRST116"),
    (lambda db: db.from_("nowhere").select("id"), "PGRST205"),
    (lambda db: db.rpc("ad", {"a": 1, "b": 2}), "PGRST202"),
    (lambda db: db.from_("shelves").update({"place": "sea"}).gte("id", 1).max_affected(1), "PGRST124"),
    (lambda db: db.rpc("retire", {"until": 1926}).max_affected(1), "PGRST124"),
    (lambda db: db.schema("pg_catalog").from_("pg_class").select("*"), "PGRST106"),
    (lambda db: db.from_("books").select("id").filter("info", "cs", "[" * 2500), "PGRST100"),
]
DATA_API = {"db_schema": ["public", "archive"], "db_aggregates_enabled": True, "db_plan_enabled": True}


def uncalled(watch):
    return sorted(watch.known - watch.called - NOT_TESTED.keys())


class Sync(unittest.TestCase):
    def test_every_method(self):
        project = create_project("py-sync", "methods.sql", DATA_API)
        watch = Watch(postgrest._sync.client, postgrest._sync.request_builder)
        db = create_client(project["api_url"], project["service_role_key"], SyncClientOptions(auto_refresh_token=False, persist_session=False))
        db.postgrest.auth(project["service_role_key"])
        for number, (build, read, expected) in enumerate(CASES):
            with self.subTest(case=number):
                self.assertEqual(read(build(db).execute()), expected)
        for number, (build, code) in enumerate(REFUSED):
            with self.subTest(refused=number), self.assertRaises(APIError) as caught:
                build(db).execute()
            self.assertEqual(caught.exception.json()["code"], code)
        db.postgrest.aclose()
        self.assertEqual(uncalled(watch), [])


class Async(unittest.IsolatedAsyncioTestCase):
    async def test_every_method(self):
        project = create_project("py-async", "methods.sql", DATA_API)
        watch = Watch(postgrest._async.client, postgrest._async.request_builder)
        db = await create_async_client(project["api_url"], project["service_role_key"], AsyncClientOptions(auto_refresh_token=False, persist_session=False))
        db.postgrest.auth(project["service_role_key"])
        for number, (build, read, expected) in enumerate(CASES):
            with self.subTest(case=number):
                self.assertEqual(read(await build(db).execute()), expected)
        for number, (build, code) in enumerate(REFUSED):
            with self.subTest(refused=number), self.assertRaises(APIError) as caught:
                await build(db).execute()
            self.assertEqual(caught.exception.json()["code"], code)
        await db.postgrest.aclose()
        self.assertEqual(uncalled(watch), [])


if __name__ == "__main__":
    unittest.main()
