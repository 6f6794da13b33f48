//! A small OpenID provider on loopback: discovery, keys, authorization with PKCE, tokens and user info (OpenID Connect Core
//! 1.0, RFC 6749, RFC 7636). Whoever comes is signed in as the user that the test has set.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD as B64};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The client that the provider knows.
pub const CLIENT_ID: &str = "client-of-the-test";
pub const CLIENT_SECRET: &str = "a secret: with / odd & signs";

struct Grant {
    challenge: String,
    redirect_uri: String,
    nonce: Option<String>,
}

struct State {
    key: EcdsaKeyPair,
    kid: String,
    /// Claims of whoever signs in next.
    user: Value,
    /// Claims that replace those of ID tokens, for tests of what must be refused.
    forged: Value,
    codes: HashMap<String, Grant>,
    requests: Vec<String>,
}

/// The provider; it ends with the runtime of the test.
#[derive(Clone)]
pub struct OidcProvider {
    port: u16,
    state: Arc<Mutex<State>>,
}

fn new_key() -> EcdsaKeyPair {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).unwrap()
}

impl OidcProvider {
    /// Listens on a free port.
    ///
    /// # Panics
    /// When there is none.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = State {
            key: new_key(),
            kid: base::random::hex::<4>(),
            user: json!({"sub": "1", "email": "ann@example.org", "email_verified": true, "name": "Ann"}),
            forged: json!({}),
            codes: HashMap::new(),
            requests: Vec::new(),
        };
        let provider = Self { port, state: Arc::new(Mutex::new(state)) };
        let serving = provider.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        provider
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn issuer(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Who signs in from now on.
    pub fn set_user(&self, claims: Value) {
        self.state().user = claims;
    }

    /// Claims of ID tokens that are other than they should be.
    pub fn forge(&self, claims: Value) {
        self.state().forged = claims;
    }

    /// Signs with another key from now on, and publishes that one.
    pub fn rotate_key(&self) {
        let mut state = self.state();
        (state.key, state.kid) = (new_key(), base::random::hex::<4>());
    }

    /// Paths of the requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.state().requests.clone()
    }

    /// An ID token with these claims; issuer, audience and times are there already.
    pub fn id_token(&self, claims: Value) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let mut all = json!({"iss": self.issuer(), "aud": CLIENT_ID, "iat": now, "exp": now + 600});
        let state = self.state();
        for more in [&claims, &state.forged] {
            for (name, value) in more.as_object().unwrap() {
                all[name] = value.clone();
            }
        }
        let header = json!({"alg": "ES256", "kid": state.kid, "typ": "JWT"});
        let message = format!("{}.{}", B64.encode(header.to_string()), B64.encode(all.to_string()));
        let signature = state.key.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", B64.encode(signature))
    }

    /// What a browser does with the URL of an authorization request: signs in, and returns the URL it is sent back to.
    ///
    /// # Panics
    /// When the provider refuses.
    pub async fn visit(&self, url: &str) -> String {
        let path = url.strip_prefix(&self.issuer()).expect("a URL of this provider");
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let location = answer.lines().find_map(|line| line.strip_prefix("location: "));
        location.unwrap_or_else(|| panic!("no redirect: {answer}")).to_owned()
    }

    async fn serve(self, mut stream: TcpStream) {
        let Some((head, body)) = read_request(&mut stream).await else { return };
        let mut words = head.lines().next().unwrap_or_default().split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        self.state().requests.push(path.to_owned());
        let header = |name: &str| {
            head.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
        };
        let (status, headers, body) = match (method, path) {
            ("GET", "/.well-known/openid-configuration") => (200, String::new(), self.discovery()),
            ("GET", "/keys") => (200, String::new(), self.keys()),
            ("GET", "/authorize") => self.authorize(&pairs(query)),
            ("POST", "/token") => self.token(header("authorization"), &pairs(&body)),
            ("GET", "/userinfo") => match header("authorization").as_deref() {
                Some("Bearer access") => (200, String::new(), self.state().user.clone()),
                _ => (401, String::new(), json!({})),
            },
            _ => (404, String::new(), json!({})),
        };
        let body = body.to_string();
        let answer = format!(
            "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n{body}",
            body.len()
        );
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.shutdown().await;
    }

    fn discovery(&self) -> Value {
        let issuer = self.issuer();
        json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{issuer}/authorize"),
            "token_endpoint": format!("{issuer}/token"),
            "userinfo_endpoint": format!("{issuer}/userinfo"),
            "jwks_uri": format!("{issuer}/keys"),
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
            "code_challenge_methods_supported": ["S256"],
        })
    }

    fn keys(&self) -> Value {
        let state = self.state();
        let (x, y) = state.key.public_key().as_ref()[1..].split_at(32);
        let key = json!({
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": state.kid,
            "x": B64.encode(x), "y": B64.encode(y),
        });
        // A key that anybody knows must not verify anything.
        json!({"keys": [{"kty": "oct", "k": B64.encode("public"), "kid": "oct"}, key]})
    }

    fn authorize(&self, query: &HashMap<String, String>) -> (u16, String, Value) {
        let get = |name: &str| query.get(name).cloned().unwrap_or_default();
        let fits = get("client_id") == CLIENT_ID
            && get("response_type") == "code"
            && get("code_challenge_method") == "S256"
            && get("scope").split(' ').any(|scope| scope == "openid");
        if !fits {
            return (400, String::new(), json!({"error": "invalid_request"}));
        }
        let code = base::random::hex::<8>();
        let grant = Grant {
            challenge: get("code_challenge"),
            redirect_uri: get("redirect_uri"),
            nonce: query.get("nonce").cloned(),
        };
        self.state().codes.insert(code.clone(), grant);
        let location = format!("{}?code={code}&state={}", get("redirect_uri"), get("state"));
        (302, format!("location: {location}\r\n"), json!({}))
    }

    fn token(&self, authorization: Option<String>, form: &HashMap<String, String>) -> (u16, String, Value) {
        let refused = |error: &str| (400, String::new(), json!({"error": error}));
        let get = |name: &str| form.get(name).cloned().unwrap_or_default();
        let given = authorization.as_deref().and_then(|value| value.strip_prefix("Basic "));
        let given = given.and_then(|value| STANDARD.decode(value).ok()).unwrap_or_default();
        let given = String::from_utf8_lossy(&given).into_owned();
        let (id, secret) = given.split_once(':').unwrap_or_default();
        if decoded(id) != CLIENT_ID || decoded(secret) != CLIENT_SECRET {
            return (401, String::new(), json!({"error": "invalid_client"}));
        }
        let Some(grant) = self.state().codes.remove(&get("code")) else { return refused("invalid_grant") };
        let challenge = B64.encode(base::digest::sha256(get("code_verifier").as_bytes()));
        if get("redirect_uri") != grant.redirect_uri || challenge != grant.challenge {
            return refused("invalid_grant");
        }
        let mut claims = self.state().user.clone();
        if let Some(nonce) = grant.nonce {
            claims["nonce"] = nonce.into();
        }
        claims["at_hash"] = B64.encode(&base::digest::sha256(b"access")[..16]).into();
        let tokens = json!({
            "access_token": "access", "token_type": "Bearer", "expires_in": 600, "refresh_token": "refresh",
            "id_token": self.id_token(claims),
        });
        (200, String::new(), tokens)
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
            });
            if body.len() >= length.unwrap_or_default() {
                return Some((head.to_owned(), body.to_owned()));
            }
        }
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return None,
            Ok(n) => bytes.extend_from_slice(&chunk[..n]),
        }
    }
}

fn pairs(text: &str) -> HashMap<String, String> {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (decoded(name), decoded(value))).collect()
}

/// Of the form encoding.
fn decoded(text: &str) -> String {
    let bytes = text.replace('+', " ").into_bytes();
    let mut out = Vec::new();
    let mut i = 0;
    while i < bytes.len() {
        let hex = bytes.get(i + 1..i + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        match (bytes[i], hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                i += 3;
            }
            (byte, _) => {
                out.push(byte);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
