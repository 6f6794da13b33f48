// Every method of storage-js, and resumable uploads with tus-js-client; the last test fails when the client has a method
// that is not called here.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { Readable } from "node:stream";
import { before, describe, test } from "node:test";
import * as tus from "tus-js-client";
import { watch } from "./method-coverage.mjs";
import { client, createProject, ok } from "./project.mjs";

// Methods that are not called here, and why.
const NOT_TESTED = {
  // Parts of the platform that are not files: their buckets have types of their own.
  analytics: "analytics buckets are another service",
  vectors: "vector buckets are another service",
  // Of promises and of the base class.
  catch: "a promise's",
  finally: "a promise's",
  setHeader: "of the base class",
  throwOnError: "changes how errors come, not requests",
  applyTransformOptsToQuery: "image transformation has tests of its own",
};

describe("storage-js", () => {
  let project, admin, anon, files, uncalled;

  before(async () => {
    project = await createProject("storage", "storage.sql");
    admin = client(project, project.service_role_key);
    anon = client(project, project.anon_key);
    files = admin.storage.from("private");
    uncalled = watch([admin.storage, files, files.download("x"), files.download("x").asStream()]);
  });

  const content = async (blob) => Buffer.from(await blob.arrayBuffer()).toString();

  test("buckets", async () => {
    ok(await admin.storage.createBucket("private", { public: false }));
    ok(await admin.storage.createBucket("public", { public: true, fileSizeLimit: "1MB", allowedMimeTypes: ["image/*"] }));
    const again = await admin.storage.createBucket("public", { public: true });
    assert.equal(again.error.statusCode, "409");
    const bucket = ok(await admin.storage.getBucket("public")).data;
    assert.equal(bucket.file_size_limit, 1000000);
    assert.deepEqual(bucket.allowed_mime_types, ["image/*"]);
    assert.equal(ok(await admin.storage.updateBucket("public", { public: true, fileSizeLimit: null, allowedMimeTypes: null })).data.message, "Successfully updated");
    assert.deepEqual(ok(await admin.storage.listBuckets()).data.map((b) => b.id), ["private", "public"]);
    assert.deepEqual(ok(await admin.storage.listBuckets({ limit: 1, sortColumn: "name", sortOrder: "desc" })).data.map((b) => b.id), ["public"]);
    assert.deepEqual(ok(await anon.storage.listBuckets()).data, []);
    ok(await admin.storage.createBucket("gone"));
    ok(await admin.storage.from("gone").upload("a", "x"));
    assert.equal((await admin.storage.deleteBucket("gone")).error.statusCode, "409");
    ok(await admin.storage.emptyBucket("gone"));
    ok(await admin.storage.deleteBucket("gone"));
    assert.equal((await admin.storage.getBucket("gone")).error.message, "Bucket not found");
    ok(await admin.storage.purgeBucketCache("public"));
    ok(await admin.storage.from("public").purgeCache("x"));
  });

  test("upload in all forms, download, replace", async () => {
    const forms = {
      text: "plain text",
      buffer: Buffer.from("plain text"),
      blob: new Blob(["plain text"], { type: "text/css" }),
      array: new TextEncoder().encode("plain text").buffer,
      stream: Readable.toWeb(Readable.from([Buffer.from("plain "), Buffer.from("text")])),
    };
    for (const [name, body] of Object.entries(forms)) {
      const options = { contentType: "text/css", cacheControl: "60", metadata: { form: name }, duplex: "half" };
      const { data } = ok(await files.upload(`forms/${name}.css`, body, options));
      assert.equal(data.fullPath, `private/forms/${name}.css`);
      assert.equal(await content(ok(await files.download(data.path)).data), "plain text");
      const info = ok(await files.info(data.path)).data;
      assert.equal(info.id, data.id);
      assert.equal(info.size, 10);
      assert.equal(info.contentType, "text/css");
      assert.equal(info.cacheControl, "max-age=60");
      assert.deepEqual(info.metadata, { form: name });
    }
    const form = new FormData();
    form.append("", new Blob(["in a form"], { type: "text/plain" }), "name.txt");
    ok(await files.upload("forms/form.txt", form));
    assert.equal((await files.upload("forms/text.css", "again")).error.statusCode, "409");
    ok(await files.upload("forms/text.css", "again", { upsert: true }));
    ok(await files.update("forms/text.css", "once more"));
    assert.equal(await content(ok(await files.download("forms/text.css")).data), "once more");
    const stream = ok(await files.download("forms/text.css").asStream()).data;
    assert.equal(await new Response(stream).text(), "once more");
    assert.equal((await files.download("missing")).error.statusCode, "404");
    assert.equal(ok(await files.exists("forms/text.css")).data, true);
    assert.equal((await files.exists("missing")).data, false);
    assert.equal((await files.upload("../x", "x")).error !== null, true);
    assert.equal((await files.upload("ümlaut", "x")).error.statusCode, "400");
  });

  test("large files, by parts", async () => {
    const large = randomBytes(20_000_000);
    ok(await files.upload("large", large, { contentType: "application/octet-stream" }));
    const back = Buffer.from(await ok(await files.download("large")).data.arrayBuffer());
    assert.ok(back.equals(large));
    const url = ok(await files.createSignedUrl("large", 60)).data.signedUrl;
    const part = await fetch(url, { headers: { range: "bytes=1000000-1999999" } });
    assert.equal(part.status, 206);
    assert.ok(Buffer.from(await part.arrayBuffer()).equals(large.subarray(1_000_000, 2_000_000)));
  });

  test("list, move, copy, remove", async () => {
    for (const name of ["a.txt", "b.txt", "sub/c.txt"]) ok(await files.upload(`dir/${name}`, name));
    const names = (list) => list.map((entry) => entry.name);
    assert.deepEqual(names(ok(await files.list("dir")).data), ["a.txt", "b.txt", "sub"]);
    assert.deepEqual(names(ok(await files.list("dir", { limit: 1, offset: 1, sortBy: { column: "name", order: "desc" } })).data), ["b.txt"]);
    assert.deepEqual(names(ok(await files.list("dir", { search: "a" })).data), ["a.txt"]);
    const first = ok(await files.listV2({ prefix: "dir/", limit: 2, with_delimiter: true })).data;
    assert.equal(first.hasNext, true);
    const second = ok(await files.listV2({ prefix: "dir/", limit: 2, with_delimiter: true, cursor: first.nextCursor })).data;
    assert.deepEqual([...names(first.objects), ...names(second.folders)], ["dir/a.txt", "dir/b.txt", "dir/sub/"]);
    assert.equal(ok(await files.move("dir/a.txt", "dir/moved.txt")).data.message, "Successfully moved");
    assert.equal(ok(await files.copy("dir/moved.txt", "copied.txt", { destinationBucket: "public" })).data.path, "public/copied.txt");
    ok(await files.move("dir/b.txt", "b.txt", { destinationBucket: "public" }));
    assert.equal((await files.move("dir/b.txt", "x")).error.statusCode, "404");
    assert.deepEqual(names(ok(await files.remove(["dir/moved.txt", "dir/sub/c.txt", "missing"])).data).sort(), ["dir/moved.txt", "dir/sub/c.txt"]);
    assert.deepEqual(ok(await files.list("dir")).data, []);
  });

  test("public and signed links", async () => {
    const open = admin.storage.from("public");
    ok(await open.upload("logo.svg", new Blob(["<svg/>"], { type: "image/svg+xml" })));
    const link = open.getPublicUrl("logo.svg").data.publicUrl;
    const answer = await fetch(link);
    assert.equal(await answer.text(), "<svg/>");
    assert.equal(answer.headers.get("x-content-type-options"), "nosniff");
    assert.match(answer.headers.get("content-security-policy"), /sandbox/);
    const named = await fetch(open.getPublicUrl("logo.svg", { download: "grüße.svg" }).data.publicUrl);
    assert.equal(named.headers.get("content-disposition"), "attachment; filename=gr%C3%BC%C3%9Fe.svg; filename*=UTF-8''gr%C3%BC%C3%9Fe.svg");
    assert.equal((await fetch(files.getPublicUrl("forms/text.css").data.publicUrl)).status, 400);
    const signed = ok(await files.createSignedUrl("forms/text.css", 60, { download: true })).data.signedUrl;
    const read = await fetch(signed);
    assert.equal(await read.text(), "once more");
    assert.equal(read.headers.get("content-disposition"), "attachment;");
    assert.equal((await fetch(signed.replace("text.css", "blob.css"))).status, 400);
    const [one, two] = ok(await files.createSignedUrls(["forms/text.css", "missing"], 60)).data;
    assert.equal(await (await fetch(one.signedUrl)).text(), "once more");
    assert.equal(two.signedUrl, null);
    const { token, path } = ok(await files.createSignedUploadUrl("by-link.txt")).data;
    const stranger = anon.storage.from("private");
    assert.equal(ok(await stranger.uploadToSignedUrl(path, token, "by link")).data.fullPath, "private/by-link.txt");
    assert.equal((await stranger.uploadToSignedUrl("other.txt", token, "x")).error !== null, true);
    assert.equal(await content(ok(await files.download("by-link.txt")).data), "by link");
  });

  test("policies", async () => {
    assert.equal((await anon.storage.from("private").upload("x", "x")).error.statusCode, "403");
    assert.equal((await anon.storage.from("private").download("forms/text.css")).error !== null, true);
    assert.deepEqual(ok(await anon.storage.from("private").list("forms")).data, []);
    assert.deepEqual(ok(await anon.storage.from("private").remove(["forms/text.css"])).data, []);
    ok(await anon.storage.from("private").upload("drop/x", "dropped"));
    assert.equal((await anon.storage.from("private").download("drop/x")).error !== null, true, "add without read");
  });

  test("resumable uploads", async () => {
    const large = randomBytes(15_000_000);
    const upload = (key, options) =>
      new Promise((resolve, reject) => {
        const upload = new tus.Upload(large, {
          endpoint: `${project.api_url}/storage/v1/upload/resumable`,
          headers: { authorization: `Bearer ${project.service_role_key}`, apikey: project.service_role_key, "x-upsert": "true" },
          chunkSize: 6 * 1024 * 1024,
          metadata: { bucketName: "private", objectName: key, contentType: "application/octet-stream", cacheControl: "60" },
          onError: reject,
          onSuccess: () => resolve(upload),
          ...options,
        });
        upload.start();
      });
    const equal = async (key) => {
      const back = Buffer.from(await ok(await files.download(key)).data.arrayBuffer());
      assert.ok(back.equals(large), key);
    };
    await upload("tus/plain", {});
    await equal("tus/plain");
    await upload("tus/at-once", { uploadDataDuringCreation: true });
    await equal("tus/at-once");
    await upload("tus/later", { uploadLengthDeferred: true });
    await equal("tus/later");
    // Broken off after the first piece, and gone on with by another client.
    let broken;
    await new Promise((resolve) => {
      broken = new tus.Upload(large, {
        endpoint: `${project.api_url}/storage/v1/upload/resumable`,
        headers: { authorization: `Bearer ${project.service_role_key}`, apikey: project.service_role_key },
        chunkSize: 6 * 1024 * 1024,
        metadata: { bucketName: "private", objectName: "tus/broken" },
        onChunkComplete: () => broken.abort().then(resolve),
      });
      broken.start();
    });
    await upload("tus/broken", { uploadUrl: broken.url });
    await equal("tus/broken");
    // With a link, by somebody without any right.
    const { token } = ok(await files.createSignedUploadUrl("tus/by-link")).data;
    await upload("tus/by-link", {
      endpoint: `${project.api_url}/storage/v1/upload/resumable/sign`,
      headers: { "x-signature": token, apikey: project.anon_key },
    });
    await equal("tus/by-link");
    // Given up.
    const given = await upload("tus/plain", {});
    await assert.rejects(tus.Upload.terminate(given.url, { headers: { authorization: `Bearer ${project.service_role_key}`, apikey: project.service_role_key } }));
  });

  test("every method was called", () => {
    assert.deepEqual(uncalled().filter((name) => !(name in NOT_TESTED) && !name.startsWith("_")), []);
  });
});
