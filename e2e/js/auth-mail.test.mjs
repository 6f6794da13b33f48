// Mails as they arrive at a real mail server: sign-up, recovery, a change of address and invitations, by link and by code.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { before, describe, test } from "node:test";
import { client, createProject, ok, platform } from "./project.mjs";

const MAILS = process.env.LAUNCHDB_MAILS;
const SITE = "https://app.example.org";
const PASSWORD = "correct horse battery";

const settings = {
  site_url: SITE,
  uri_allow_list: `${SITE}/**`,
  smtp_max_frequency: 0,
  rate_limit_email_sent: 1000,
  rate_limit_otp: 1000,
  rate_limit_verify: 1000,
  mailer_subjects_recovery: "Your way back",
  mailer_templates_recovery_content: '<p>{{ .Email }}: <a href="{{ .SiteURL }}/reset?hash={{ .TokenHash }}">go</a> or {{ .Token }}</p>',
};

const seen = new Set();

// The next mail to an address that was not read yet: its whole text, link and code.
async function mailTo(recipient) {
  for (let tries = 0; tries < 400; tries++) {
    for (const name of readdirSync(MAILS).filter((name) => name.endsWith(".eml") && !seen.has(name))) {
      const [to, ...rest] = readFileSync(join(MAILS, name), "utf8").split("\n");
      if (to !== recipient) continue;
      seen.add(name);
      const text = rest.join("\n");
      const link = text.match(/https?:\/\/\S+\/auth\/v1\/verify\?[^\s"<>)\]]+/)?.[0].replaceAll("&amp;", "&");
      return { text, link, code: text.match(/code:\s*(?:<strong>|\*+)?(\d{6})/)?.[1], subject: text.match(/^Subject: (.*)$/m)?.[1].trim() };
    }
    await sleep(50);
  }
  assert.fail(`no mail to ${recipient}`);
}

describe("mails", () => {
  let project;

  before(async () => {
    assert.ok(MAILS, "LAUNCHDB_MAILS must name the folder of the mail server");
    project = await createProject("mail", "auth.sql");
    await platform("PATCH", `/api/projects/${project.project_id}/settings`, { auth: settings });
  });

  const follow = async (link) => {
    const answer = await fetch(link, { redirect: "manual" });
    assert.equal(answer.status, 303);
    return new URL(answer.headers.get("location"));
  };

  test("a sign-up is confirmed by the link of its mail", async () => {
    const user = client(project, project.anon_key);
    ok(await user.auth.signUp({ email: "ann@mail.example", password: PASSWORD, options: { emailRedirectTo: `${SITE}/in` } }));
    const mail = await mailTo("ann@mail.example");
    assert.equal(mail.subject, "Confirm your email address");
    const location = await follow(mail.link);
    assert.equal(location.origin + location.pathname, `${SITE}/in`);
    assert.ok(new URLSearchParams(location.hash.slice(1)).get("access_token"));
    ok(await user.auth.signInWithPassword({ email: "ann@mail.example", password: PASSWORD }));
    // The link was good once.
    assert.match((await follow(mail.link)).hash, /otp_expired/);
  });

  test("a sign-up is confirmed by the code of its mail", async () => {
    const user = client(project, project.anon_key);
    ok(await user.auth.signUp({ email: "bob@mail.example", password: PASSWORD }));
    const { code } = await mailTo("bob@mail.example");
    ok(await user.auth.verifyOtp({ email: "bob@mail.example", token: code, type: "signup" }));
  });

  test("recovery, in the project's own words", async () => {
    const user = client(project, project.anon_key);
    ok(await user.auth.resetPasswordForEmail("ann@mail.example"));
    const mail = await mailTo("ann@mail.example");
    assert.equal(mail.subject, "Your way back");
    const hash = mail.text.match(/reset\?hash=([0-9a-z_]+)/)[1];
    ok(await user.auth.verifyOtp({ token_hash: hash, type: "recovery" }));
    ok(await user.auth.updateUser({ password: "a new password" }));
  });

  test("both addresses agree to a change", async () => {
    const user = client(project, project.anon_key);
    ok(await user.auth.signInWithPassword({ email: "bob@mail.example", password: PASSWORD }));
    ok(await user.auth.updateUser({ email: "bobby@mail.example" }));
    await follow((await mailTo("bobby@mail.example")).link);
    await follow((await mailTo("bob@mail.example")).link);
    assert.equal(ok(await user.auth.getUser()).data.user.email, "bobby@mail.example");
  });

  test("an invitation", async () => {
    const admin = client(project, project.service_role_key);
    ok(await admin.auth.admin.inviteUserByEmail("carl@mail.example"));
    const { link } = await mailTo("carl@mail.example");
    assert.ok(new URLSearchParams((await follow(link)).hash.slice(1)).get("access_token"));
  });
});
