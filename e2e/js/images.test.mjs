// Image transformation as storage-js asks for it: public, authenticated and signed.
import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { crc32, deflateSync } from "node:zlib";
import { client, createProject, ok } from "./project.mjs";

// A PNG of one colour.
function png(width, height) {
  const chunk = (name, data) => {
    const body = Buffer.concat([Buffer.from(name), data]);
    const frame = Buffer.alloc(8 + body.length);
    frame.writeUInt32BE(data.length, 0);
    body.copy(frame, 4);
    frame.writeUInt32BE(crc32(body), 4 + body.length);
    return frame;
  };
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 2, 0, 0, 0], 8);
  const rows = Buffer.alloc((width * 3 + 1) * height);
  return Buffer.concat([
    Buffer.from("\x89PNG\r\n\x1a\n", "latin1"),
    chunk("IHDR", header),
    chunk("IDAT", deflateSync(rows)),
    chunk("IEND", Buffer.alloc(0)),
  ]);
}

// Width and height of a PNG.
const size = (data) => [data.readUInt32BE(16), data.readUInt32BE(20)];

describe("image transformation", () => {
  let admin, files;

  before(async () => {
    const project = await createProject("images", "storage.sql");
    admin = client(project, project.service_role_key);
    ok(await admin.storage.createBucket("images", { public: true }));
    files = admin.storage.from("images");
    ok(await files.upload("a.png", png(400, 200), { contentType: "image/png" }));
  });

  const fetched = async (url, headers = { accept: "image/png" }) => {
    const answer = await fetch(url, { headers });
    return { status: answer.status, type: answer.headers.get("content-type"), data: Buffer.from(await answer.arrayBuffer()) };
  };

  test("a public image", async () => {
    const transform = { width: 100, height: 100, resize: "cover" };
    const { publicUrl } = files.getPublicUrl("a.png", { transform }).data;
    assert.match(publicUrl, /\/render\/image\/public\/images\/a\.png\?/);
    const seen = await fetched(publicUrl);
    assert.deepEqual([seen.status, seen.type, size(seen.data)], [200, "image/png", [100, 100]]);
    assert.equal((await fetched(publicUrl, { accept: "image/webp,*/*" })).type, "image/webp");
    const contained = files.getPublicUrl("a.png", { transform: { width: 100, height: 100, resize: "contain" } }).data;
    assert.deepEqual(size((await fetched(contained.publicUrl)).data), [100, 50]);
  });

  test("with a key", async () => {
    const blob = ok(await files.download("a.png", { transform: { width: 40, format: "origin" } })).data;
    assert.deepEqual(size(Buffer.from(await blob.arrayBuffer())), [40, 20]);
    const { error } = await files.download("a.png", { transform: { width: 0, quality: 5 } });
    assert.ok(error);
  });

  test("signed", async () => {
    const { signedUrl } = ok(await files.createSignedUrl("a.png", 60, { transform: { width: 200, quality: 50 } })).data;
    const seen = await fetched(signedUrl);
    assert.deepEqual([seen.status, size(seen.data)], [200, [200, 100]]);
    const original = await fetched(signedUrl.replace("/render/image/sign/", "/object/sign/"));
    assert.equal(original.status, 400, "the link is for the small one alone");
  });
});
