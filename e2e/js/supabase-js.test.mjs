// supabase-js against two projects of one LaunchDB: real data in bulk, every kind of access, and row level security.
import assert from "node:assert/strict";
import { createHmac, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { before, describe, test } from "node:test";
import { createClient } from "@supabase/supabase-js";
import { client, createProject, ok, options } from "./project.mjs";

const data = (name) => readFileSync(new URL(`node_modules/vega-datasets/data/${name}`, import.meta.url), "utf8");

// A user's client: the project's publishable key, and the user's token as bearer.
function userClient(project, token) {
  return createClient(project.api_url, project.anon_key, {
    ...options,
    accessToken: async () => token,
  });
}

function sign(secret, claims) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const message = `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}`;
  return `${message}.${createHmac("sha256", secret).update(message).digest("base64url")}`;
}

function userToken(project, sub, more = {}) {
  const now = Math.floor(Date.now() / 1000);
  const claims = { aud: "authenticated", role: "authenticated", sub, iat: now, exp: now + 600, ...more };
  return sign(project.jwt_secret, claims);
}

function parseCsv(text) {
  const rows = text.trim().split("\n").map((line) => {
    const cells = [];
    let cell = "", quoted = false;
    for (const c of line.replace(/\r$/, "")) {
      if (c === '"') quoted = !quoted;
      else if (c === "," && !quoted) { cells.push(cell); cell = ""; }
      else cell += c;
    }
    return [...cells, cell];
  });
  const [header, ...body] = rows;
  return body.map((cells) => Object.fromEntries(header.map((name, i) => [name, cells[i] === "" ? null : cells[i]])));
}

