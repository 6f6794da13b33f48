//! Providers that speak OAuth 2 and no OpenID Connect, as data: where they are asked, and where in their answer a user is.
//! Addresses, and what they are worth, from the providers' own documentation; what GoTrue does otherwise is said.

/// One provider.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plain {
    pub(crate) name: &'static str,
    /// Always asked for, with spaces between.
    pub(super) scopes: &'static str,
    pub(super) authorize: Endpoint,
    /// Always part of the authorization request.
    pub(super) asked: &'static [(&'static str, &'static str)],
    pub(super) token: Endpoint,
    pub(super) client: Client,
    /// Whether the provider knows proof keys (RFC 7636).
    pub(super) proof_key: bool,
    pub(super) profile: Source,
    /// Where the addresses are, if they are apart.
    pub(super) emails: Option<(Endpoint, EmailList)>,
    pub(super) fields: Fields,
}

/// Host and path of an address; a project with a server of its own has another host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Endpoint(pub(super) &'static str, pub(super) &'static str);

/// How a client shows its secret (RFC 6749, section 2.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    Basic,
    Body,
}

/// Where the user is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Asked for with the access token, and what else the provider wants to see.
    Get(Endpoint, Extra),
    /// In the answer of the token endpoint, under this name.
    Token(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extra {
    Nothing,
    Header(&'static str, &'static str),
    /// The client's id in this header.
    ClientId(&'static str),
    /// A MAC of the access token under the client's secret as this parameter (Facebook's `appsecret_proof`).
    Proof(&'static str),
}

/// Names in a list of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EmailList {
    /// JSON pointer (RFC 6901) of the list.
    pub(super) list: &'static str,
    pub(super) email: &'static str,
    pub(super) primary: &'static str,
    pub(super) verified: &'static str,
}

/// JSON pointers (RFC 6901) of what a user is known by; empty for what there is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fields {
    pub(super) id: &'static str,
    pub(super) email: &'static str,
    pub(super) verified: Verified,
    /// Parts, with a space between.
    pub(super) name: &'static [&'static str],
    pub(super) user_name: &'static str,
    pub(super) picture: &'static str,
}

/// When an address counts as the user's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verified {
    /// The provider says nothing of it, or that it is not.
    Never,
    /// The provider documents that it gives confirmed addresses only.
    Always,
    /// All of these are true.
    When(&'static [&'static str]),
}

const NO_FIELDS: Fields =
    Fields { id: "/id", email: "/email", verified: Verified::Never, name: &["/name"], user_name: "", picture: "" };

const NOTHING: Plain = Plain {
    name: "",
    scopes: "",
    authorize: Endpoint("", ""),
    asked: &[],
    token: Endpoint("", ""),
    client: Client::Body,
    proof_key: false,
    profile: Source::Token(""),
    emails: None,
    fields: NO_FIELDS,
};

