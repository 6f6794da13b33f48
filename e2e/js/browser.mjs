// A browser without a window, spoken to over the DevTools protocol as far as the tests need it.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import WebSocket from "ws";

const NAMES = ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome-stable", "google-chrome"];
const OPTIONS = [
  "--headless",
  // Only pages of the tests are opened, and few containers let a browser make sandboxes.
  "--no-sandbox",
  "--disable-dev-shm-usage",
  "--disable-gpu",
  "--disable-background-networking",
  "--disable-component-update",
  "--no-first-run",
  "--remote-debugging-port=0",
];

function program() {
  const folders = process.env.PATH.split(delimiter);
  const found = NAMES.flatMap((name) => folders.map((folder) => join(folder, name))).find(existsSync);
  assert.ok(found, `there is no browser (${NAMES.join(", ")}): run script/setup tests`);
  return found;
}

// The first line of output that fits, or an error with all of the output.
function lineOf(child, pattern) {
  return new Promise((resolve, reject) => {
    let output = "";
    const failed = (what) => reject(new Error(`the browser ${what}: ${output}`));
    const timer = setTimeout(() => failed("did not start in time"), 30_000);
    child.on("error", reject);
    child.on("exit", (code) => failed(`ended with ${code}`));
    child.stderr.on("data", (data) => {
      output = (output + data).slice(-10_000);
      const found = pattern.exec(output);
      if (found) {
        clearTimeout(timer);
        resolve(found[1]);
      }
    });
  });
}

export class Browser {
  static async start() {
    const browser = new Browser();
    browser.profile = mkdtempSync(join(tmpdir(), "launchdb-browser-"));
    // An authority of the tests' own is in no store that Chromium reads; the other tests check what it signs.
    const own = process.env.NODE_EXTRA_CA_CERTS ? ["--ignore-certificate-errors"] : [];
    const options = [...OPTIONS, ...own, `--user-data-dir=${browser.profile}`, "about:blank"];
    browser.child = spawn(program(), options, { stdio: ["ignore", "ignore", "pipe"] });
    const url = await lineOf(browser.child, /DevTools listening on (ws:\S+)/).catch((error) => {
      browser.child.kill("SIGKILL");
      throw error;
    });
    browser.socket = new WebSocket(url);
    browser.waiting = new Map();
    await new Promise((resolve, reject) => browser.socket.on("open", resolve).on("error", reject));
    browser.socket.on("message", (data) => {
      const { id, result, error } = JSON.parse(data);
      const waits = browser.waiting.get(id);
      browser.waiting.delete(id);
      if (waits) error ? waits.reject(new Error(`${waits.method}: ${error.message}`)) : waits.resolve(result);
    });
    return browser;
  }

  send(method, params = {}, sessionId = undefined) {
    const id = (this.last = (this.last ?? 0) + 1);
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { method, resolve, reject });
      this.socket.send(JSON.stringify({ id, method, params, sessionId }));
    });
  }

  // A page at an address, once it has loaded.
  async open(url) {
    const { targetId } = await this.send("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await this.send("Target.attachToTarget", { targetId, flatten: true });
    const page = new Page(this, sessionId);
    await page.send("Page.enable");
    await page.send("Page.navigate", { url });
    for (let tries = 0; tries < 300; tries++) {
      if (await page.evaluate(`document.readyState === "complete" && location.href !== "about:blank"`)) return page;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error(`${url} did not load`);
  }

  async stop() {
    const ended = new Promise((resolve) => this.child.on("exit", resolve));
    // It ends its own processes; one that does not is ended.
    this.send("Browser.close").catch(() => {});
    const late = setTimeout(() => this.child.kill("SIGKILL"), 10_000);
    if (this.child.exitCode === null && this.child.signalCode === null) await ended;
    clearTimeout(late);
    this.socket.terminate();
    this.child.stderr.destroy();
    rmSync(this.profile, { recursive: true, force: true, maxRetries: 5 });
  }
}

class Page {
  constructor(browser, sessionId) {
    Object.assign(this, { browser, sessionId });
  }

  send(method, params) {
    return this.browser.send(method, params, this.sessionId);
  }

  // The value of an expression, awaited, as JSON has it.
  async evaluate(expression) {
    const { result, exceptionDetails } = await this.send("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  }

  // Calls a function of the page with arguments.
  call(name, ...args) {
    return this.evaluate(`${name}(${args.map((arg) => JSON.stringify(arg)).join(", ")})`);
  }

  // An authenticator of the device itself, whose owner is there and agrees to everything; gives its id.
  async addAuthenticator(more = {}) {
    await this.send("WebAuthn.enable", { enableUI: false });
    const options = {
      protocol: "ctap2",
      transport: "internal",
      hasResidentKey: true,
      hasUserVerification: true,
      isUserVerified: true,
      automaticPresenceSimulation: true,
      ...more,
    };
    return (await this.send("WebAuthn.addVirtualAuthenticator", { options })).authenticatorId;
  }
}
