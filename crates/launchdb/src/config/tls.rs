//! TLS of the server itself.

use std::path::PathBuf;

use url::{Host, Url};

use super::reader::Reader;

/// Let's Encrypt's directories: the one that browsers believe, and the one to try things out with.
const PRODUCTION: &str = "https://acme-v02.api.letsencrypt.org/directory";
const STAGING: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";

/// Where the certificates come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsConfig {
    Files(TlsFiles),
    /// They come by themselves.
    Acme(AcmeConfig),
}

/// Both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and behind it those up to the root.
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// The authority that is asked for certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcmeConfig {
    /// The host of the public URL.
    pub name: String,
    /// URL of the authority's directory (RFC 8555, section 7.1.1).
    pub directory: String,
    /// An address that the authority writes to.
    pub contact: Option<String>,
    /// PEM file of certificates that the directory itself is believed by, beside the usual ones.
    pub roots: Option<PathBuf>,
}

impl TlsConfig {
    /// `asked` is `--tls`. Without files the certificates come by themselves.
    pub(super) fn read(reader: &mut Reader<'_>, asked: bool, public_url: &str) -> Option<Self> {
        const NAMES: [&str; 2] = ["LAUNCHDB_TLS_CERT", "LAUNCHDB_TLS_KEY"];
        let contact = reader.text("ACME_EMAIL");
        if contact.as_ref().is_some_and(|mail| !mail.contains('@')) {
            reader.problem("ACME_EMAIL", "is no e-mail address", "set ACME_EMAIL=you@example.org");
        }
        match NAMES.map(|name| reader.text(name).map(PathBuf::from)) {
            [Some(certificate), Some(key)] => Some(Self::Files(TlsFiles { certificate, key })),
            [None, None] if asked => Self::acme(reader, contact, public_url).map(Self::Acme),
            [None, None] => None,
            [certificate, _] => {
                let missing = NAMES[usize::from(certificate.is_some())];
                let mend = "set it to a PEM file, or leave both out: certificates come by themselves then";
                reader.problem(missing, "is missing while the other file is named", mend);
                None
            }
        }
    }

    fn acme(reader: &mut Reader<'_>, contact: Option<String>, public_url: &str) -> Option<AcmeConfig> {
        let directory = match reader.text("LAUNCHDB_ACME_DIRECTORY").as_deref() {
            None | Some("production") => Some(PRODUCTION.to_owned()),
            Some("staging") => Some(STAGING.to_owned()),
            Some(text) => Url::parse(text).ok().filter(|url| url.scheme() == "https").map(|_| text.to_owned()),
        };
        if directory.is_none() {
            let mend = "set it to production or staging (Let's Encrypt's), or to the https URL of another authority";
            reader.problem("LAUNCHDB_ACME_DIRECTORY", "is no directory of an authority", mend);
        }
        let name = certifiable(public_url);
        if name.is_none() {
            let mend = "set DOMAIN=db.example.org, or name your own files in LAUNCHDB_TLS_CERT and LAUNCHDB_TLS_KEY";
            reader.problem("DOMAIN", "is missing, or no name that an authority gives certificates for", mend);
        }
        let roots = reader.text("LAUNCHDB_ACME_CA").map(PathBuf::from);
        Some(AcmeConfig { name: name?, directory: directory?, contact, roots })
    }
}

/// The host of an https URL, when it is a name with a dot in it.
fn certifiable(public_url: &str) -> Option<String> {
    let url = Url::parse(public_url).ok().filter(|url| url.scheme() == "https")?;
    match url.host()? {
        Host::Domain(name) if name.contains('.') => Some(name.to_ascii_lowercase()),
        _ => None,
    }
}
