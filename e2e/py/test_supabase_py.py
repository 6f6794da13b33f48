"""supabase-py against two projects of one LaunchDB: real data in bulk, every kind of access, row level security."""
import base64, csv, hashlib, hmac, io, json, time, unittest, urllib.error, urllib.request, uuid

from postgrest.exceptions import APIError
from supabase import create_client
from supabase.lib.client_options import SyncClientOptions

from project import HERE, create_project

DATA = HERE.parent / "js/node_modules/vega-datasets/data"


def user_token(project, sub, **more):
    def part(value):
        return base64.urlsafe_b64encode(value).rstrip(b"=").decode()

    claims = {"aud": "authenticated", "role": "authenticated", "sub": sub, "exp": int(time.time()) + 600, **more}
    message = ".".join(part(json.dumps(x).encode()) for x in ({"alg": "HS256", "typ": "JWT"}, claims))
    return message + "." + part(hmac.new(project["jwt_secret"].encode(), message.encode(), hashlib.sha256).digest())


def client(project, key, bearer=None):
    made = create_client(project["api_url"], key, SyncClientOptions(auto_refresh_token=False, persist_session=False))
    if bearer:
        made.postgrest.auth(bearer)
    return made


class SupabasePy(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.a, cls.b = create_project("py-a", "schema.sql"), create_project("py-b", "schema.sql")
        cls.service, cls.anon = client(cls.a, cls.a["service_role_key"]), client(cls.a, cls.a["anon_key"])
        cls.airports = [{k: v or None for k, v in row.items()} for row in csv.DictReader(io.StringIO((DATA / "airports.csv").read_text()))]
        codes = {airport["iata"] for airport in cls.airports}
        flights = json.loads((DATA / "flights-2k.json").read_text())
        cls.flights = [f for f in flights if f["origin"] in codes and f["destination"] in codes]
        cls.service.table("airports").insert(cls.airports).execute()
        cls.service.table("flights").insert(cls.flights).execute()

    def refused(self, code, query):
        with self.assertRaises(APIError) as caught:
            query.execute()
        self.assertEqual(caught.exception.code, code)

    def test_filters_and_counts(self):
        result = self.anon.table("airports").select("iata", count="exact").eq("state", "CA").order("iata").limit(5).execute()
        expected = sorted(x["iata"] for x in self.airports if x["state"] == "CA")
        self.assertEqual(result.count, len(expected))
        self.assertEqual([row["iata"] for row in result.data], expected[:5])
        self.assertIsNone(self.anon.table("airports").select("*").eq("iata", "none").maybe_single().execute())
        self.refused("PGRST116", self.anon.table("airports").select("*").eq("state", "CA").single())

    def test_embeds(self):
        rows = self.anon.table("airports").select("iata, flights!origin(distance, to:airports!flights_destination_fkey(iata))").eq("iata", "JFK").execute().data
        expected = sorted(f["destination"] for f in self.flights if f["origin"] == "JFK")
        self.assertEqual(sorted(f["to"]["iata"] for f in rows[0]["flights"]), expected)

    def test_upsert_update_delete(self):
        row = {"iata": "YYY", "name": "New", "latitude": 1, "longitude": 2}
        self.service.table("airports").upsert(row).execute()
        self.assertEqual(self.service.table("airports").upsert({**row, "name": "Newer"}).execute().data[0]["name"], "Newer")
        self.assertEqual(len(self.service.table("airports").update({"city": "C"}).eq("iata", "YYY").execute().data), 1)
        self.assertEqual(self.service.table("airports").delete().eq("iata", "YYY").execute().data[0]["city"], "C")

    def test_rpc(self):
        rows = self.anon.rpc("busiest_airports", {"top": 1}).execute().data
        origins = [f["origin"] for f in self.flights]
        busiest = min(set(origins), key=lambda o: (-origins.count(o), o))
        self.assertEqual(rows, [{"iata": busiest, "departures": origins.count(busiest)}])

    def test_row_level_security(self):
        ann, ben = str(uuid.uuid4()), str(uuid.uuid4())
        of_ann = client(self.a, self.a["anon_key"], user_token(self.a, ann))
        of_ben = client(self.a, self.a["anon_key"], user_token(self.a, ben))
        of_ann.table("notes").insert({"body": "Ann's"}).execute()
        of_ben.rpc("add_note", {"body": "Ben's"}).execute()
        self.assertEqual(of_ann.table("notes").select("body").execute().data, [{"body": "Ann's"}])
        self.assertEqual(of_ben.table("notes").select("owner").execute().data, [{"owner": ben}])
        self.refused("42501", of_ben.table("notes").insert({"body": "forged", "owner": ann}))
        self.refused("42501", self.anon.table("hidden").select("*"))
        self.assertEqual(len(self.service.table("notes").select("*").execute().data), 2)

    def test_another_project_refuses_keys_and_tokens(self):
        for key in ("anon_key", "service_role_key", "publishable_key", "secret_key"):
            request = urllib.request.Request(self.b["api_url"] + "/rest/v1/airports", headers={"apikey": self.a[key]})
            with self.assertRaises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(request, timeout=30)
            self.assertEqual(caught.exception.code, 401, key)
            self.assertTrue({"code", "message"} <= json.loads(caught.exception.read()).keys())
        with self.assertRaises(APIError):
            client(self.b, self.b["anon_key"], user_token(self.a, str(uuid.uuid4()))).table("airports").select("*").execute()


if __name__ == "__main__":
    unittest.main()
