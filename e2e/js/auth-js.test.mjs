// Every method of auth-js that the server has a part in, called as applications do.
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { before, describe, test } from "node:test";
import { createClient } from "@supabase/supabase-js";
import { Authenticator } from "./authenticator.mjs";
import { watch } from "./method-coverage.mjs";
import { client, createProject, ok, options, platform } from "./project.mjs";

// Methods that are not called here, and why.
const NOT_TESTED = {
  dispose: "ends the client's own timers",
  fetch: "a plain fetch",
  fetchJwk: "called by getClaims",
  isThrowOnErrorEnabled: "an option of the client",
  linkIdentityIdToken: "needs a provider",
  linkIdentityOAuth: "called by linkIdentity",
  logger: "writes to the console",
  registerPasskey: "needs a browser: passkeys.test.mjs",
  signInWithEthereum: "called by signInWithWeb3",
  signInWithPasskey: "needs a browser: passkeys.test.mjs",
  signInWithSolana: "called by signInWithWeb3",
  signInWithWeb3: "needs a wallet",
  startAutoRefresh: "timers of the client",
  stopAutoRefresh: "timers of the client",
};

const SITE = "https://app.example.org";
const settings = {
  site_url: SITE,
  uri_allow_list: `${SITE}/**`,
  external_anonymous_users_enabled: true,
  security_manual_linking_enabled: true,
  smtp_max_frequency: 0,
  rate_limit_email_sent: 10000,
  rate_limit_otp: 10000,
  rate_limit_verify: 10000,
  rate_limit_token_refresh: 100000,
  rate_limit_anonymous_users: 10000,
  passkey_enabled: true,
  hook_send_email_enabled: true,
  hook_send_email_uri: "pg-functions://postgres/public/catch_mail",
};

// The code of a secret in base32 now (RFC 6238).
function totp(secret) {
  const bits = [...secret].map((c) => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".indexOf(c).toString(2).padStart(5, "0")).join("");
  const key = Buffer.from(bits.match(/.{8}/g).map((byte) => parseInt(byte, 2)));
  const time = Buffer.alloc(8);
  time.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30000)));
  const mac = createHmac("sha1", key).update(time).digest();
  return String((mac.readUInt32BE(mac[19] & 15) & 0x7fffffff) % 1000000).padStart(6, "0");
}

let n = 0;
const address = (name) => `${name}${++n}@example.org`;
const PASSWORD = "correct horse battery";

