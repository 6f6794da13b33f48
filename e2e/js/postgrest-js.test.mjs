// Every method of postgrest-js, called as applications do; the last test fails when the client has one that is not here.
import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { watch } from "./method-coverage.mjs";
import { client, createProject, ok } from "./project.mjs";

// Methods that are not called here, and why.
const NOT_TESTED = {};

describe("postgrest-js", () => {
  let db, uncalled;

  before(async () => {
    const dataApi = { db_schema: ["public", "archive"], db_aggregates_enabled: true, db_plan_enabled: true };
    const project = await createProject("methods", "methods.sql", dataApi);
    db = client(project, project.service_role_key);
    const query = db.schema("public").from("books");
    uncalled = watch([db.schema("public"), query, query.select()]);
  });

  // The ids of the books that a filter finds.
  const ids = async (filter) => ok(await filter(db.from("books").select("id")).order("id")).data.map((row) => row.id);

  test("comparisons", async () => {
    assert.deepEqual(await ids((q) => q.eq("id", 1)), [1]);
    assert.deepEqual(await ids((q) => q.neq("id", 1)), [2, 3, 4]);
    assert.deepEqual(await ids((q) => q.gt("year", 1925)), [2]);
    assert.deepEqual(await ids((q) => q.gte("year", 1925)), [1, 2]);
    assert.deepEqual(await ids((q) => q.lt("year", 1925)), [3]);
    assert.deepEqual(await ids((q) => q.lte("year", 1925)), [1, 3]);
    assert.deepEqual(await ids((q) => q.in("id", [1, 3, 9])), [1, 3]);
    assert.deepEqual(await ids((q) => q.in("title", ["Fish, (raw)", "Hamlet"])), [3, 4]);
    assert.deepEqual(await ids((q) => q.in("id", [])), []);
    assert.deepEqual(await ids((q) => q.notIn("id", [1, 3])), [2, 4]);
    assert.deepEqual(await ids((q) => q.is("year", null)), [4]);
    assert.deepEqual(await ids((q) => q.is("lent", true)), [1]);
    assert.deepEqual(await ids((q) => q.isDistinct("year", 1603)), [1, 2, 4]);
    assert.deepEqual(await ids((q) => q.match({ shelf_id: 1, year: 1926 })), [2]);
    assert.deepEqual(await ids((q) => q.not("year", "gt", 1925)), [1, 3]);
    assert.deepEqual(await ids((q) => q.not("id", "in", "(1,2)")), [3, 4]);
    assert.deepEqual(await ids((q) => q.or("id.eq.1,and(year.lt.1700,title.eq.Hamlet)")), [1, 3]);
    assert.deepEqual(await ids((q) => q.filter("info->>lang", "eq", "en")), [3]);
    assert.deepEqual(await ids((q) => q.eq("info->pages", 300)), [2]);
    assert.deepEqual(await ids((q) => q.eq("title", "Fish, (raw)")), [4]);
  });

  test("patterns", async () => {
    assert.deepEqual(await ids((q) => q.like("title", "The %")), [1, 2]);
    assert.deepEqual(await ids((q) => q.ilike("title", "the %")), [1, 2]);
    assert.deepEqual(await ids((q) => q.likeAllOf("title", ["The%", "%le"])), [2]);
    assert.deepEqual(await ids((q) => q.likeAnyOf("title", ["Ham%", "%le"])), [2, 3]);
    assert.deepEqual(await ids((q) => q.ilikeAllOf("title", ["the%", "%LE"])), [2]);
    assert.deepEqual(await ids((q) => q.ilikeAnyOf("title", ["ham%", "%LE"])), [2, 3]);
    assert.deepEqual(await ids((q) => q.regexMatch("title", "^The (Tr|C)")), [1, 2]);
    assert.deepEqual(await ids((q) => q.regexIMatch("title", "^ham")), [3]);
  });

  test("arrays, ranges and documents", async () => {
    assert.deepEqual(await ids((q) => q.contains("tags", ["dream"])), [1, 2]);
    assert.deepEqual(await ids((q) => q.contains("info", { lang: "de" })), [1, 2]);
    assert.deepEqual(await ids((q) => q.contains("loaned", "[12,13)")), [1]);
    assert.deepEqual(await ids((q) => q.containedBy("tags", ["law", "dream", "ghost"])), [1, 3, 4]);
    assert.deepEqual(await ids((q) => q.containedBy("info", { lang: "en", pages: 120, more: 1 })), [3, 4]);
    assert.deepEqual(await ids((q) => q.containedBy("loaned", "[0,20)")), [1, 3, 4]);
    assert.deepEqual(await ids((q) => q.overlaps("tags", ["snow", "ghost"])), [2, 3]);
    assert.deepEqual(await ids((q) => q.overlaps("loaned", "[19,21)")), [1, 2]);
    assert.deepEqual(await ids((q) => q.rangeGt("loaned", "[5,10)")), [1, 2]);
    assert.deepEqual(await ids((q) => q.rangeGte("loaned", "[10,15)")), [1, 2]);
    assert.deepEqual(await ids((q) => q.rangeLt("loaned", "[20,22)")), [1, 3]);
    assert.deepEqual(await ids((q) => q.rangeLte("loaned", "[10,20)")), [1, 3]);
    assert.deepEqual(await ids((q) => q.rangeAdjacent("loaned", "[5,10)")), [1, 3]);
  });

  test("text search of all types", async () => {
    assert.deepEqual(await ids((q) => q.textSearch("body", "trial | castle")), [1, 2]);
    assert.deepEqual(await ids((q) => q.textSearch("body", "'castles'", { config: "english" })), [2]);
    assert.deepEqual(await ids((q) => q.textSearch("title", "the trial", { type: "plain", config: "english" })), [1]);
    assert.deepEqual(await ids((q) => q.textSearch("title", "fish raw", { type: "phrase" })), [4]);
    assert.deepEqual(await ids((q) => q.textSearch("body", "castle or hamlet", { type: "websearch" })), [2, 3]);
  });

  test("order, limit and range, here and in embedded tables", async () => {
    const years = async (options) =>
      ok(await db.from("books").select("year").order("year", options)).data.map((row) => row.year);
    assert.deepEqual(await years(), [1603, 1925, 1926, null]);
    assert.deepEqual(await years({ ascending: false }), [null, 1926, 1925, 1603]);
    assert.deepEqual(await years({ ascending: false, nullsFirst: false }), [1926, 1925, 1603, null]);
    assert.deepEqual(await years({ nullsFirst: true }), [null, 1603, 1925, 1926]);
    const two = ok(await db.from("books").select("id").order("shelf_id").order("id", { ascending: false }).limit(2));
    assert.deepEqual(two.data, [{ id: 2 }, { id: 1 }]);
    assert.deepEqual(ok(await db.from("books").select("id").order("id").range(1, 2)).data, [{ id: 2 }, { id: 3 }]);
    const shelves = ok(
      await db.from("shelves").select("id, books(id)").eq("id", 1).limit(1, { referencedTable: "books" })
        .order("id", { referencedTable: "books", ascending: false }),
    );
    assert.deepEqual(shelves.data, [{ id: 1, books: [{ id: 2 }] }]);
    const ranged = ok(await db.from("shelves").select("books(id)").eq("id", 1).range(1, 1, { referencedTable: "books" }).order("id", { referencedTable: "books" }));
    assert.deepEqual(ranged.data, [{ books: [{ id: 2 }] }]);
    const either = ok(await db.from("shelves").select("id, books(id)").eq("id", 1).or("year.eq.1926,id.eq.9", { referencedTable: "books" }));
    assert.deepEqual(either.data, [{ id: 1, books: [{ id: 2 }] }]);
    const byShelf = ok(await db.from("books").select("id, shelves(name)").not("shelf_id", "is", null).order("shelves(name)", { ascending: false }).order("id"));
    assert.deepEqual(byShelf.data.map((row) => row.id), [3, 1, 2]);
  });

  test("embedding: inner joins, hints, spreads, many-to-many, nulls and aggregates", async () => {
    const select = async (table, columns, more = (q) => q) => ok(await more(db.from(table).select(columns))).data;
    assert.deepEqual(await select("shelves", "id, books!inner(id)", (q) => q.eq("books.id", 3)), [{ id: 2, books: [{ id: 3 }] }]);
    assert.deepEqual(await select("books", "id, at:shelves!shelf_id(name)", (q) => q.eq("id", 1)), [{ id: 1, at: { name: "novels" } }]);
    assert.deepEqual(await select("books", "id, shelves!books_shelf_id_fkey!left(name)", (q) => q.eq("id", 4)), [{ id: 4, shelves: null }]);
    assert.deepEqual(await select("books", "id, ...shelves(shelf:name)", (q) => q.eq("id", 1)), [{ id: 1, shelf: "novels" }]);
    assert.deepEqual(await select("books", "title, writers(name)", (q) => q.eq("id", 1).order("name", { referencedTable: "writers" })), [{ title: "The Trial", writers: [{ name: "Brod" }, { name: "Kafka" }] }]);
    assert.deepEqual(await select("books", "id, ...writers(names:name)", (q) => q.eq("id", 1).order("name", { referencedTable: "writers" })), [{ id: 1, names: ["Brod", "Kafka"] }]);
    assert.deepEqual(await select("shelves", "id, books()", (q) => q.is("books", null)), [{ id: 3 }]);
    assert.deepEqual(await select("books", "count()"), [{ count: 4 }]);
    assert.deepEqual(await select("books", "shelf_id, years:year.sum(), n:id.count()", (q) => q.order("shelf_id")), [
      { shelf_id: 1, years: 3851, n: 2 },
      { shelf_id: 2, years: 1603, n: 1 },
      { shelf_id: null, years: null, n: 1 },
    ]);
    assert.deepEqual(await select("books", "pages:info->>pages::int", (q) => q.eq("id", 3)), [{ pages: 120 }]);
  });

  test("counts, heads and one row or none", async () => {
    for (const count of ["exact", "planned", "estimated"]) {
      const result = ok(await db.from("books").select("*", { count }));
      assert.equal(typeof result.count, "number", count);
      if (count === "exact") assert.equal(result.count, 4);
    }
    const head = ok(await db.from("books").select("*", { count: "exact", head: true }));
    assert.deepEqual([head.data, head.count], [null, 4]);
    assert.deepEqual(ok(await db.from("books").select("id").eq("id", 1).single()).data, { id: 1 });
    assert.equal((await db.from("books").select("id").single()).error.code, "PGRST116");
    assert.equal(ok(await db.from("books").select("id").eq("id", 9).maybeSingle()).data, null);
    assert.deepEqual(ok(await db.from("books").select("id").eq("id", 1).maybeSingle()).data, { id: 1 });
    assert.equal((await db.from("books").select("id").maybeSingle()).error.code, "PGRST116");
  });

  test("other forms of the answer", async () => {
    const csv = ok(await db.from("shelves").select("id,name").order("id").csv());
    assert.equal(csv.data, "id,name\n1,novels\n2,plays\n3,empty");
    const stripped = ok(await db.from("shelves").select("id,place").order("id").stripNulls());
    assert.deepEqual(stripped.data, [{ id: 1, place: "hall" }, { id: 2, place: "cellar" }, { id: 3 }]);
    const one = ok(await db.from("shelves").select("id,place").eq("id", 3).stripNulls().single());
    assert.deepEqual(one.data, { id: 3 });
    const text = ok(await db.from("books").select("id").eq("id", 1).explain());
    assert.match(text.data, /Scan/);
    const json = ok(await db.from("books").select("id").explain({ format: "json", analyze: true, verbose: true, settings: true, buffers: true, wal: true }));
    assert.ok(json.data[0].Plan["Actual Rows"] >= 1);
    const typed = ok(await db.from("books").select("id").eq("id", 1).returns());
    assert.deepEqual(ok(await db.from("books").select("id").eq("id", 1).overrideTypes()).data, typed.data);
  });

  test("GeoJSON is refused in words where PostGIS is not installed", async () => {
    const { error, status } = await db.from("books").select("id").geojson();
    assert.equal(status, 404);
    assert.equal(error.code, "42883");
    assert.match(error.hint, /PostGIS/);
  });

  test("inserts", async () => {
    const none = await db.from("shelves").insert({ id: 10, name: "ten" });
    assert.deepEqual([none.status, none.data, none.error], [201, null, null]);
    const row = ok(await db.from("shelves").insert({ id: 11, name: "eleven" }, { count: "exact" }).select().single());
    assert.deepEqual([row.data, row.count], [{ id: 11, name: "eleven", place: "hall" }, 1]);
    const nulls = ok(await db.from("shelves").insert([{ id: 12, name: "a" }, { id: 13, name: "b", place: "x" }]).select("place").order("id"));
    assert.deepEqual(nulls.data, [{ place: null }, { place: "x" }]);
    const defaults = ok(await db.from("shelves").insert([{ id: 14, name: "a" }, { id: 15, name: "b", place: "x" }], { defaultToNull: false }).select("place").order("id"));
    assert.deepEqual(defaults.data, [{ place: "hall" }, { place: "x" }]);
    assert.equal((await db.from("shelves").insert({ id: 10, name: "again" })).error.code, "23505");
  });

  test("upserts", async () => {
    const merged = ok(await db.from("shelves").upsert({ id: 10, name: "merged" }).select("name"));
    assert.deepEqual(merged.data, [{ name: "merged" }]);
    const ignored = ok(await db.from("shelves").upsert({ id: 10, name: "ignored" }, { ignoreDuplicates: true, onConflict: "id" }).select());
    assert.deepEqual(ignored.data, []);
    const both = ok(await db.from("shelves").upsert([{ id: 10, name: "x" }, { id: 16, name: "y", place: "z" }], { onConflict: "id", defaultToNull: false, count: "exact" }).select("id").order("id"));
    assert.deepEqual([both.data, both.count], [[{ id: 10 }, { id: 16 }], 2]);
  });

  test("updates and deletes, and how many rows they may touch", async () => {
    const updated = ok(await db.from("shelves").update({ place: "attic" }, { count: "exact" }).gte("id", 10).select("id"));
    assert.equal(updated.count, updated.data.length);
    const refused = await db.from("shelves").update({ place: "sea" }).gte("id", 10).maxAffected(2);
    assert.equal(refused.error.code, "PGRST124");
    assert.equal(ok(await db.from("shelves").select("id").eq("place", "sea")).data.length, 0);
    ok(await db.from("shelves").update({ place: "sea" }).eq("id", 10).maxAffected(2));
    assert.equal((await db.from("shelves").delete().gte("id", 10).maxAffected(1)).error.code, "PGRST124");
    const removed = ok(await db.from("shelves").delete({ count: "exact" }).gte("id", 10).select("id").order("id"));
    assert.deepEqual(removed.data.map((row) => row.id), [10, 11, 12, 13, 14, 15, 16]);
    assert.equal(removed.count, 7);
    ok(await db.from("shelves").insert({ id: 20, name: "never" }).rollback());
    assert.equal(ok(await db.from("shelves").select().eq("id", 20)).data.length, 0);
  });

  test("functions", async () => {
    assert.equal(ok(await db.rpc("add", { a: 1, b: 2 })).data, 3);
    assert.equal(ok(await db.rpc("add", { a: 1, b: 2 }, { get: true })).data, 3);
    assert.equal(ok(await db.rpc("add_all", { numbers: [1, 2, 3] })).data, 6);
    assert.equal(ok(await db.rpc("longest", { numbers: [1, 2, 3] }, { get: true })).data, 3);
    assert.equal(ok(await db.rpc("count_keys", { document: { a: 1, b: [] } })).data, 2);
    const nothing = ok(await db.rpc("touch"));
    assert.deepEqual([nothing.status, nothing.data], [204, null]);
    const rows = ok(await db.rpc("books_since", { since: 1925 }, { count: "exact" }).select("id, shelves(name)").gt("id", 1).order("id").limit(5));
    assert.deepEqual([rows.data, rows.count], [[{ id: 2, shelves: { name: "novels" } }], 1]);
    const head = ok(await db.rpc("books_since", { since: 1925 }, { head: true, count: "exact" }));
    assert.deepEqual([head.data, head.count], [null, 2]);
    assert.deepEqual(ok(await db.rpc("books_since", { since: 1926 }).select("id").single()).data, { id: 2 });
    assert.equal((await db.rpc("retire", { until: 1926 }).maxAffected(1)).error.code, "PGRST124");
    assert.equal(ok(await db.from("books").select("*", { count: "exact", head: true })).count, 4);
    const { error, status } = await db.rpc("ad", { a: 1, b: 2 });
    assert.deepEqual([status, error.code], [404, "PGRST202"]);
  });

  test("schemas", async () => {
    assert.deepEqual(ok(await db.schema("archive").from("books").select()).data, [{ id: 1, title: "Lost Plays" }]);
    ok(await db.schema("archive").from("books").insert({ id: 2, title: "New" }));
    assert.equal(ok(await db.schema("archive").from("books").delete().eq("id", 2).select()).data.length, 1);
    const { error, status } = await db.schema("pg_catalog").from("pg_class").select();
    assert.deepEqual([status, error.code], [406, "PGRST106"]);
  });

  test("what the request itself is told", async () => {
    await assert.rejects(async () => await db.from("nowhere").select().throwOnError(), { code: "PGRST205" });
    await assert.rejects(async () => await db.from("nowhere").select().eq("a", 1).throwOnError(), (error) => {
      assert.deepEqual(Object.keys(error.toJSON()).sort(), ["code", "details", "hint", "message", "name"]);
      return true;
    });
    const asked = ok(await db.from("books").select("id").order("id").setHeader("accept", "application/vnd.pgrst.object+json").eq("id", 2));
    assert.deepEqual(asked.data, { id: 2 });
    assert.deepEqual(ok(await db.from("books").select("id").eq("id", 1).retry(false)).data, [{ id: 1 }]);
    const abort = new AbortController();
    abort.abort();
    assert.ok((await db.from("books").select().abortSignal(abort.signal)).error);
  });

  test("the limits of a request are told in words", async () => {
    const told = (result, code, most) => {
      assert.deepEqual([result.status, result.error.code], [400, code], JSON.stringify(result.error));
      assert.ok(result.error.details.includes(String(most)) && result.error.hint, JSON.stringify(result.error));
    };
    const deep = (levels) => `${"[".repeat(levels)}${"]".repeat(levels)}`;
    told(await db.from("books").select("id").filter("info", "cs", deep(2_500)), "PGRST100", 2_000);
    told(await db.from("books").select(`${"shelves(books(".repeat(9)}id${"))".repeat(9)}`), "PGRST100", 16);
    told(await db.from("books").select("id").or(`${"and(".repeat(70)}id.eq.1${")".repeat(70)}`), "PGRST100", 64);
    told(await db.from("books").select(`a:info${"->b".repeat(300)}`), "PGRST100", 250);
    told(await db.from("books").select("id").order(`${"id,".repeat(600)}id`), "PGRST100", 500);
    let document = 1;
    for (let i = 0; i < 2_100; i++) document = [document];
    told(await db.from("books").insert({ id: 50, title: "deep", info: document }), "PGRST102", 2_000);
  });

  test("every method was called", () => {
    assert.deepEqual(uncalled().filter((name) => !(name in NOT_TESTED)), []);
  });
});
