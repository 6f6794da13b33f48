// Every command of @aws-sdk/client-s3 that the server answers, with an access key and with a user's session token, and a few
// that it refuses. The SDK signs and encodes bodies as it does by default: in chunks, with a CRC behind them.
import assert from "node:assert/strict";
import { createHash, createHmac, randomBytes, randomUUID } from "node:crypto";
import { Readable } from "node:stream";
import { after, before, describe, test } from "node:test";
import * as s3 from "@aws-sdk/client-s3";
import { Upload } from "@aws-sdk/lib-storage";
import { getSignedUrl } from "@aws-sdk/s3-request-presigner";
import { createProject, platform } from "./project.mjs";

const MIB = 1024 * 1024;
const sha = (data) => createHash("sha256").update(data).digest("hex");

describe("client-s3", () => {
  let project, admin, user, other;

  const clients = [];
  // Commands that some test sent.
  const sent = new Set();
  const connect = (credentials, more) => {
    const client = new s3.S3Client({
      endpoint: `${project.storage_url}/s3`,
      region: "eu-central-1",
      forcePathStyle: true,
      credentials,
      maxAttempts: 1,
      ...more,
    });
    clients.push(client);
    client.middlewareStack.add((next, context) => (args) => {
      sent.add(context.commandName);
      return next(args);
    });
    return client;
  };
  // Connections that are kept open would keep the process.
  after(() => clients.forEach((client) => client.destroy()));

  // A token as the project's auth service makes it; its secret is not shown, so that the test makes users by SQL and signs
  // nothing itself: the service role key stands for an administrator's session, and policies for the users' rights.
  const session = (token) =>
    connect({ accessKeyId: project.project_id, secretAccessKey: project.anon_key, sessionToken: token });

  before(async () => {
    project = await createProject("s3", "storage.sql");
    const key = await platform("POST", `/api/projects/${project.project_id}/s3-keys`, { name: "e2e" });
    assert.equal(key.endpoint, `${project.storage_url}/s3`);
    admin = connect({ accessKeyId: key.access_key_id, secretAccessKey: key.secret_access_key });
    user = session(project.anon_key);
    other = session(project.service_role_key);
  });

  const refused = async (promise, name, status) => {
    const error = await promise.then(() => null, (error) => error);
    assert.ok(error, `${name} was expected`);
    assert.equal(error.name, name, error.message);
    if (status) assert.equal(error.$metadata.httpStatusCode, status);
  };
  const bytes = async (answer) => Buffer.from(await answer.Body.transformToByteArray());

  test("buckets", async () => {
    await admin.send(new s3.CreateBucketCommand({ Bucket: "private" }));
    await admin.send(new s3.CreateBucketCommand({ Bucket: "gone" }));
    await refused(admin.send(new s3.CreateBucketCommand({ Bucket: "private" })), "BucketAlreadyExists", 409);
    const list = await admin.send(new s3.ListBucketsCommand({}));
    assert.deepEqual(list.Buckets.map((b) => b.Name), ["gone", "private"]);
    assert.ok(list.Buckets[0].CreationDate instanceof Date);
    assert.equal((await admin.send(new s3.ListBucketsCommand({ MaxBuckets: 1 }))).ContinuationToken, "gone");
    await admin.send(new s3.HeadBucketCommand({ Bucket: "gone" }));
    await refused(admin.send(new s3.HeadBucketCommand({ Bucket: "none" })), "NotFound", 404);
    const location = await admin.send(new s3.GetBucketLocationCommand({ Bucket: "gone" }));
    assert.equal(location.LocationConstraint, undefined);
    assert.equal((await admin.send(new s3.GetBucketVersioningCommand({ Bucket: "gone" }))).Status, undefined);
    await admin.send(new s3.PutObjectCommand({ Bucket: "gone", Key: "a", Body: "x" }));
    await refused(admin.send(new s3.DeleteBucketCommand({ Bucket: "gone" })), "BucketNotEmpty", 409);
    await admin.send(new s3.DeleteObjectCommand({ Bucket: "gone", Key: "a" }));
    await admin.send(new s3.DeleteBucketCommand({ Bucket: "gone" }));
    const acl = await admin.send(new s3.GetBucketAclCommand({ Bucket: "private" }));
    assert.deepEqual([acl.Grants.length, acl.Grants[0].Permission], [1, "FULL_CONTROL"]);
    assert.equal(acl.Grants[0].Grantee.ID, acl.Owner.ID);
    for (const [Command, name] of [
      [s3.GetBucketCorsCommand, "NoSuchCORSConfiguration"],
      [s3.GetBucketPolicyCommand, "NoSuchBucketPolicy"],
      [s3.GetBucketPolicyStatusCommand, "NoSuchBucketPolicy"],
      [s3.GetBucketLifecycleConfigurationCommand, "NoSuchLifecycleConfiguration"],
      [s3.GetBucketWebsiteCommand, "NoSuchWebsiteConfiguration"],
      [s3.GetBucketTaggingCommand, "NoSuchTagSet"],
      [s3.GetBucketEncryptionCommand, "ServerSideEncryptionConfigurationNotFoundError"],
      [s3.GetBucketReplicationCommand, "ReplicationConfigurationNotFoundError"],
      [s3.GetObjectLockConfigurationCommand, "ObjectLockConfigurationNotFoundError"],
      [s3.GetPublicAccessBlockCommand, "NoSuchPublicAccessBlockConfiguration"],
      [s3.GetBucketOwnershipControlsCommand, "OwnershipControlsNotFoundError"],
    ]) {
      await refused(admin.send(new Command({ Bucket: "private" })), name, 404);
    }
    assert.equal((await admin.send(new s3.GetBucketLoggingCommand({ Bucket: "private" }))).LoggingEnabled, undefined);
    const events = await admin.send(new s3.GetBucketNotificationConfigurationCommand({ Bucket: "private" }));
    assert.equal(events.TopicConfigurations, undefined);
    assert.equal((await admin.send(new s3.GetBucketAccelerateConfigurationCommand({ Bucket: "private" }))).Status, undefined);
    assert.equal((await admin.send(new s3.GetBucketRequestPaymentCommand({ Bucket: "private" }))).Payer, "BucketOwner");
  });

  test("objects in every form of body and checksum", async () => {
    const body = randomBytes(3 * MIB + 17);
    const forms = {
      text: { Body: "plain text" },
      empty: { Body: "" },
      buffer: { Body: body },
      stream: { Body: Readable.from([body.subarray(0, MIB), body.subarray(MIB)]), ContentLength: body.length },
      md5: { Body: body, ContentMD5: createHash("md5").update(body).digest("base64") },
    };
    for (const algorithm of ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"]) {
      forms[algorithm] = { Body: body, ChecksumAlgorithm: algorithm };
    }
    for (const [name, form] of Object.entries(forms)) {
      const Key = `forms/${name} (1).bin`;
      const content = name === "stream" ? body : Buffer.from(form.Body);
      const put = await admin.send(new s3.PutObjectCommand({ Bucket: "private", Key, ...form }));
      assert.equal(put.ETag, `"${createHash("md5").update(content).digest("hex")}"`, name);
      const got = await admin.send(new s3.GetObjectCommand({ Bucket: "private", Key }));
      assert.equal(sha(await bytes(got)), sha(content), name);
      if (put.ChecksumCRC32C) assert.equal(name, "CRC32C");
    }
  });

  test("headers, ranges, conditions, metadata", async () => {
    const at = { Bucket: "private", Key: "headers.txt" };
    const put = await admin.send(
      new s3.PutObjectCommand({
        ...at,
        Body: "0123456789",
        ContentType: "text/css",
        CacheControl: "max-age=60",
        ContentEncoding: "br",
        ContentDisposition: 'attachment; filename="x.css"',
        ContentLanguage: "de, en",
        Expires: new Date("2065-10-21T07:28:00Z"),
        Metadata: { color: "red", "long-name": "x y" },
      }),
    );
    const head = await admin.send(new s3.HeadObjectCommand(at));
    assert.equal(head.ContentLength, 10);
    assert.equal(head.ContentType, "text/css");
    assert.equal(head.CacheControl, "max-age=60");
    assert.deepEqual(head.Metadata, { color: "red", "long-name": "x y" });
    assert.equal(head.ETag, put.ETag);
    assert.deepEqual(
      [head.ContentEncoding, head.ContentDisposition, head.ContentLanguage, head.ExpiresString],
      ["br", 'attachment; filename="x.css"', "de, en", "Wed, 21 Oct 2065 07:28:00 GMT"],
    );
    const attributes = await admin.send(
      new s3.GetObjectAttributesCommand({ ...at, ObjectAttributes: ["ETag", "ObjectSize", "StorageClass", "ObjectParts"] }),
    );
    assert.deepEqual(
      [attributes.ETag, attributes.ObjectSize, attributes.StorageClass, attributes.ObjectParts],
      [put.ETag.replaceAll('"', ""), 10, "STANDARD", undefined],
    );
    assert.ok(attributes.LastModified instanceof Date);
    assert.equal((await admin.send(new s3.GetObjectAclCommand(at))).Grants.length, 1);
    await refused(admin.send(new s3.GetObjectRetentionCommand(at)), "NoSuchObjectLockConfiguration", 404);
    await refused(admin.send(new s3.GetObjectLegalHoldCommand(at)), "NoSuchObjectLockConfiguration", 404);
    const part = await admin.send(new s3.GetObjectCommand({ ...at, Range: "bytes=2-4" }));
    assert.equal((await bytes(part)).toString(), "234");
    assert.equal(part.ContentRange, "bytes 2-4/10");
    await refused(admin.send(new s3.GetObjectCommand({ ...at, Range: "bytes=10-" })), "InvalidRange", 416);
    await refused(admin.send(new s3.GetObjectCommand({ ...at, IfMatch: '"x"' })), "PreconditionFailed", 412);
    // An answer without a body: the client has no name for it.
    await refused(admin.send(new s3.GetObjectCommand({ ...at, IfNoneMatch: put.ETag })), "Unknown", 304);
    await refused(admin.send(new s3.PutObjectCommand({ ...at, Body: "x", IfNoneMatch: "*" })), "PreconditionFailed", 412);
    await refused(admin.send(new s3.PutObjectCommand({ ...at, Body: "x", IfMatch: '"x"' })), "PreconditionFailed", 412);
    await refused(admin.send(new s3.PutObjectCommand({ ...at, Key: "none", Body: "x", IfMatch: "*" })), "NoSuchKey", 404);
    const same = { ...at, Key: "if-match.txt" };
    const first = await admin.send(new s3.PutObjectCommand({ ...same, Body: "1" }));
    await admin.send(new s3.PutObjectCommand({ ...same, Body: "2", IfMatch: first.ETag }));
    await refused(admin.send(new s3.DeleteObjectCommand({ ...same, IfMatch: first.ETag })), "PreconditionFailed", 412);
    await admin.send(new s3.DeleteObjectCommand({ ...same, IfMatch: "*" }));
    await refused(admin.send(new s3.PutObjectCommand({ ...at, Body: "x", Tagging: "a=b" })), "NotImplemented", 501);
    await refused(admin.send(new s3.PutObjectCommand({ ...at, Body: "x", ServerSideEncryption: "AES256" })), "NotImplemented", 501);
    await refused(admin.send(new s3.GetObjectCommand({ ...at, Key: "none" })), "NoSuchKey", 404);
    await refused(admin.send(new s3.HeadObjectCommand({ ...at, Key: "none" })), "NotFound", 404);
    await refused(admin.send(new s3.GetObjectCommand({ ...at, Bucket: "none" })), "NoSuchBucket", 404);
    const named = await admin.send(new s3.GetObjectCommand({ ...at, ResponseContentType: "text/x", ResponseCacheControl: "no-store" }));
    assert.deepEqual([named.ContentType, named.CacheControl], ["text/x", "no-store"]);
    await bytes(named);
    assert.deepEqual((await admin.send(new s3.GetObjectTaggingCommand(at))).TagSet, []);
  });

  test("copy and delete", async () => {
    const copy = { Bucket: "private", Key: "copy.txt", CopySource: "private/headers.txt" };
    const copied = await admin.send(new s3.CopyObjectCommand(copy));
    assert.match(copied.CopyObjectResult.ETag, /^"[0-9a-f]{32}"$/);
    assert.ok(copied.CopyObjectResult.LastModified instanceof Date);
    assert.equal((await admin.send(new s3.HeadObjectCommand({ Bucket: "private", Key: "copy.txt" }))).Metadata.color, "red");
    await admin.send(new s3.CopyObjectCommand({ ...copy, MetadataDirective: "REPLACE", Metadata: { a: "b" }, ContentType: "text/y" }));
    const head = await admin.send(new s3.HeadObjectCommand({ Bucket: "private", Key: "copy.txt" }));
    assert.deepEqual([head.Metadata, head.ContentType], [{ a: "b" }, "text/y"]);
    await refused(admin.send(new s3.CopyObjectCommand({ ...copy, CopySource: "private/none" })), "NoSuchKey", 404);
    await admin.send(new s3.DeleteObjectCommand({ Bucket: "private", Key: "copy.txt" }));
    await admin.send(new s3.DeleteObjectCommand({ Bucket: "private", Key: "copy.txt" }));
    const many = await admin.send(
      new s3.DeleteObjectsCommand({ Bucket: "private", Delete: { Objects: [{ Key: "forms/empty (1).bin" }, { Key: "none" }] } }),
    );
    assert.deepEqual(many.Deleted.map((entry) => entry.Key), ["forms/empty (1).bin", "none"]);
    assert.equal(many.Errors, undefined);
  });

  test("lists", async () => {
    await admin.send(new s3.CreateBucketCommand({ Bucket: "lists" }));
    const keys = Array.from({ length: 25 }, (_, i) => `folder/${i % 3}/file-${String(i).padStart(2, "0")} & co`);
    await Promise.all(keys.map((Key) => admin.send(new s3.PutObjectCommand({ Bucket: "lists", Key, Body: Key }))));
    await admin.send(new s3.PutObjectCommand({ Bucket: "lists", Key: "top", Body: "x" }));
    const folders = await admin.send(new s3.ListObjectsV2Command({ Bucket: "lists", Prefix: "folder/", Delimiter: "/" }));
    assert.deepEqual(folders.CommonPrefixes.map((p) => p.Prefix), ["folder/0/", "folder/1/", "folder/2/"]);
    assert.equal(folders.KeyCount, 3);
    const found = [];
    for await (const page of s3.paginateListObjectsV2({ client: admin, pageSize: 7 }, { Bucket: "lists", EncodingType: "url" })) {
      found.push(...page.Contents.map((object) => decodeURIComponent(object.Key)));
    }
    assert.deepEqual(found, [...keys, "top"].sort());
    const first = await admin.send(new s3.ListObjectsCommand({ Bucket: "lists", MaxKeys: 1, Delimiter: "/" }));
    assert.deepEqual([first.IsTruncated, first.NextMarker, first.CommonPrefixes[0].Prefix], [true, "folder/", "folder/"]);
    const second = await admin.send(new s3.ListObjectsCommand({ Bucket: "lists", Marker: first.NextMarker, Delimiter: "/" }));
    assert.deepEqual(second.Contents.map((object) => [object.Key, object.Size]), [["top", 1]]);
    const after = await admin.send(new s3.ListObjectsV2Command({ Bucket: "lists", StartAfter: "folder/2/file-23 & co" }));
    assert.deepEqual(after.Contents.map((object) => object.Key), ["top"]);
  });

  test("uploads in parts", async () => {
    const at = { Bucket: "private", Key: "parts.bin" };
    const body = randomBytes(11 * MIB);
    const { UploadId } = await admin.send(new s3.CreateMultipartUploadCommand({ ...at, ContentType: "text/z", Metadata: { m: "1" } }));
    const uploads = await admin.send(new s3.ListMultipartUploadsCommand({ Bucket: "private" }));
    assert.deepEqual(uploads.Uploads.map((upload) => [upload.Key, upload.UploadId]), [["parts.bin", UploadId]]);
    const one = await admin.send(new s3.UploadPartCommand({ ...at, UploadId, PartNumber: 1, Body: body.subarray(0, 6 * MIB) }));
    await admin.send(new s3.PutObjectCommand({ Bucket: "private", Key: "source.bin", Body: body.subarray(6 * MIB) }));
    const two = await admin.send(
      new s3.UploadPartCopyCommand({ ...at, UploadId, PartNumber: 2, CopySource: "private/source.bin", CopySourceRange: `bytes=0-${5 * MIB - 1}` }),
    );
    const listed = await admin.send(new s3.ListPartsCommand({ ...at, UploadId }));
    assert.deepEqual(listed.Parts.map((part) => [part.PartNumber, part.Size]), [[1, 6 * MIB], [2, 5 * MIB]]);
    const Parts = [{ PartNumber: 1, ETag: one.ETag }, { PartNumber: 2, ETag: two.CopyPartResult.ETag }];
    await refused(
      admin.send(new s3.CompleteMultipartUploadCommand({ ...at, UploadId, MultipartUpload: { Parts: [...Parts].reverse() } })),
      "InvalidPartOrder",
      400,
    );
    const done = await admin.send(new s3.CompleteMultipartUploadCommand({ ...at, UploadId, MultipartUpload: { Parts } }));
    assert.match(done.ETag, /-2"$/);
    const got = await admin.send(new s3.GetObjectCommand(at));
    assert.equal(sha(await bytes(got)), sha(body));
    assert.deepEqual([got.ContentType, got.Metadata, got.ETag], ["text/z", { m: "1" }, done.ETag]);
    const attributes = await admin.send(new s3.GetObjectAttributesCommand({ ...at, ObjectAttributes: ["ObjectParts"] }));
    assert.deepEqual(attributes.ObjectParts, { TotalPartsCount: 2 });

    const aborted = await admin.send(new s3.CreateMultipartUploadCommand({ ...at, Key: "aborted" }));
    const gone = { Bucket: "private", Key: "aborted", UploadId: aborted.UploadId };
    await admin.send(new s3.UploadPartCommand({ ...gone, PartNumber: 1, Body: "x" }));
    await admin.send(new s3.AbortMultipartUploadCommand(gone));
    await refused(admin.send(new s3.ListPartsCommand(gone)), "NoSuchUpload", 404);

    const upload = new Upload({ client: admin, params: { Bucket: "private", Key: "managed.bin", Body: Readable.from([body]) }, partSize: 5 * MIB });
    await upload.done();
    assert.equal(sha(await bytes(await admin.send(new s3.GetObjectCommand({ Bucket: "private", Key: "managed.bin" })))), sha(body));
  });

  test("signed links", async () => {
    const at = { Bucket: "private", Key: "link & more.txt" };
    const put = await getSignedUrl(admin, new s3.PutObjectCommand(at), { expiresIn: 60 });
    assert.equal((await fetch(put, { method: "PUT", body: "by a link" })).status, 200);
    const get = await getSignedUrl(admin, new s3.GetObjectCommand({ ...at, ResponseContentDisposition: "attachment" }), { expiresIn: 60 });
    const got = await fetch(get);
    assert.deepEqual([got.status, await got.text(), got.headers.get("content-disposition")], [200, "by a link", "attachment"]);
    const tampered = await fetch(get.replace("link", "lank"));
    assert.equal(tampered.status, 403);
    assert.match(await tampered.text(), /<Code>SignatureDoesNotMatch<\/Code>/);
  });

  test("session tokens give the rights of their role", async () => {
    // The anon key as a session: the one policy lets it drop files and read nothing.
    assert.deepEqual((await user.send(new s3.ListBucketsCommand({}))).Buckets ?? [], []);
    await refused(user.send(new s3.GetObjectCommand({ Bucket: "private", Key: "headers.txt" })), "NoSuchKey", 404);
    await refused(user.send(new s3.PutObjectCommand({ Bucket: "private", Key: "not here", Body: "x" })), "AccessDenied", 403);
    // What it cannot see is not there for it, which is no error to a deletion; and it stays.
    await user.send(new s3.DeleteObjectCommand({ Bucket: "private", Key: "headers.txt" }));
    await other.send(new s3.HeadObjectCommand({ Bucket: "private", Key: "headers.txt" }));
    const put = new s3.PutObjectCommand({ Bucket: "private", Key: "drop/a", Body: "x", IfNoneMatch: "*" });
    await user.send(put);
    assert.equal((await bytes(await other.send(new s3.GetObjectCommand({ Bucket: "private", Key: "drop/a" })))).toString(), "x");
    await refused(session("no.good.token").send(new s3.ListBucketsCommand({})), "InvalidToken", 400);
    const forged = ["eyJhbGciOiJIUzI1NiJ9", Buffer.from('{"role":"service_role"}').toString("base64url")].join(".");
    const signature = createHmac("sha256", "guessed").update(forged).digest("base64url");
    await refused(session(`${forged}.${signature}`).send(new s3.ListBucketsCommand({})), "InvalidToken", 400);
  });

  test("keys that are wrong, gone or off in time", async () => {
    const wrong = connect({ accessKeyId: project.project_id, secretAccessKey: "x" });
    await refused(wrong.send(new s3.ListBucketsCommand({})), "InvalidAccessKeyId", 403);
    const key = await platform("POST", `/api/projects/${project.project_id}/s3-keys`, { name: randomUUID() });
    const credentials = { accessKeyId: key.access_key_id, secretAccessKey: key.secret_access_key };
    const client = connect(credentials);
    await client.send(new s3.ListBucketsCommand({}));
    await refused(connect({ ...credentials, secretAccessKey: "x" }).send(new s3.ListBucketsCommand({})), "SignatureDoesNotMatch", 403);
    await refused(connect(credentials, { systemClockOffset: -3_600_000 }).send(new s3.ListBucketsCommand({})), "RequestTimeTooSkewed", 403);
    await platform("DELETE", `/api/projects/${project.project_id}/s3-keys/${key.id}`);
    await refused(client.send(new s3.ListBucketsCommand({})), "InvalidAccessKeyId", 403);
  });

  test("every other command of the client is refused by name", async () => {
    // They go to other hosts than the endpoint, or are S3's own variants of buckets.
    const elsewhere = ["WriteGetObjectResponse", "ListDirectoryBuckets"];
    const names = Object.keys(s3).filter((name) => name.endsWith("Command") && !name.startsWith("$"));
    const others = names.filter((name) => !sent.has(name) && !elsewhere.includes(name.slice(0, -"Command".length)));
    const before = await admin.send(new s3.ListObjectsV2Command({ Bucket: "private" }));
    const quiet = connect(await admin.config.credentials());
    for (const name of others) {
      const Command = s3[name];
      // Whatever is required; what a command does not know it leaves out.
      const input = {
        Bucket: "private", Key: "headers.txt", Id: "x", Body: "", UploadId: "x", PartNumber: 1, VersionId: "x",
        AccelerateConfiguration: {}, AccessControlPolicy: {}, AnalyticsConfiguration: {}, CORSConfiguration: { CORSRules: [] },
        BucketLoggingStatus: {}, LifecycleConfiguration: {}, InventoryConfiguration: {}, MetricsConfiguration: {},
        IntelligentTieringConfiguration: {}, NotificationConfiguration: {}, OwnershipControls: { Rules: [] }, Policy: "{}",
        PublicAccessBlockConfiguration: {}, ReplicationConfiguration: { Role: "x", Rules: [] }, RequestPaymentConfiguration: {},
        ServerSideEncryptionConfiguration: { Rules: [] }, Tagging: { TagSet: [] }, VersioningConfiguration: { Status: "Enabled" },
        WebsiteConfiguration: {}, LegalHold: {}, ObjectLockConfiguration: {}, Retention: {}, RestoreRequest: {},
        RenameSource: "/private/headers.txt", Expression: "x", ExpressionType: "SQL", InputSerialization: {}, OutputSerialization: {},
        MetadataTableConfiguration: {}, MetadataConfiguration: {}, InventoryTableConfiguration: {}, JournalTableConfiguration: {},
        AbacStatus: {}, ObjectEncryption: {},
      };
      const error = await quiet.send(new Command(input)).then(() => null, (error) => error);
      assert.ok(error, `${name} was taken for something else`);
      const status = error.$metadata?.httpStatusCode;
      assert.ok([404, 405, 501].includes(status) || error.name === "InvalidArgument", `${name}: ${status} ${error.name} ${error.message}`);
    }
    const after = await admin.send(new s3.ListObjectsV2Command({ Bucket: "private" }));
    assert.deepEqual(after.Contents.map((object) => [object.Key, object.ETag]), before.Contents.map((object) => [object.Key, object.ETag]));
  });
});
