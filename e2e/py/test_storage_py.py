"""Every method of supabase-py's storage, sync and async. The last test fails when there is one not called here."""
import asyncio, inspect, pathlib, tempfile, unittest, urllib.error, urllib.request

import storage3._async.bucket, storage3._async.file_api, storage3._sync.bucket, storage3._sync.file_api
from storage3.exceptions import StorageApiError
from supabase import create_async_client, create_client

from project import create_project

# Methods that are not called here, and why.
NOT_TESTED = {"analytics", "vectors"}


class Watch:
    """Notes which methods of some classes are called."""

    def __init__(self, *classes):
        self.known, self.called = set(), set()
        for owner in {base for c in classes for base in c.__mro__ if base.__module__.startswith("storage3.")}:
            for name, member in list(vars(owner).items()):
                if not name.startswith("_") and inspect.isfunction(member):
                    setattr(owner, name, self.noted(name, member))
                    self.known.add(name)

    def noted(self, name, function):
        def call(*args, **kwargs):
            self.called.add(name)
            return function(*args, **kwargs)

        return call


def get(url):
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.read()


async def settled(value):
    """The value of a call, sync or async."""
    return await value if inspect.isawaitable(value) else value


class Scenario:
    def check_refused(self, test, error, status):
        test.assertEqual(str(error.exception.status), status, error.exception)

    async def run(self, test, storage, kind):
        call = settled
        private, public = f"private-{kind}", f"public-{kind}"
        await call(storage.create_bucket(private))
        await call(storage.create_bucket(public, options={"public": True, "file_size_limit": 1000000, "allowed_mime_types": ["image/*", "text/*"]}))
        with test.assertRaises(StorageApiError) as refused:
            await call(storage.create_bucket(private))
        self.check_refused(test, refused, "409")
        bucket = await call(storage.get_bucket(public))
        test.assertEqual((bucket.public, bucket.file_size_limit, bucket.allowed_mime_types), (True, 1000000, ["image/*", "text/*"]))
        await call(storage.update_bucket(public, {"public": True, "file_size_limit": None}))
        ids = [b.id for b in await call(storage.list_buckets())]
        test.assertTrue({private, public} <= set(ids), ids)
        files = storage.from_(private)
        stored = await call(files.upload("dir/a.txt", b"hello", {"content-type": "text/css", "cache-control": "60", "metadata": {"x": 1}}))
        test.assertEqual(stored.full_path, f"{private}/dir/a.txt")
        with test.assertRaises(StorageApiError) as refused:
            await call(files.upload("dir/a.txt", b"again"))
        self.check_refused(test, refused, "409")
        await call(files.upload("dir/a.txt", b"upserted", {"upsert": "true"}))
        test.assertEqual(await call(files.download("dir/a.txt")), b"upserted")
        await call(files.update("dir/a.txt", b"updated"))
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "b.bin"
            path.write_bytes(b"from a file")
            await call(files.upload("dir/b.bin", path))
        info = await call(files.info("dir/a.txt"))
        test.assertEqual((info["name"], info["size"]), ("dir/a.txt", 7))
        test.assertTrue(await call(files.exists("dir/a.txt")))
        test.assertFalse(await call(files.exists("dir/missing")))
        test.assertEqual([e["name"] for e in await call(files.list("dir"))], ["a.txt", "b.bin"])
        page = await call(files.list_v2({"prefix": "dir/", "limit": 1}))
        test.assertTrue(page.hasNext)
        await call(files.copy("dir/a.txt", "dir/c.txt"))
        await call(files.move("dir/c.txt", "moved.txt"))
        test.assertEqual(await call(files.download("moved.txt")), b"updated")
        with test.assertRaises(StorageApiError) as refused:
            await call(files.move("missing", "x"))
        self.check_refused(test, refused, "404")
        signed = await call(files.create_signed_url("dir/a.txt", 60, {"download": "x.txt"}))
        test.assertEqual(get(signed["signedURL"]), b"updated")
        many = await call(files.create_signed_urls(["dir/a.txt", "missing"], 60))
        test.assertEqual(get(many[0]["signedURL"]), b"updated")
        test.assertTrue(many[1]["error"])
        link = await call(files.create_signed_upload_url("by-link.txt"))
        await call(files.upload_to_signed_url(link["path"], link["token"], b"by link", {"content-type": "text/plain"}))
        test.assertEqual(await call(files.download("by-link.txt")), b"by link")
        await call(storage.from_(public).upload("p.txt", b"public", {"content-type": "text/plain"}))
        url = await call(storage.from_(public).get_public_url("p.txt"))
        test.assertEqual(get(url.rstrip("?")), b"public")
        with test.assertRaises(urllib.error.HTTPError):
            get((await call(files.get_public_url("dir/a.txt"))).rstrip("?"))
        gone = await call(files.remove(["dir/a.txt", "missing"]))
        test.assertEqual([e["name"] for e in gone], ["dir/a.txt"])
        with test.assertRaises(StorageApiError) as refused:
            await call(storage.delete_bucket(private))
        self.check_refused(test, refused, "409")
        await call(storage.empty_bucket(private))
        await call(storage.delete_bucket(private))
        with test.assertRaises(StorageApiError) as refused:
            await call(storage.get_bucket(private))
        self.check_refused(test, refused, "404")


class StorageTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.project = create_project("storage-py", "storage.sql")

    def check_all_called(self, watch):
        self.assertEqual(sorted(watch.known - watch.called - NOT_TESTED), [])

    def test_sync(self):
        watch = Watch(storage3._sync.bucket.SyncStorageBucketAPI, storage3._sync.file_api.SyncBucketProxy)
        storage = create_client(self.project["api_url"], self.project["service_role_key"]).storage
        asyncio.run(Scenario().run(self, storage, "sync"))
        self.check_all_called(watch)

    def test_async(self):
        watch = Watch(storage3._async.bucket.AsyncStorageBucketAPI, storage3._async.file_api.AsyncBucketProxy)

        async def run():
            client = await create_async_client(self.project["api_url"], self.project["service_role_key"])
            await Scenario().run(self, client.storage, "async")

        asyncio.run(run())
        self.check_all_called(watch)


if __name__ == "__main__":
    unittest.main()
