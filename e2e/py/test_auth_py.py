"""Every method of supabase-py's auth that the server has a part in."""
import unittest, urllib.error, urllib.parse, urllib.request

from supabase import create_client
from supabase.lib.client_options import SyncClientOptions
from supabase_auth.errors import AuthApiError, AuthWeakPasswordError

from project import create_project, platform

# Methods that are not called here, and why.
NOT_TESTED = {
    "close": "ends the client's own connections",
    "initialize": "called by the client itself",
    "initialize_from_storage": "called by initialize",
    "initialize_from_url": "needs a browser",
    "link_identity": "needs a provider",
    "reset_password_email": "an older name of reset_password_for_email",
    "sign_in_with_id_token": "needs a provider",
    "sign_in_with_oauth": "needs a provider",
    "unlink_identity": "needs a provider",
}
PASSWORD = "correct horse battery"
SITE = "https://app.example.org"
SETTINGS = {
    "site_url": SITE,
    "uri_allow_list": f"{SITE}/**",
    "external_anonymous_users_enabled": True,
    "smtp_max_frequency": 0,
    "rate_limit_email_sent": 10000,
    "rate_limit_otp": 10000,
    "rate_limit_verify": 10000,
    "rate_limit_token_refresh": 100000,
    "hook_send_email_enabled": True,
    "hook_send_email_uri": "pg-functions://postgres/public/catch_mail",
}


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


