//! What providers say of a user, in the form that GoTrue gives to identities.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::plain::{Plain, Verified};
use super::{Protocol, Provider};

/// A user as a provider knows them.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(crate) struct Profile {
    /// The user's id at the provider; it never changes.
    pub(crate) id: String,
    /// In lower case.
    pub(crate) email: Option<String>,
    /// Whether the provider says that the address is theirs.
    pub(crate) email_verified: bool,
    /// `identity_data` of the identity.
    pub(crate) data: Map<String, Value>,
}

/// A tenant of Microsoft's that holds personal accounts: their addresses were confirmed.
const PERSONAL_ACCOUNTS: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";

/// Booleans that some providers write as texts or numbers.
fn truth(value: Option<&Value>) -> bool {
    match value {
        Some(Value::Bool(flag)) => *flag,
        Some(Value::String(text)) => text.eq_ignore_ascii_case("true") || text == "1",
        Some(Value::Number(number)) => number.as_i64() == Some(1),
        _ => false,
    }
}

/// Ids are texts or numbers.
fn id_text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Longest value that is taken over into an identity, in bytes.
const LONGEST: usize = 2048;

impl Profile {
    fn new(
        issuer: &str,
        id: String,
        email: Option<&str>,
        email_verified: bool,
        more: &[(&str, Option<&Value>)],
    ) -> Self {
        let email = email.and_then(|email| crate::contact::email(Some(email)).ok());
        let email_verified = email_verified && email.is_some();
        let mut data = Map::new();
        for (name, value) in more {
            if let Some(Value::String(text)) = value
                && !text.is_empty()
                && text.len() <= LONGEST
                && !text.contains('\0')
            {
                data.insert((*name).to_owned(), text.as_str().into());
            }
        }
        data.insert("iss".to_owned(), issuer.into());
        data.insert("sub".to_owned(), id.as_str().into());
        data.insert("provider_id".to_owned(), id.as_str().into());
        data.insert("email_verified".to_owned(), email_verified.into());
        data.insert("phone_verified".to_owned(), false.into());
        if let Some(email) = &email {
            data.insert("email".to_owned(), email.as_str().into());
        }
        Self { id, email, email_verified, data }
    }

