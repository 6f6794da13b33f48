// An authenticator in software with the browser around it: what navigator.credentials gives, as JSON (WebAuthn level 3).
import { createHash, createSign, generateKeyPairSync, randomBytes } from "node:crypto";

const sha256 = (data) => createHash("sha256").update(data).digest();
const length = (major, n) =>
  n < 24 ? Buffer.from([(major << 5) | n]) : n < 256 ? Buffer.from([(major << 5) | 24, n]) : Buffer.from([(major << 5) | 25, n >> 8, n & 255]);

// As much of CBOR (RFC 8949) as a credential has in it.
function cbor(value) {
  if (typeof value === "number") return value < 0 ? length(1, -1 - value) : length(0, value);
  if (typeof value === "string") return Buffer.concat([length(3, Buffer.byteLength(value)), Buffer.from(value)]);
  if (Buffer.isBuffer(value)) return Buffer.concat([length(2, value.length), value]);
  const parts = [...value].flatMap(([key, item]) => [cbor(key), cbor(item)]);
  return Buffer.concat([length(5, value.size), ...parts]);
}

export class Authenticator {
  constructor(origin) {
    this.origin = origin;
    this.id = randomBytes(16);
    this.count = 0;
    this.keys = generateKeyPairSync("ec", { namedCurve: "P-256" });
  }

  clientData(type, challenge) {
    return Buffer.from(JSON.stringify({ type, challenge, origin: this.origin, crossOrigin: false }));
  }

  // Somebody is there (1), and it is the owner (4).
  data(site, flags) {
    const count = Buffer.alloc(4);
    count.writeUInt32BE(++this.count);
    return Buffer.concat([sha256(site), Buffer.from([5 | flags]), count]);
  }

  answer(response) {
    const id = this.id.toString("base64url");
    return { id, rawId: id, type: "public-key", clientExtensionResults: {}, response };
  }

  create(options) {
    this.handle = options.user.id;
    const { x, y } = this.keys.publicKey.export({ format: "jwk" });
    const key = new Map([[1, 2], [3, -7], [-1, 1], [-2, Buffer.from(x, "base64url")], [-3, Buffer.from(y, "base64url")]]);
    const head = Buffer.concat([this.data(options.rp.id, 64), Buffer.alloc(16), Buffer.from([0, this.id.length]), this.id]);
    const object = new Map([["fmt", "none"], ["attStmt", new Map()], ["authData", Buffer.concat([head, cbor(key)])]]);
    return this.answer({
      clientDataJSON: this.clientData("webauthn.create", options.challenge).toString("base64url"),
      attestationObject: cbor(object).toString("base64url"),
      transports: ["internal"],
    });
  }

  get(options) {
    const data = this.data(options.rpId, 0);
    const clientData = this.clientData("webauthn.get", options.challenge);
    const signature = createSign("sha256").update(Buffer.concat([data, sha256(clientData)])).sign(this.keys.privateKey);
    return this.answer({
      clientDataJSON: clientData.toString("base64url"),
      authenticatorData: data.toString("base64url"),
      signature: signature.toString("base64url"),
      userHandle: this.handle,
    });
  }
}
