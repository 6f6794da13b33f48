// Projects for the tests, and clients for them.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { createClient } from "@supabase/supabase-js";
import WebSocket from "ws";

const { LAUNCHDB_URL, LAUNCHDB_TOKEN } = process.env;
assert.ok(LAUNCHDB_URL && LAUNCHDB_TOKEN, "LAUNCHDB_URL and LAUNCHDB_TOKEN must be set");

export async function platform(method, path, body) {
  const response = await fetch(LAUNCHDB_URL + path, {
    method,
    headers: { authorization: `Bearer ${LAUNCHDB_TOKEN}`, "content-type": "application/json" },
    body: body && JSON.stringify(body),
  });
  const text = await response.text();
  assert.ok(response.ok, `${method} ${path}: ${response.status} ${text}`);
  return text ? JSON.parse(text) : null;
}

// A project with the tables of a file beside this folder; `dataApi` are settings of its data API.
export async function createProject(name, schemaFile, dataApi) {
  const project = await platform("POST", "/api/projects", { name: `${name}-${randomUUID().slice(0, 8)}` });
  const connection = await platform("GET", `/api/projects/${project.id}/connection`);
  const query = readFileSync(new URL(`../${schemaFile}`, import.meta.url), "utf8");
  await platform("POST", `/api/projects/${project.id}/sql`, { query });
  if (dataApi) await platform("PATCH", `/api/projects/${project.id}/settings`, { data_api: dataApi });
  return connection;
}

// Node.js before 22 has no WebSocket of its own, and the client refuses to start without one.
export const options = {
  auth: { persistSession: false, autoRefreshToken: false },
  realtime: { transport: globalThis.WebSocket ?? WebSocket },
};
export const client = (project, key, more = {}) =>
  createClient(project.api_url, key, { ...options, auth: { ...options.auth, ...more } });

export const ok = ({ data, error, ...rest }) => {
  assert.equal(error, null, JSON.stringify(error));
  return { data, ...rest };
};