    /// From the claims of a checked ID token, and of the answer of the user info endpoint.
    pub(crate) fn of_claims(provider: &Provider, claims: &Map<String, Value>) -> Option<Self> {
        let id = id_text(claims.get("sub"))?;
        let issuer = claims.get("iss").and_then(Value::as_str).unwrap_or(&provider.base);
        let email = claims.get("email").and_then(Value::as_str);
        let verified = match provider.name {
            "azure" => azure_owns_domain(provider, claims),
            _ => truth(claims.get("email_verified")),
        };
        let (name, picture) = (claims.get("name"), claims.get("picture"));
        let more = [
            ("name", name),
            ("full_name", name),
            ("picture", picture),
            ("avatar_url", picture),
            ("given_name", claims.get("given_name")),
            ("family_name", claims.get("family_name")),
            ("preferred_username", claims.get("preferred_username")),
            ("nickname", claims.get("nickname")),
            ("locale", claims.get("locale")),
        ];
        let mut profile = Self::new(issuer, id, email, verified, &more);
        let custom: Map<String, Value> = ["hd", "tid"]
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), claims.get(name).filter(|value| value.is_string())?.clone())))
            .collect();
        if !custom.is_empty() {
            profile.data.insert("custom_claims".to_owned(), Value::Object(custom));
        }
        Some(profile)
    }

    /// From the answers of a provider's own API: the user, and their addresses where those are apart.
    pub(crate) fn of_api(provider: &Provider, user: &Value, emails: &Value) -> Option<Self> {
        let id = id_text(user.get("id"))?;
        match provider.protocol {
            Protocol::OpenId | Protocol::Plain(_) => None,
            Protocol::GitHub => {
                let all = emails.as_array().map(Vec::as_slice).unwrap_or_default();
                let chosen = all.iter().find(|entry| truth(entry.get("primary")));
                let email = chosen.and_then(|entry| entry["email"].as_str());
                let verified = chosen.is_some_and(|entry| truth(entry.get("verified")));
                let more = [
                    ("name", user.get("name")),
                    ("full_name", user.get("name")),
                    ("avatar_url", user.get("avatar_url")),
                    ("user_name", user.get("login")),
                    ("preferred_username", user.get("login")),
                ];
                let issuer =
                    if provider.base == "https://github.com" { "https://api.github.com" } else { &provider.base };
                Some(Self::new(issuer, id, email, verified, &more))
            }
            Protocol::GitLab => {
                let more = [
                    ("name", user.get("name")),
                    ("full_name", user.get("name")),
                    ("avatar_url", user.get("avatar_url")),
                    ("picture", user.get("avatar_url")),
                    ("user_name", user.get("username")),
                    ("preferred_username", user.get("username")),
                ];
                // GitLab says when the present address was confirmed.
                let confirmed = user.get("confirmed_at").is_some_and(Value::is_string);
                Some(Self::new(&provider.base, id, user["email"].as_str(), confirmed, &more))
            }
            Protocol::Discord => {
                let avatar = user["avatar"].as_str().map(|hash| {
                    let kind = if hash.starts_with("a_") { "gif" } else { "png" };
                    json!(format!("https://cdn.discordapp.com/avatars/{id}/{hash}.{kind}"))
                });
                let name = user.get("global_name").filter(|name| name.is_string()).or(user.get("username"));
                let more = [
                    ("name", user.get("username")),
                    ("full_name", name),
                    ("avatar_url", avatar.as_ref()),
                    ("picture", avatar.as_ref()),
                    ("user_name", user.get("username")),
                ];
                let verified = truth(user.get("verified"));
                Some(Self::new(&format!("{}/api", provider.base), id, user["email"].as_str(), verified, &more))
            }
        }
    }

    /// From the answer of a provider that is a row of data.
    pub(super) fn of_plain(plain: &Plain, issuer: &str, user: &Value, emails: &Value) -> Option<Self> {
        let fields = plain.fields;
        let at = |pointer: &str| if pointer.is_empty() { None } else { user.pointer(pointer) };
        let id = id_text(at(fields.id))?;
        let (email, verified) = match plain.emails {
            None => {
                let verified = match fields.verified {
                    Verified::Never => false,
                    Verified::Always => true,
                    Verified::When(all) => all.iter().all(|pointer| truth(at(pointer))),
                };
                (at(fields.email).and_then(Value::as_str), verified)
            }
            Some((_, names)) => {
                let all = emails.pointer(names.list).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
                let chosen = all.iter().find(|entry| truth(entry.get(names.primary)));
                let email = chosen.and_then(|entry| entry[names.email].as_str());
                (email, chosen.is_some_and(|entry| truth(entry.get(names.verified))))
            }
        };
        let parts: Vec<&str> = fields.name.iter().filter_map(|pointer| at(pointer)?.as_str()).collect();
        let name = Value::from(parts.join(" ").trim());
        let (user_name, picture) = (at(fields.user_name), at(fields.picture));
        let more = [
            ("name", Some(&name)),
            ("full_name", Some(&name)),
            ("user_name", user_name),
            ("preferred_username", user_name),
            ("picture", picture),
            ("avatar_url", picture),
        ];
        Some(Self::new(issuer, id, email, verified, &more))
    }

    /// The name that Apple sends once, beside the token.
    pub(crate) fn add_name(&mut self, name: &str) {
        let name: String = name.chars().filter(|c| !c.is_control()).take(200).collect();
        let name = name.trim();
        if !name.is_empty() {
            for key in ["name", "full_name"] {
                self.data.entry(key).or_insert_with(|| name.into());
            }
        }
    }
}

/// Whoever administers a tenant writes what addresses they like. They count as verified when Microsoft says that the tenant
/// owns the domain, for personal accounts, and where the project trusts one tenant only.
fn azure_owns_domain(provider: &Provider, claims: &Map<String, Value>) -> bool {
    let tenant = claims.get("tid").and_then(Value::as_str).unwrap_or_default();
    let configured = provider.base.rsplit('/').next().unwrap_or_default();
    truth(claims.get("xms_edov")) || !tenant.is_empty() && (tenant == PERSONAL_ACCOUNTS || tenant == configured)
}

#[cfg(test)]
mod tests {
    use base::auth_settings::ProviderSettings;

    use super::*;

    fn provider(name: &'static str, protocol: Protocol, base: &str) -> Provider {
        Provider { name, protocol, base: base.to_owned(), scopes: "", settings: ProviderSettings::default() }
    }