describe("supabase-js", () => {
  let a, b, service, anon;
  const airports = parseCsv(data("airports.csv"));
  const codes = new Set(airports.map((airport) => airport.iata));
  const flights = JSON.parse(data("flights-2k.json")).filter((f) => codes.has(f.origin) && codes.has(f.destination));
  const movies = JSON.parse(data("movies.json"));

  before(async () => {
    [a, b] = await Promise.all([createProject("js-a", "schema.sql"), createProject("js-b", "schema.sql")]);
    service = client(a, a.service_role_key);
    anon = client(a, a.anon_key);
  });

  test("loads three real data sets in bulk", async () => {
    assert.equal(airports.length, 3376);
    ok(await service.from("airports").insert(airports));
    ok(await service.from("flights").insert(flights));
    const rows = movies.map((m, id) => ({ id, title: m.Title === null ? null : String(m.Title), details: m, us_gross: m["US Gross"], released: m["Release Date"] }));
    ok(await service.from("movies").insert(rows));
    for (const [table, count] of [["airports", airports.length], ["flights", flights.length], ["movies", movies.length]]) {
      const result = ok(await service.from(table).select("*", { count: "exact", head: true }));
      assert.equal(result.count, count, table);
    }
  });

  test("filters, orders, pages and counts", async () => {
    const texas = ok(await anon.from("airports").select("iata,city", { count: "exact" }).eq("state", "TX").order("iata").range(0, 9));
    const expected = airports.filter((x) => x.state === "TX").sort((x, y) => (x.iata < y.iata ? -1 : 1));
    assert.equal(texas.count, expected.length);
    assert.deepEqual(texas.data, expected.slice(0, 10).map(({ iata, city }) => ({ iata, city })));
    const some = ok(await anon.from("airports").select("iata").in("iata", ["LAX", "JFK", "SFO"]).order("iata", { ascending: false }));
    assert.deepEqual(some.data.map((r) => r.iata), ["SFO", "LAX", "JFK"]);
    const like = ok(await anon.from("airports").select("name").ilike("name", "%international%").or("state.eq.CA,state.eq.NY").limit(3));
    assert.equal(like.data.length, 3);
    const north = ok(await anon.from("airports").select("iata,latitude").gte("latitude", 70).not("state", "is", null));
    assert.deepEqual(north.data.length, airports.filter((x) => Number(x.latitude) >= 70 && x.state !== null).length);
    const none = ok(await anon.from("airports").select().eq("iata", "nowhere").maybeSingle());
    assert.equal(none.data, null);
    const { error, status } = await anon.from("airports").select().eq("state", "TX").single();
    assert.equal(status, 406);
    assert.equal(error.code, "PGRST116");
  });

  test("embeds to-one and to-many, with hints, inner joins and aliases", async () => {
    const one = ok(await anon.from("flights").select("distance, from:airports!flights_origin_fkey(iata,city), to:airports!flights_destination_fkey!inner(iata)").eq("to.iata", "LAX").order("id").limit(5));
    assert.equal(one.data.length, 5);
    for (const row of one.data) assert.equal(row.to.iata, "LAX");
    const first = flights.find((f) => f.destination === "LAX");
    assert.equal(one.data[0].from.iata, first.origin);
    const many = ok(await anon.from("airports").select("iata, departures:flights!origin(id,delay)").eq("iata", "SFO").gt("departures.delay", 60));
    assert.equal(many.data.length, 1);
    assert.equal(many.data[0].departures.length, flights.filter((f) => f.origin === "SFO" && f.delay > 60).length);
    const { error, status } = await anon.from("flights").select("*, airports(*)");
    assert.equal(status, 300);
    assert.equal(error.code, "PGRST201");
  });

  test("reads into JSON documents", async () => {
    const rows = ok(await service.from("movies").select("title, genre:details->>Major Genre").eq("details->>Distributor", "Gramercy").order("title"));
    const expected = movies.filter((m) => m.Distributor === "Gramercy");
    assert.equal(rows.data.length, expected.length);
    assert.ok(rows.data.every((row) => "genre" in row));
  });

  test("upserts, updates and deletes", async () => {
    const changed = ok(await service.from("airports").upsert([{ ...airports[0], name: "Renamed" }, { iata: "ZZZ", name: "New", latitude: 0, longitude: 0 }]).select("iata,name"));
    assert.deepEqual(changed.data.map((r) => r.name), ["Renamed", "New"]);
    const ignored = ok(await service.from("airports").upsert({ iata: "ZZZ", name: "Ignored", latitude: 0, longitude: 0 }, { ignoreDuplicates: true }).select());
    assert.deepEqual(ignored.data, []);
    const updated = ok(await service.from("airports").update({ city: "Nowhere" }, { count: "exact" }).eq("iata", "ZZZ").select("city").single());
    assert.deepEqual(updated.data, { city: "Nowhere" });
    const removed = ok(await service.from("airports").delete().eq("iata", "ZZZ").select());
    assert.equal(removed.data.length, 1);
    const { error, status } = await service.from("airports").insert({ iata: "LAX", name: "Twice", latitude: 0, longitude: 0 });
    assert.equal(status, 409);
    assert.equal(error.code, "23505");
  });

  test("calls functions", async () => {
    const top = ok(await anon.rpc("busiest_airports", { top: 2 }));
    const counts = new Map();
    for (const f of flights) counts.set(f.origin, (counts.get(f.origin) ?? 0) + 1);
    const expected = [...counts].sort((x, y) => y[1] - x[1] || (x[0] < y[0] ? -1 : 1)).slice(0, 2);
    assert.deepEqual(top.data, expected.map(([iata, departures]) => ({ iata, departures })));
    const get = ok(await anon.rpc("busiest_airports", {}, { get: true }).select("iata").limit(1));
    assert.deepEqual(get.data, [{ iata: expected[0][0] }]);
    const { error, status } = await anon.rpc("no_such_function");
    assert.equal(status, 404);
    assert.equal(error.code, "PGRST202");
  });

  test("row level security decides what a caller sees", async () => {
    const { error, status } = await anon.from("hidden").select();
    assert.equal(status, 401);
    assert.equal(error.code, "42501");
    assert.equal((await anon.from("movies").select()).error.code, "42501");
    assert.equal((await anon.from("notes").insert({ body: "x" })).error.code, "42501");

    const [ann, ben] = [randomUUID(), randomUUID()];
    const annClient = userClient(a, userToken(a, ann)), benClient = userClient(a, userToken(a, ben));
    ok(await annClient.from("notes").insert([{ body: "Ann's" }, { body: "Ann's second" }]));
    ok(await benClient.rpc("add_note", { body: "Ben's" }));
    assert.deepEqual(ok(await annClient.from("notes").select("body").order("id")).data, [{ body: "Ann's" }, { body: "Ann's second" }]);
    assert.deepEqual(ok(await benClient.from("notes").select("body,owner")).data, [{ body: "Ben's", owner: ben }]);
    assert.deepEqual(ok(await benClient.from("notes").update({ body: "mine" }).eq("owner", ann).select()).data, []);
    assert.deepEqual(ok(await benClient.from("notes").delete().eq("owner", ann).select()).data, []);
    const forged = await benClient.from("notes").insert({ body: "forged", owner: ann });
    assert.equal(forged.status, 403);
    assert.equal(forged.error.code, "42501");
    assert.equal(ok(await service.from("notes").select()).data.length, 3);
    assert.equal(ok(await annClient.from("movies").select("*", { count: "exact", head: true })).count, movies.length);
  });

  test("keys and tokens of one project are refused by the other", async () => {
    const refused = async (what, result) => assert.equal((await result).status, 401, what);
    const sub = randomUUID();
    await refused("anon key", client({ api_url: b.api_url }, a.anon_key).from("airports").select());
    await refused("service key", client({ api_url: b.api_url }, a.service_role_key).from("airports").select());
    await refused("publishable key", client({ api_url: b.api_url }, a.publishable_key).from("airports").select());
    await refused("secret key", client({ api_url: b.api_url }, a.secret_key).from("airports").select());
    await refused("user token", userClient(b, userToken(a, sub)).from("airports").select());
    await refused("expired token", userClient(a, userToken(a, sub, { exp: 1000 })).from("airports").select());
    await refused("a token for the owner's role", userClient(a, userToken(a, sub, { role: "postgres" })).from("airports").select());
    await refused("a token for auth's role", userClient(a, userToken(a, sub, { role: "supabase_auth_admin" })).from("airports").select());
    await refused("nonsense", client(a, "sb_publishable_nonsense").from("airports").select());
    for (const key of [b.anon_key, b.service_role_key, b.publishable_key, b.secret_key]) {
      assert.notEqual((await client(b, key).from("airports").select()).status, 401);
    }
    const bare = await fetch(`${a.api_url}/rest/v1/airports`);
    assert.equal(bare.status, 401);
  });

  test("opaque keys work as the legacy ones do", async () => {
    assert.equal(ok(await client(a, a.publishable_key).from("airports").select().eq("iata", "LAX")).data.length, 1);
    assert.equal(ok(await client(a, a.secret_key).from("notes").select()).data.length, 3);
  });

  test("a rolled back insert leaves nothing, an aborted request an error", async () => {
    ok(await service.from("notes").insert({ body: "never", owner: randomUUID() }).rollback());
    assert.equal(ok(await service.from("notes").select().eq("body", "never")).data.length, 0);
    const abort = new AbortController();
    abort.abort();
    const { error } = await anon.from("airports").select().abortSignal(abort.signal);
    assert.ok(error);
  });
});
