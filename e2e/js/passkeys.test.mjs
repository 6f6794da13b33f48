// Passkeys and security keys where they are made: supabase-js in a page of a real browser, with an authenticator of its own.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { after, before, describe, test } from "node:test";
import { Browser } from "./browser.mjs";
import { client, createProject, ok, platform } from "./project.mjs";

const PASSWORD = "correct horse battery";

// What the page is: the client as a script tag brings it, and the steps of an application.
const PAGE = `<!doctype html><title>An application</title><script src="/supabase.js"></script><script>
  const plain = ({ data, error }) => ({ data, error: error && { name: error.name, message: error.message, code: error.code } });
  let current;
  function begin(url, key) {
    const auth = { persistSession: false, autoRefreshToken: false, experimental: { passkey: true } };
    current = supabase.createClient(url, key, { auth }).auth;
  }
  const signIn = async (email, password) => plain(await current.signInWithPassword({ email, password }));
  const registerPasskey = async () => plain(await current.registerPasskey());
  const signInWithPasskey = async () => plain(await current.signInWithPasskey());
  const listPasskeys = async () => plain(await current.passkey.list());
  const registerKey = async (friendlyName) => plain(await current.mfa.webauthn.register({ friendlyName }));
  const useKey = async (factorId) => plain(await current.mfa.webauthn.authenticate({ factorId }));
  const level = async () => plain(await current.mfa.getAuthenticatorAssuranceLevel());
  const listFactors = async () => plain(await current.mfa.listFactors());
  const whoAmI = async () => plain(await current.getUser());
</script>`;

describe("passkeys in a browser", () => {
  let site, project, admin, browser, page, authenticatorId;
  let n = 0;

  const makeUser = async () => {
    const email = `browser${++n}@example.org`;
    ok(await admin.auth.admin.createUser({ email, password: PASSWORD, email_confirm: true }));
    return email;
  };
  const done = async (name, ...args) => ok(await page.call(name, ...args)).data;
  const failed = async (name, ...args) => {
    const { data, error } = await page.call(name, ...args);
    assert.ok(error, `${name} succeeded: ${JSON.stringify(data)}`);
    return error;
  };
  const begin = () => page.evaluate(`begin(${JSON.stringify(project.api_url)}, ${JSON.stringify(project.anon_key)})`);

  before(async () => {
    const script = readFileSync(new URL("node_modules/@supabase/supabase-js/dist/umd/supabase.js", import.meta.url));
    site = createServer((request, response) => {
      const [type, body] = request.url === "/supabase.js" ? ["text/javascript", script] : ["text/html", PAGE];
      response.writeHead(200, { "content-type": type }).end(body);
    });
    await new Promise((resolve) => site.listen(0, "127.0.0.1", resolve));
    // Passkeys need a secure place, which this machine is under this name.
    const origin = `http://localhost:${site.address().port}`;
    project = await createProject("passkeys", "auth.sql");
    const settings = {
      site_url: origin,
      passkey_enabled: true,
      mfa_web_authn_enroll_enabled: true,
      mfa_web_authn_verify_enabled: true,
    };
    await platform("PATCH", `/api/projects/${project.project_id}/settings`, { auth: settings });
    admin = client(project, project.service_role_key);
    browser = await Browser.start();
    page = await browser.open(`${origin}/`);
  });

  after(async () => {
    await browser?.stop();
    site?.close();
  });

  test("a passkey is made, and signs its owner in without anything else", async () => {
    authenticatorId = await page.addAuthenticator();
    const email = await makeUser();
    await begin();
    await done("signIn", email, PASSWORD);
    const made = await done("registerPasskey");
    assert.ok(made.id);
    const { credentials } = await page.send("WebAuthn.getCredentials", { authenticatorId });
    assert.deepEqual(credentials.map(({ rpId, isResidentCredential }) => [rpId, isResidentCredential]), [["localhost", true]]);
    // The same device makes no second one.
    await failed("registerPasskey");
    assert.deepEqual((await done("listPasskeys")).map(({ id }) => id), [made.id]);

    for (let turn = 0; turn < 2; turn++) {
      await begin();
      const { session } = await done("signInWithPasskey");
      assert.equal(session.user.email, email);
      assert.equal((await done("whoAmI")).user.email, email);
    }
    // Somebody else at the device.
    await page.send("WebAuthn.setUserVerified", { authenticatorId, isUserVerified: false });
    await begin();
    await failed("signInWithPasskey");
    await page.send("WebAuthn.setUserVerified", { authenticatorId, isUserVerified: true });
    await page.send("WebAuthn.removeVirtualAuthenticator", { authenticatorId });
  });

  test("a passkey that was removed signs nobody in", async () => {
    authenticatorId = await page.addAuthenticator();
    const email = await makeUser();
    await begin();
    const { user } = await done("signIn", email, PASSWORD);
    const { id } = await done("registerPasskey");
    const administrator = client(project, project.service_role_key, { experimental: { passkey: true } });
    ok(await administrator.auth.admin.passkey.deletePasskey({ userId: user.id, passkeyId: id }));
    await begin();
    assert.equal((await failed("signInWithPasskey")).code, "webauthn_verification_failed");
    await page.send("WebAuthn.removeVirtualAuthenticator", { authenticatorId });
  });

  test("a security key is a second factor", async () => {
    const key = { transport: "usb", hasResidentKey: false, hasUserVerification: false, isUserVerified: false };
    authenticatorId = await page.addAuthenticator(key);
    const email = await makeUser();
    await begin();
    await done("signIn", email, PASSWORD);
    await done("registerKey", "my key");
    assert.equal((await done("level")).currentLevel, "aal2");
    const [factor] = (await done("listFactors")).webauthn;
    assert.deepEqual([factor.friendly_name, factor.status], ["my key", "verified"]);

    await begin();
    await done("signIn", email, PASSWORD);
    assert.deepEqual(await done("level").then(({ currentLevel, nextLevel }) => [currentLevel, nextLevel]), ["aal1", "aal2"]);
    await done("useKey", factor.id);
    assert.equal((await done("level")).currentLevel, "aal2");
    // Another key than the one that was registered.
    await page.send("WebAuthn.removeVirtualAuthenticator", { authenticatorId });
    authenticatorId = await page.addAuthenticator(key);
    await begin();
    await done("signIn", email, PASSWORD);
    await failed("useKey", factor.id);
    assert.equal((await done("level")).currentLevel, "aal1");
    await page.send("WebAuthn.removeVirtualAuthenticator", { authenticatorId });
  });
});
