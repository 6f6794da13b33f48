//! Ceremonies with an authenticator in software.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as B64URL;
use serde_json::Value;

use super::soft_authenticator::SoftAuthenticator;
use super::{Ceremony, Credential, Refused, RelyingParty, Response};

const ORIGIN: &str = "https://login.example.org";

fn party() -> RelyingParty {
    RelyingParty::named("example.org", &[ORIGIN.to_owned()]).unwrap()
}

fn response(value: Value) -> Response {
    serde_json::from_value(value).unwrap()
}

fn register(key: &mut SoftAuthenticator) -> Credential {
    let ceremony = Ceremony::new(party(), true);
    let options = ceremony.creation_options(b"user", "ann", &[], 300);
    ceremony.registered(&response(key.create(&options))).unwrap()
}

#[test]
fn a_credential_is_made_and_used() {
    let mut key = SoftAuthenticator::new(ORIGIN);
    let credential = register(&mut key);
    let stored = serde_json::to_value(&credential).unwrap();
    let credential: Credential = serde_json::from_value(stored).unwrap();
    let ceremony = Ceremony::new(party(), false);
    let options = ceremony.request_options(std::slice::from_ref(&credential), 300);
    let after = ceremony.authenticated(&credential, &response(key.get(&options))).unwrap();
    assert_eq!(after.authenticator.sign_count, 2);
    // One that stopped counting has been copied.
    key.count = 1;
    let copied = ceremony.authenticated(&after, &response(key.get(&options)));
    assert_eq!(copied.err(), Some(Refused("the authenticator may have been copied")));
}

#[test]
fn answers_to_something_else_are_refused() {
    let mut key = SoftAuthenticator::new(ORIGIN);
    let credential = register(&mut key);
    let ceremony = Ceremony::new(party(), false);
    let options = ceremony.request_options(&[], 300);
    let refused = |value: Value, what: &'static str| {
        assert_eq!(ceremony.authenticated(&credential, &response(value)).err(), Some(Refused(what)));
    };
    refused(key.get(&Ceremony::new(party(), false).request_options(&[], 300)), "the answer is to another challenge");
    let mut other_party = options.clone();
    other_party["publicKey"]["rpId"] = "evil.example".into();
    refused(key.get(&other_party), "the answer is for another relying party");
    key.origin = "https://evil.example".to_owned();
    refused(key.get(&options), "the answer is of another origin");
    key.origin = ORIGIN.to_owned();
    key.flags = 0;
    refused(key.get(&options), "nobody touched the authenticator");
    key.flags = 1;
    refused(SoftAuthenticator::new(ORIGIN).get(&options), "another credential answered");
    let mut forged = key.get(&options);
    forged["response"]["signature"] = SoftAuthenticator::new(ORIGIN).get(&options)["response"]["signature"].clone();
    refused(forged, "the signature is wrong");
    let mut cut = key.get(&options);
    cut["response"]["authenticatorData"] = B64URL.encode([0; 30]).into();
    refused(cut, "the authenticator's data cannot be read");
    let mut created = key.create(&Ceremony::new(party(), true).creation_options(b"u", "n", &[], 300));
    created["response"]["authenticatorData"] = "".into();
    refused(created, "the answer is to another kind of ceremony");
}

#[test]
fn relying_parties_are_secure_and_whole() {
    let check = |id: &str, origin: &str, good: bool| {
        assert_eq!(RelyingParty::named(id, &[origin.to_owned()]).is_ok(), good, "{id} {origin}");
    };
    check("example.org", "https://example.org", true);
    check("example.org", "https://a.b.example.org:8443", true);
    check("localhost", "http://localhost:3000", true);
    check("example.org", "http://example.org", false);
    check("example.org", "https://evilexample.org", false);
    check("example.org", "https://example.org/path", false);
    check("example.org", "https://example.org.evil.example", false);
    check("", "https://example.org", false);
    assert!(RelyingParty::named("example.org", &[]).is_err());
}