    fn check(profile: Option<Profile>, id: &str, email: Option<&str>, verified: bool) -> Map<String, Value> {
        let profile = profile.unwrap();
        assert_eq!((profile.id.as_str(), profile.email.as_deref(), profile.email_verified), (id, email, verified));
        assert_eq!(profile.data["email_verified"], verified);
        profile.data
    }

    #[test]
    fn addresses_count_as_verified_only_when_the_provider_says_so() {
        let google = provider("google", Protocol::OpenId, "https://accounts.google.com");
        let claims = |value: Value| value.as_object().cloned().unwrap();
        let of = |value: Value| Profile::of_claims(&google, &claims(value));
        let data = check(
            of(
                json!({"sub": "1", "email": "Ann@Example.org", "email_verified": true, "name": "Ann", "picture": "p", "hd": "x"}),
            ),
            "1",
            Some("ann@example.org"),
            true,
        );
        assert_eq!(
            (&data["full_name"], &data["avatar_url"], &data["custom_claims"]["hd"]),
            (&json!("Ann"), &json!("p"), &json!("x"))
        );
        check(of(json!({"sub": "1", "email": "a@b.cd", "email_verified": "true"})), "1", Some("a@b.cd"), true);
        check(of(json!({"sub": "1", "email": "a@b.cd"})), "1", Some("a@b.cd"), false);
        check(of(json!({"sub": "1", "email": "no address", "email_verified": true})), "1", None, false);
        assert_eq!(of(json!({"email": "a@b.cd"})), None);
        let azure = provider("azure", Protocol::OpenId, "https://login.microsoftonline.com/common");
        let of = |value: Value| Profile::of_claims(&azure, &claims(value));
        let address = Some("a@b.cd");
        check(of(json!({"sub": "1", "email": "a@b.cd", "email_verified": true, "tid": "t"})), "1", address, false);
        check(of(json!({"sub": "1", "email": "a@b.cd", "xms_edov": 1, "tid": "t"})), "1", address, true);
        check(of(json!({"sub": "1", "email": "a@b.cd", "xms_edov": "1", "tid": "t"})), "1", address, true);
        check(of(json!({"sub": "1", "email": "a@b.cd", "tid": PERSONAL_ACCOUNTS})), "1", address, true);
    }

    #[test]
    fn apis_of_providers_are_read() {
        let github = provider("github", Protocol::GitHub, "https://github.com");
        let user = json!({"id": 7, "login": "ann", "name": "Ann", "avatar_url": "a", "email": "public@b.cd"});
        let emails = json!([{"email": "x@b.cd", "primary": false, "verified": true}, {"email": "a@b.cd", "primary": true, "verified": true}]);
        let data = check(Profile::of_api(&github, &user, &emails), "7", Some("a@b.cd"), true);
        assert_eq!((&data["user_name"], &data["iss"]), (&json!("ann"), &json!("https://api.github.com")));
        let emails = json!([{"email": "a@b.cd", "primary": true, "verified": false}]);
        check(Profile::of_api(&github, &user, &emails), "7", Some("a@b.cd"), false);
        // The public address of a profile is whatever its owner wrote.
        check(Profile::of_api(&github, &user, &json!([])), "7", None, false);
        let gitlab = provider("gitlab", Protocol::GitLab, "https://gitlab.com");
        let user = json!({"id": 7, "username": "ann", "email": "a@b.cd", "confirmed_at": "2020-01-01T00:00:00Z"});
        check(Profile::of_api(&gitlab, &user, &Value::Null), "7", Some("a@b.cd"), true);
        check(
            Profile::of_api(&gitlab, &json!({"id": 7, "email": "a@b.cd", "confirmed_at": null}), &Value::Null),
            "7",
            Some("a@b.cd"),
            false,
        );
        let discord = provider("discord", Protocol::Discord, "https://discord.com");
        let user = json!({"id": "7", "username": "ann", "global_name": "Ann", "avatar": "h", "email": "a@b.cd", "verified": true});
        let data = check(Profile::of_api(&discord, &user, &Value::Null), "7", Some("a@b.cd"), true);
        assert_eq!(data["avatar_url"], "https://cdn.discordapp.com/avatars/7/h.png");
    }
}
