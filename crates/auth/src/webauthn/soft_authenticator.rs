//! An authenticator in software with the browser around it, for tests.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as B64URL;
use ciborium::Value as Cbor;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

pub(crate) struct SoftAuthenticator {
    key: EcdsaKeyPair,
    id: Vec<u8>,
    pub(crate) origin: String,
    pub(crate) count: u32,
    pub(crate) flags: u8,
    /// Whom the credential was made for.
    pub(crate) user_handle: Value,
}

impl SoftAuthenticator {
    pub(crate) fn new(origin: &str) -> Self {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
        Self {
            key: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref(), &random).unwrap(),
            id: base::random::bytes::<16>().to_vec(),
            origin: origin.to_owned(),
            count: 0,
            flags: 1,
            user_handle: Value::Null,
        }
    }

    fn client_data(&self, kind: &str, challenge: &Value) -> Vec<u8> {
        json!({"type": kind, "challenge": challenge, "origin": self.origin, "crossOrigin": false})
            .to_string()
            .into_bytes()
    }

    fn data(&mut self, rp: &str, flags: u8) -> Vec<u8> {
        self.count += 1;
        [base::digest::sha256(rp.as_bytes()).as_slice(), &[self.flags | flags], &self.count.to_be_bytes()].concat()
    }

    /// Answers `navigator.credentials.create`.
    pub(crate) fn create(&mut self, options: &Value) -> Value {
        let public = &options["publicKey"];
        self.user_handle = public["user"]["id"].clone();
        let (x, y) = self.key.public_key().as_ref()[1..].split_at(32);
        let (x, y) = (x.to_vec(), y.to_vec());
        let entry = |label: i64, value: Cbor| (Cbor::from(label), value);
        let key = Cbor::Map(vec![
            entry(1, 2.into()),
            entry(3, (-7).into()),
            entry(-1, 1.into()),
            entry(-2, Cbor::Bytes(x)),
            entry(-3, Cbor::Bytes(y)),
        ]);
        let mut data = self.data(public["rp"]["id"].as_str().unwrap(), 1 << 6);
        data.extend([0; 16]);
        data.extend(u16::try_from(self.id.len()).unwrap().to_be_bytes());
        data.extend(&self.id);
        ciborium::into_writer(&key, &mut data).unwrap();
        let attestation = Cbor::Map(vec![
            ("fmt".into(), "none".into()),
            ("attStmt".into(), Cbor::Map(Vec::new())),
            ("authData".into(), Cbor::Bytes(data)),
        ]);
        let mut object = Vec::new();
        ciborium::into_writer(&attestation, &mut object).unwrap();
        let client_data = self.client_data("webauthn.create", &public["challenge"]);
        json!({
            "id": B64URL.encode(&self.id), "rawId": B64URL.encode(&self.id), "type": "public-key",
            "response": {
                "clientDataJSON": B64URL.encode(client_data), "attestationObject": B64URL.encode(object), "transports": ["usb"],
            },
        })
    }

    /// Answers `navigator.credentials.get`.
    pub(crate) fn get(&mut self, options: &Value) -> Value {
        let public = &options["publicKey"];
        let data = self.data(public["rpId"].as_str().unwrap(), 0);
        let client_data = self.client_data("webauthn.get", &public["challenge"]);
        let message = [data.as_slice(), &base::digest::sha256(&client_data)].concat();
        let signature = self.key.sign(&SystemRandom::new(), &message).unwrap();
        json!({
            "id": B64URL.encode(&self.id), "rawId": B64URL.encode(&self.id), "type": "public-key",
            "response": {
                "clientDataJSON": B64URL.encode(client_data), "authenticatorData": B64URL.encode(data),
                "signature": B64URL.encode(signature), "userHandle": self.user_handle,
            },
        })
    }
}