class Auth(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.project = create_project("auth-py", "auth.sql")
        platform("PATCH", f"/api/projects/{cls.project['project_id']}/settings", {"auth": SETTINGS})
        cls.admin = create_client(cls.project["api_url"], cls.project["service_role_key"])
        cls.count, cls.called = 0, set()
        some = cls.fresh()
        cls.known = set()
        for api in (type(some.auth), type(some.auth.admin)):
            for name in [n for n in dir(api) if not n.startswith("_") and callable(getattr(api, n))]:
                cls.known.add(name)
                cls.wrap(api, name)

    @classmethod
    def wrap(cls, api, name):
        method = getattr(api, name)

        def noting(self, *args, **more):
            cls.called.add(name)
            return method(self, *args, **more)

        setattr(api, name, noting)

    @classmethod
    def tearDownClass(cls):
        missing = cls.known - cls.called - NOT_TESTED.keys()
        assert not missing, f"not called: {sorted(missing)}"

    @classmethod
    def fresh(cls, **more):
        options = SyncClientOptions(auto_refresh_token=False, persist_session=False, **more)
        return create_client(cls.project["api_url"], cls.project["anon_key"], options)

    def address(self, name):
        Auth.count += 1
        return f"{name}{Auth.count}@example.org"

    def last_mail(self, email):
        rows = self.admin.table("mails").select("event").order("id", desc=True).limit(50).execute().data
        event = next(r["event"] for r in rows if email in (r["event"]["user"].get("email"), r["event"]["user"].get("new_email")))
        return event["email_data"]

    def signed_in(self):
        email = self.address("user")
        self.admin.auth.admin.create_user({"email": email, "password": PASSWORD, "email_confirm": True})
        user = self.fresh()
        user.auth.sign_in_with_password({"email": email, "password": PASSWORD})
        return user, email

    def refused(self, code, call, *args):
        with self.assertRaises(AuthApiError) as raised:
            call(*args)
        self.assertEqual(raised.exception.code, code)

    def test_sign_up_and_rows_of_the_users_own(self):
        email, user = self.address("ann"), self.fresh()
        made = user.auth.sign_up({"email": email, "password": PASSWORD, "options": {"data": {"name": "Ann"}}})
        self.assertIsNone(made.session)
        self.refused("email_not_confirmed", user.auth.sign_in_with_password, {"email": email, "password": PASSWORD})
        user.auth.verify_otp({"email": email, "token": self.last_mail(email)["token"], "type": "signup"})
        user.auth.sign_in_with_password({"email": email, "password": PASSWORD})
        user.table("notes").insert({"text": "mine"}).execute()
        other, _ = self.signed_in()
        self.assertEqual(other.table("notes").select("*").execute().data, [])
        self.assertEqual(len(user.table("notes").select("*").execute().data), 1)
        self.assertEqual(user.auth.get_user().user.id, made.user.id)
        self.assertEqual(user.auth.get_claims()["claims"]["project_id"], self.project["project_id"])
        self.assertEqual(self.fresh().auth.sign_up({"email": email, "password": PASSWORD}).user.identities, [])

    def test_refusals_have_their_codes(self):
        user, email = self.signed_in()
        self.refused("invalid_credentials", user.auth.sign_in_with_password, {"email": email, "password": "wrong"})
        self.refused("refresh_token_not_found", user.auth.refresh_session, "abcdefghijkl")
        self.refused("saml_provider_disabled", user.auth.sign_in_with_sso, {"domain": "example.org"})
        with self.assertRaises(AuthWeakPasswordError) as raised:
            user.auth.sign_up({"email": self.address("weak"), "password": "x"})
        self.assertEqual(raised.exception.reasons, ["length"])

    def test_sessions(self):
        user, _ = self.signed_in()
        events = []
        subscription = user.auth.on_auth_state_change(lambda event, session: events.append(event))
        first = user.auth.get_session()
        second = user.auth.refresh_session().session
        self.assertNotEqual(first.refresh_token, second.refresh_token)
        copy = self.fresh()
        copy.auth.set_session(second.access_token, second.refresh_token)
        self.assertEqual(copy.auth.get_user().user.id, second.user.id)
        user.auth.sign_out()
        self.refused("refresh_token_not_found", copy.auth.refresh_session)
        self.assertIn("TOKEN_REFRESHED", events)
        subscription.unsubscribe()

    def test_changes(self):
        user, email = self.signed_in()
        self.assertEqual(user.auth.update_user({"data": {"colour": "blue"}}).user.user_metadata["colour"], "blue")
        user.auth.update_user({"password": "another password"})
        user.auth.reauthenticate()
        self.assertEqual(self.last_mail(email)["email_action_type"], "reauthentication")
        after = self.address("next")
        user.auth.update_user({"email": after})
        user.auth.resend({"type": "email_change", "email": email})
        rows = self.admin.table("mails").select("event").order("id", desc=True).limit(2).execute().data
        for row in rows:
            body = {"token_hash": row["event"]["email_data"]["token_hash"], "type": "email_change"}
            self.fresh().auth.verify_otp(body)
        self.assertEqual(user.auth.get_user().user.email, after)
        self.assertEqual([i.provider for i in user.auth.get_user_identities().identities], ["email"])

    def test_mails_that_sign_in(self):
        user, email = self.fresh(), self.address("otp")
        user.auth.sign_in_with_otp({"email": email})
        user.auth.verify_otp({"email": email, "token": self.last_mail(email)["token"], "type": "email"})
        user.auth.reset_password_for_email(email, {"redirect_to": f"{SITE}/reset"})
        mail = self.last_mail(email)
        recovered = self.fresh()
        recovered.auth.verify_otp({"token_hash": mail["token_hash"], "type": "recovery"})
        recovered.auth.update_user({"password": PASSWORD})
        self.fresh().auth.sign_in_with_password({"email": email, "password": PASSWORD})

    def test_the_flow_with_a_verifier(self):
        user, email = self.fresh(flow_type="pkce"), self.address("pkce")
        user.auth.sign_up({"email": email, "password": PASSWORD})
        query = urllib.parse.urlencode({"token": self.last_mail(email)["token_hash"], "type": "signup"})
        opener = urllib.request.build_opener(NoRedirect)
        with self.assertRaises(urllib.error.HTTPError) as raised:
            opener.open(f"{self.project['api_url']}/auth/v1/verify?{query}")
        location = raised.exception.headers["location"]
        raised.exception.close()
        code = urllib.parse.parse_qs(urllib.parse.urlparse(location).query)["code"][0]
        session = user.auth.exchange_code_for_session({"auth_code": code})
        self.assertEqual(session.user.email, email)

    def test_anonymous_users(self):
        user, email = self.fresh(), self.address("anon")
        made = user.auth.sign_in_anonymously()
        self.assertTrue(made.user.is_anonymous)
        user.auth.update_user({"email": email})
        user.auth.verify_otp({"email": email, "token": self.last_mail(email)["token"], "type": "email_change"})
        self.assertEqual(user.auth.get_user().user.id, made.user.id)

    def test_the_admin_api(self):
        admin, email = self.admin.auth.admin, self.address("adm")
        user = admin.create_user({"email": email, "password": PASSWORD, "app_metadata": {"plan": "pro"}}).user
        self.assertEqual(user.app_metadata["plan"], "pro")
        admin.update_user_by_id(user.id, {"email_confirm": True})
        self.assertEqual(admin.get_user_by_id(user.id).user.email, email)
        self.assertEqual(len(admin.list_users(page=1, per_page=2)), 2)
        admin.invite_user_by_email(self.address("inv"), {"data": {"team": 1}})
        link = admin.generate_link({"type": "magiclink", "email": email})
        self.fresh().auth.verify_otp({"token_hash": link.properties.hashed_token, "type": "magiclink"})
        one = self.fresh()
        session = one.auth.sign_in_with_password({"email": email, "password": PASSWORD}).session
        admin.sign_out(session.access_token)
        self.refused("refresh_token_not_found", one.auth.refresh_session)
        admin.delete_user(user.id)
        self.refused("user_not_found", admin.get_user_by_id, user.id)
        self.refused("not_admin", one.auth.admin.list_users)


if __name__ == "__main__":
    unittest.main()