pub(super) const PLAIN: [Plain; 13] = [
    Plain {
        name: "bitbucket",
        scopes: "account email",
        authorize: Endpoint("bitbucket.org", "/site/oauth2/authorize"),
        token: Endpoint("bitbucket.org", "/site/oauth2/access_token"),
        client: Client::Basic,
        profile: Source::Get(Endpoint("api.bitbucket.org", "/2.0/user"), Extra::Nothing),
        emails: Some((
            Endpoint("api.bitbucket.org", "/2.0/user/emails"),
            EmailList { list: "/values", email: "email", primary: "is_primary", verified: "is_confirmed" },
        )),
        fields: Fields {
            id: "/uuid",
            email: "",
            name: &["/display_name"],
            user_name: "/nickname",
            picture: "/links/avatar/href",
            ..NO_FIELDS
        },
        ..NOTHING
    },
    // GoTrue takes the address for verified; nothing in the API says so.
    Plain {
        name: "facebook",
        scopes: "email",
        authorize: Endpoint("www.facebook.com", "/dialog/oauth"),
        token: Endpoint("graph.facebook.com", "/oauth/access_token"),
        profile: Source::Get(
            Endpoint("graph.facebook.com", "/me?fields=email,first_name,last_name,name,picture"),
            Extra::Proof("appsecret_proof"),
        ),
        fields: Fields {
            name: &["/first_name", "/last_name"],
            user_name: "/name",
            picture: "/picture/data/url",
            ..NO_FIELDS
        },
        ..NOTHING
    },
    // As with Facebook.
    Plain {
        name: "figma",
        scopes: "current_user:read",
        authorize: Endpoint("www.figma.com", "/oauth"),
        token: Endpoint("api.figma.com", "/v1/oauth/token"),
        client: Client::Basic,
        profile: Source::Get(Endpoint("api.figma.com", "/v1/me"), Extra::Nothing),
        fields: Fields { name: &["/handle"], user_name: "/handle", picture: "/img_url", ..NO_FIELDS },
        ..NOTHING
    },
    // As with Facebook.
    Plain {
        name: "fly",
        scopes: "read",
        authorize: Endpoint("api.fly.io", "/oauth/authorize"),
        token: Endpoint("api.fly.io", "/oauth/token"),
        profile: Source::Get(Endpoint("api.fly.io", "/oauth/token/info"), Extra::Nothing),
        fields: Fields { id: "/user_id", name: &["/user_name"], ..NO_FIELDS },
        ..NOTHING
    },
    Plain {
        name: "kakao",
        scopes: "account_email profile_image profile_nickname",
        authorize: Endpoint("kauth.kakao.com", "/oauth/authorize"),
        token: Endpoint("kauth.kakao.com", "/oauth/token"),
        profile: Source::Get(Endpoint("kapi.kakao.com", "/v2/user/me"), Extra::Nothing),
        fields: Fields {
            email: "/kakao_account/email",
            verified: Verified::When(&["/kakao_account/is_email_valid", "/kakao_account/is_email_verified"]),
            name: &["/kakao_account/profile/nickname"],
            user_name: "/kakao_account/profile/nickname",
            picture: "/kakao_account/profile/profile_image_url",
            ..NO_FIELDS
        },
        ..NOTHING
    },
    // GoTrue takes the address for verified, and says that Notion does not tell.
    Plain {
        name: "notion",
        authorize: Endpoint("api.notion.com", "/v1/oauth/authorize"),
        asked: &[("owner", "user")],
        token: Endpoint("api.notion.com", "/v1/oauth/token"),
        client: Client::Basic,
        profile: Source::Get(Endpoint("api.notion.com", "/v1/users/me"), Extra::Header("notion-version", "2021-08-16")),
        fields: Fields {
            id: "/bot/owner/user/id",
            email: "/bot/owner/user/person/email",
            name: &["/bot/owner/user/name"],
            picture: "/bot/owner/user/avatar_url",
            ..NO_FIELDS
        },
        ..NOTHING
    },
    Plain {
        name: "slack",
        scopes: "profile email openid",
        authorize: Endpoint("slack.com", "/oauth/authorize"),
        token: Endpoint("slack.com", "/api/oauth.access"),
        profile: Source::Get(Endpoint("slack.com", "/api/openid.connect.userInfo"), Extra::Nothing),
        fields: Fields {
            id: "/https:~1~1slack.com~1user_id",
            verified: Verified::When(&["/email_verified"]),
            picture: "/picture",
            ..NO_FIELDS
        },
        ..NOTHING
    },
    // There is an address only for applications that Snapchat lets have it.
    Plain {
        name: "snapchat",
        scopes: "https://auth.snapchat.com/oauth2/api/user.external_id \
                 https://auth.snapchat.com/oauth2/api/user.display_name \
                 https://auth.snapchat.com/oauth2/api/user.bitmoji.avatar",
        authorize: Endpoint("accounts.snapchat.com", "/accounts/oauth2/auth"),
        token: Endpoint("accounts.snapchat.com", "/accounts/oauth2/token"),
        profile: Source::Get(
            Endpoint(
                "kit.snapchat.com",
                "/v1/me?query=%7Bme%20%7B%20externalId%20displayName%20bitmoji%20%7B%20avatar%20id%20%7D%20%7D%7D",
            ),
            Extra::Nothing,
        ),
        fields: Fields {
            id: "/data/me/externalId",
            email: "/data/me/email",
            name: &["/data/me/displayName"],
            picture: "/data/me/bitmoji/avatar",
            ..NO_FIELDS
        },
        ..NOTHING
    },
    // The documentation says that the address is not verified.
    Plain {
        name: "spotify",
        scopes: "user-read-email",
        authorize: Endpoint("accounts.spotify.com", "/authorize"),
        token: Endpoint("accounts.spotify.com", "/api/token"),
        client: Client::Basic,
        profile: Source::Get(Endpoint("api.spotify.com", "/v1/me"), Extra::Nothing),
        // The first picture is the largest.
        fields: Fields { name: &["/display_name"], picture: "/images/0/url", ..NO_FIELDS },
        ..NOTHING
    },
    // "The user's verified email address", says the documentation of the API.
    Plain {
        name: "twitch",
        scopes: "user:read:email",
        authorize: Endpoint("id.twitch.tv", "/oauth2/authorize"),
        token: Endpoint("id.twitch.tv", "/oauth2/token"),
        profile: Source::Get(Endpoint("api.twitch.tv", "/helix/users"), Extra::ClientId("client-id")),
        fields: Fields {
            id: "/data/0/id",
            email: "/data/0/email",
            verified: Verified::Always,
            name: &["/data/0/login"],
            user_name: "/data/0/display_name",
            picture: "/data/0/profile_image_url",
        },
        ..NOTHING
    },
    // The address is what the customer's own identity provider says; GoTrue takes it for verified.
    Plain {
        name: "workos",
        authorize: Endpoint("api.workos.com", "/sso/authorize"),
        token: Endpoint("api.workos.com", "/sso/token"),
        profile: Source::Token("profile"),
        fields: Fields { name: &["/first_name", "/last_name"], ..NO_FIELDS },
        ..NOTHING
    },
    Plain {
        name: "x",
        scopes: "users.email tweet.read users.read offline.access",
        authorize: Endpoint("x.com", "/i/oauth2/authorize"),
        token: Endpoint("api.x.com", "/2/oauth2/token"),
        client: Client::Basic,
        proof_key: true,
        profile: Source::Get(
            Endpoint("api.x.com", "/2/users/me?user.fields=id,name,username,confirmed_email,profile_image_url"),
            Extra::Nothing,
        ),
        fields: Fields {
            id: "/data/id",
            email: "/data/confirmed_email",
            verified: Verified::Always,
            name: &["/data/name"],
            user_name: "/data/username",
            picture: "/data/profile_image_url",
        },
        ..NOTHING
    },
    // GoTrue takes the address for verified too where the user signs in elsewhere.
    Plain {
        name: "zoom",
        authorize: Endpoint("zoom.us", "/oauth/authorize"),
        token: Endpoint("zoom.us", "/oauth/token"),
        client: Client::Basic,
        profile: Source::Get(Endpoint("api.zoom.us", "/v2/users/me"), Extra::Nothing),
        fields: Fields {
            verified: Verified::When(&["/verified"]),
            name: &["/first_name", "/last_name"],
            picture: "/pic_url",
            ..NO_FIELDS
        },
        ..NOTHING
    },
];