describe("auth-js", () => {
  let project, admin, uncalled;
  const fresh = (more = {}) => createClient(project.api_url, project.anon_key, { ...options, auth: { ...options.auth, ...more } });

  // What the last mail to an address carries.
  const lastMail = async (email) => {
    const { data } = ok(await admin.from("mails").select("event").order("id", { ascending: false }).limit(50));
    const mail = data.find(({ event }) => event.user.email === email || event.user.new_email === email);
    assert.ok(mail, `no mail about ${email}`);
    return { ...mail.event.email_data, ...mail.event };
  };

  const signedIn = async (email = address("user"), more = {}) => {
    ok(await admin.auth.admin.createUser({ email, password: PASSWORD, email_confirm: true, ...more }));
    const user = fresh();
    ok(await user.auth.signInWithPassword({ email, password: PASSWORD }));
    return { user, email };
  };

  before(async () => {
    project = await createProject("auth", "auth.sql");
    await platform("PATCH", `/api/projects/${project.project_id}/settings`, { auth: settings });
    admin = client(project, project.service_role_key);
    const some = fresh();
    uncalled = watch([some.auth, some.auth.admin]);
  });

  test("sign-up, confirmation, sign-in, and rows of the user's own", async () => {
    const email = address("ann"), user = fresh();
    const made = ok(await user.auth.signUp({ email, password: PASSWORD, options: { data: { name: "Ann" } } })).data;
    assert.equal(made.session, null);
    assert.equal(made.user.identities.length, 1);
    const early = await user.auth.signInWithPassword({ email, password: PASSWORD });
    assert.equal(early.error.code, "email_not_confirmed");
    const mail = await lastMail(email);
    const verified = ok(await user.auth.verifyOtp({ email, token: mail.token, type: "signup" })).data;
    assert.equal(verified.user.email, email);
    ok(await user.auth.signInWithPassword({ email, password: PASSWORD }));
    assert.equal(ok(await admin.from("profiles").select("name").eq("id", verified.user.id).single()).data.name, "Ann");

    ok(await user.from("notes").insert({ text: "mine" }));
    const { user: other } = await signedIn();
    assert.deepEqual(ok(await other.from("notes").select()).data, []);
    assert.equal(ok(await user.from("notes").select()).data.length, 1);
    assert.equal(ok(await user.auth.getUser()).data.user.id, verified.user.id);
    const claims = ok(await user.auth.getClaims()).data.claims;
    assert.equal(claims.project_id, project.project_id);
    assert.equal(claims.iss, `${project.api_url}/auth/v1`);
    // An address that has an account looks like a new one.
    const again = ok(await fresh().auth.signUp({ email, password: PASSWORD })).data;
    assert.deepEqual(again.user.identities, []);
  });

  test("wrong credentials, weak passwords and other refusals have their codes", async () => {
    const { email } = await signedIn();
    const user = fresh();
    const code = ({ error }) => error?.code;
    assert.equal(code(await user.auth.signInWithPassword({ email, password: "wrong" })), "invalid_credentials");
    assert.equal(code(await user.auth.signInWithPassword({ email: "no@example.org", password: "x" })), "invalid_credentials");
    const weak = await user.auth.signUp({ email: address("weak"), password: "x" });
    assert.equal(weak.error.name, "AuthWeakPasswordError");
    assert.deepEqual(weak.error.reasons, ["length"]);
    assert.equal(code(await user.auth.signUp({ email: "nonsense", password: PASSWORD })), "validation_failed");
    assert.equal(code(await user.auth.verifyOtp({ email, token: "000000", type: "email" })), "otp_expired");
    assert.equal(code(await user.auth.refreshSession({ refresh_token: "abcdefghijkl" })), "refresh_token_not_found");
    assert.equal(code(await user.auth.signInWithOtp({ phone: "+4915112345" })), "phone_provider_disabled");
    assert.equal(code(await user.auth.signInWithSSO({ domain: "example.org" })), "saml_provider_disabled");
    assert.ok((await user.auth.getUser("not a token")).error);
  });

  test("sessions: refresh, set, sign out", async () => {
    const { user } = await signedIn();
    const events = [];
    const { data: { subscription } } = user.auth.onAuthStateChange((event) => events.push(event));
    const first = ok(await user.auth.getSession()).data.session;
    const second = ok(await user.auth.refreshSession()).data.session;
    assert.notEqual(first.refresh_token, second.refresh_token);
    const copy = fresh();
    ok(await copy.auth.initialize());
    ok(await copy.auth.setSession({ access_token: second.access_token, refresh_token: second.refresh_token }));
    assert.equal(ok(await copy.auth.getUser()).data.user.id, second.user.id);
    const { user: third } = await signedIn();
    ok(await third.auth.signOut({ scope: "others" }));
    ok(await third.auth.getUser());
    ok(await third.auth.signOut({ scope: "local" }));
    ok(await user.auth.signOut());
    assert.equal((await copy.auth.refreshSession()).error.code, "refresh_token_not_found");
    assert.ok(events.includes("TOKEN_REFRESHED") && events.includes("SIGNED_OUT"), events.join());
    subscription.unsubscribe();
  });

  test("users change what is theirs", async () => {
    const { user, email } = await signedIn();
    assert.equal(ok(await user.auth.updateUser({ data: { colour: "blue" } })).data.user.user_metadata.colour, "blue");
    ok(await user.auth.updateUser({ password: "another password" }));
    ok(await fresh().auth.signInWithPassword({ email, password: "another password" }));
    ok(await user.auth.reauthenticate());
    assert.equal((await lastMail(email)).email_action_type, "reauthentication");

    const next = address("next");
    ok(await user.auth.updateUser({ email: next }));
    ok(await user.auth.resend({ type: "email_change", email }));
    const { data } = ok(await admin.from("mails").select("event").order("id", { ascending: false }).limit(2));
    for (const { event } of data) {
      ok(await fresh().auth.verifyOtp({ token_hash: event.email_data.token_hash, type: "email_change" }));
    }
    assert.equal(ok(await user.auth.getUser()).data.user.email, next);
    const identities = ok(await user.auth.getUserIdentities()).data.identities;
    assert.deepEqual(identities.map(({ provider, identity_data }) => [provider, identity_data.email]), [["email", next]]);
  });

  test("mails that sign in: codes, links, recovery, resending", async () => {
    const user = fresh(), email = address("otp");
    ok(await user.auth.signInWithOtp({ email, options: { data: { name: "O" } } }));
    ok(await user.auth.resend({ type: "signup", email }));
    ok(await user.auth.verifyOtp({ email, token: (await lastMail(email)).token, type: "email" }));
    ok(await user.auth.signInWithOtp({ email }));
    ok(await fresh().auth.verifyOtp({ token_hash: (await lastMail(email)).token_hash, type: "magiclink" }));
    ok(await user.auth.resetPasswordForEmail(email, { redirectTo: `${SITE}/reset` }));
    const mail = await lastMail(email);
    assert.equal(mail.redirect_to, `${SITE}/reset`);
    const link = new URL(`${project.api_url}/auth/v1/verify`);
    link.search = new URLSearchParams({ token: mail.token_hash, type: "recovery", redirect_to: mail.redirect_to });
    const followed = await fetch(link, { redirect: "manual" });
    const location = new URL(followed.headers.get("location"));
    assert.equal(followed.status, 303);
    assert.equal(location.origin + location.pathname, `${SITE}/reset`);
    const session = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
    const recovered = fresh();
    ok(await recovered.auth.setSession({ access_token: session.access_token, refresh_token: session.refresh_token }));
    ok(await recovered.auth.updateUser({ password: PASSWORD }));
  });

  test("the flow with a verifier", async () => {
    const kept = new Map();
    const storage = { getItem: (k) => kept.get(k) ?? null, setItem: (k, v) => kept.set(k, v), removeItem: (k) => kept.delete(k) };
    const user = fresh({ flowType: "pkce", persistSession: true, storage });
    const email = address("pkce");
    ok(await user.auth.signUp({ email, password: PASSWORD, options: { emailRedirectTo: `${SITE}/in` } }));
    const mail = await lastMail(email);
    const link = `${project.api_url}/auth/v1/verify?token=${mail.token_hash}&type=signup&redirect_to=${SITE}/in`;
    const followed = await fetch(link, { redirect: "manual" });
    const code = new URL(followed.headers.get("location")).searchParams.get("code");
    const session = ok(await user.auth.exchangeCodeForSession(code)).data.session;
    assert.equal(session.user.email, email);
    assert.ok((await user.auth.exchangeCodeForSession(code)).error);
  });

  test("anonymous users become permanent", async () => {
    const user = fresh(), email = address("anon");
    const { data } = ok(await user.auth.signInAnonymously());
    assert.equal(data.user.is_anonymous, true);
    ok(await user.from("notes").insert({ text: "before there was an address" }));
    ok(await user.auth.updateUser({ email }));
    ok(await user.auth.verifyOtp({ email, token: (await lastMail(email)).token, type: "email_change" }));
    const { data: after } = ok(await user.auth.getUser());
    assert.deepEqual([after.user.is_anonymous, after.user.id], [false, data.user.id]);
    assert.equal(ok(await user.from("notes").select()).data.length, 1);
  });

  test("signing keys are published before they sign, and getClaims verifies with them", async () => {
    const keys = `/api/projects/${project.project_id}/signing-keys`;
    await platform("POST", keys);
    await platform("POST", `${keys}/rotate`);
    const { user } = await signedIn();
    const { data } = ok(await user.auth.getClaims());
    assert.equal(data.header.alg, "ES256");
    ok(await user.from("notes").insert({ text: "signed with a key pair" }));
  });

  test("second factors raise a session", async () => {
    const { user, email } = await signedIn();
    const factor = ok(await user.auth.mfa.enroll({ factorType: "totp", friendlyName: "phone" })).data;
    assert.match(factor.totp.qr_code, /^data:image\/svg\+xml/);
    assert.match(factor.totp.uri, /^otpauth:\/\/totp\//);
    const challenge = ok(await user.auth.mfa.challenge({ factorId: factor.id })).data;
    const wrong = await user.auth.mfa.verify({ factorId: factor.id, challengeId: challenge.id, code: "000000" });
    assert.equal(wrong.error.code, "mfa_verification_failed");
    ok(await user.auth.mfa.challengeAndVerify({ factorId: factor.id, code: totp(factor.totp.secret) }));
    const level = ok(await user.auth.mfa.getAuthenticatorAssuranceLevel()).data;
    assert.deepEqual([level.currentLevel, level.nextLevel], ["aal2", "aal2"]);
    assert.equal(ok(await user.auth.mfa.listFactors()).data.totp.length, 1);
    const plain = fresh();
    ok(await plain.auth.signInWithPassword({ email, password: PASSWORD }));
    assert.equal((await plain.auth.updateUser({ password: "another password" })).error.code, "insufficient_aal");
    const id = ok(await user.auth.getUser()).data.user.id;
    assert.equal(ok(await admin.auth.admin.mfa.listFactors({ userId: id })).data.factors.length, 1);
    ok(await user.auth.mfa.unenroll({ factorId: factor.id }));
    ok(await admin.auth.admin.mfa.listFactors({ userId: id }));
  });

  test("passkeys sign in by themselves", async () => {
    const experimental = { experimental: { passkey: true } };
    const email = address("key");
    ok(await admin.auth.admin.createUser({ email, password: PASSWORD, email_confirm: true }));
    const user = fresh(experimental);
    ok(await user.auth.signInWithPassword({ email, password: PASSWORD }));
    const authenticator = new Authenticator(SITE);
    const start = ok(await user.auth.passkey.startRegistration()).data;
    assert.equal(start.options.user.name, email);
    const credential = authenticator.create(start.options);
    const made = ok(await user.auth.passkey.verifyRegistration({ challengeId: start.challenge_id, credential })).data;
    assert.ok(made.id && made.created_at);
    const other = fresh(experimental);
    const asked = ok(await other.auth.passkey.startAuthentication()).data;
    const proof = authenticator.get(asked.options);
    const { session } = ok(await other.auth.passkey.verifyAuthentication({ challengeId: asked.challenge_id, credential: proof })).data;
    assert.equal(session.user.email, email);
    assert.equal(ok(await other.auth.getUser()).data.user.email, email);
    const replayed = await other.auth.passkey.verifyAuthentication({ challengeId: asked.challenge_id, credential: proof });
    assert.equal(replayed.error.code, "webauthn_challenge_not_found");
    const renamed = ok(await user.auth.passkey.update({ passkeyId: made.id, friendlyName: "laptop" })).data;
    assert.equal(renamed.friendly_name, "laptop");
    const listed = ok(await user.auth.passkey.list()).data;
    assert.deepEqual(listed.map(({ id, friendly_name }) => [id, friendly_name]), [[made.id, "laptop"]]);
    ok(await user.auth.passkey.delete({ passkeyId: made.id }));
    const again = ok(await user.auth.passkey.startRegistration()).data;
    const second = authenticator.create(again.options);
    const { id } = ok(await user.auth.passkey.verifyRegistration({ challengeId: again.challenge_id, credential: second })).data;
    const administrator = createClient(project.api_url, project.service_role_key, { ...options, auth: { ...options.auth, ...experimental } });
    const userId = session.user.id;
    assert.equal(ok(await administrator.auth.admin.passkey.listPasskeys({ userId })).data[0].id, id);
    ok(await administrator.auth.admin.passkey.deletePasskey({ userId, passkeyId: id }));
    assert.deepEqual(ok(await administrator.auth.admin.passkey.listPasskeys({ userId })).data, []);
  });

  test("providers that are not set up are refused, and the only identity stays", async () => {
    const { user } = await signedIn();
    const { data } = ok(await user.auth.signInWithOAuth({ provider: "github", options: { skipBrowserRedirect: true } }));
    const answer = await fetch(data.url, { redirect: "manual" });
    assert.equal(answer.status, 400, await answer.text());
    assert.ok((await user.auth.linkIdentity({ provider: "github", options: { skipBrowserRedirect: true } })).error);
    assert.ok((await user.auth.signInWithIdToken({ provider: "google", token: "a.b.c" })).error.code);
    const [identity] = ok(await user.auth.getUserIdentities()).data.identities;
    assert.equal((await user.auth.unlinkIdentity(identity)).error.code, "single_identity_not_deletable");
  });

  test("the admin API", async () => {
    const email = address("adm");
    const { data: { user } } = ok(
      await admin.auth.admin.createUser({ email, password: PASSWORD, user_metadata: { a: 1 }, app_metadata: { plan: "pro" } }),
    );
    assert.equal(user.app_metadata.plan, "pro");
    assert.equal(ok(await admin.auth.admin.getUserById(user.id)).data.user.email, email);
    const changed = ok(await admin.auth.admin.updateUserById(user.id, { email_confirm: true, ban_duration: "1h" })).data.user;
    assert.ok(changed.banned_until);
    assert.equal((await fresh().auth.signInWithPassword({ email, password: PASSWORD })).error.code, "user_banned");
    ok(await admin.auth.admin.updateUserById(user.id, { ban_duration: "none" }));
    const listed = ok(await admin.auth.admin.listUsers({ page: 1, perPage: 2 })).data;
    assert.equal(listed.users.length, 2);
    assert.ok(listed.total > 2 && listed.nextPage === 2 && listed.lastPage >= 2, JSON.stringify({ ...listed, users: 0 }));
    const invited = address("inv");
    ok(await admin.auth.admin.inviteUserByEmail(invited, { data: { team: 1 } }));
    ok(await fresh().auth.verifyOtp({ email: invited, token: (await lastMail(invited)).token, type: "invite" }));
    for (const type of ["magiclink", "recovery"]) {
      const { data } = ok(await admin.auth.admin.generateLink({ type, email, options: { redirectTo: `${SITE}/x` } }));
      assert.equal(data.properties.redirect_to, `${SITE}/x`);
      ok(await fresh().auth.verifyOtp({ token_hash: data.properties.hashed_token, type }));
    }
    assert.deepEqual(ok(await admin.auth.admin.mfa.listFactors({ userId: user.id })).data.factors, []);
    const one = fresh();
    const { session } = ok(await one.auth.signInWithPassword({ email, password: PASSWORD })).data;
    ok(await admin.auth.admin.signOut(session.access_token, "global"));
    assert.equal((await one.auth.refreshSession()).error.code, "refresh_token_not_found");
    ok(await admin.auth.admin.deleteUser(user.id));
    assert.equal((await admin.auth.admin.getUserById(user.id)).error.code, "user_not_found");
    assert.equal((await one.auth.admin.listUsers()).error.code, "not_admin");
  });

  test("every method was called", () => {
    assert.deepEqual(uncalled().filter((name) => !(name in NOT_TESTED) && !name.startsWith("_")), []);
  });
});
