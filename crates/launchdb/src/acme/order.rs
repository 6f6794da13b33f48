//! One certificate: the order, the proof that the name leads here (RFC 8737), the certificate.

use std::time::Duration;

use anyhow::Context as _;
use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Error, Identifier, NewAccount, NewOrder, Order, OrderStatus,
    RetryPolicy,
};
use outbound::Client;
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use super::Challenges;
use super::backoff::Failure;
use super::folder::{Folder, StoredAccount};
use super::http::Http;

/// How long the authority may take to look, and to sign.
const PATIENCE: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(250)).timeout(Duration::from_secs(90));

const ACCOUNT_IS_GONE: &str = "urn:ietf:params:acme:error:accountDoesNotExist";

/// Why there is no certificate.
#[derive(Debug)]
pub(super) struct NotIssued {
    pub(super) failure: Failure,
    pub(super) cause: anyhow::Error,
}

impl From<anyhow::Error> for NotIssued {
    /// An answer of the authority is a refusal, and everything else that comes from it is not.
    fn from(cause: anyhow::Error) -> Self {
        let refused = |cause: &(dyn std::error::Error + 'static)| {
            matches!(cause.downcast_ref(), Some(Error::Api(_))) || cause.is::<Refused>()
        };
        let failure = if cause.chain().any(refused) { Failure::Refused } else { Failure::Unreachable };
        Self { failure, cause }
    }
}

/// The authority looked at the name and did not find us.
#[derive(Debug, thiserror::Error)]
#[error("the authority refused the name: {0}")]
struct Refused(String);

/// The authority, and who we are there.
#[derive(Clone, Debug)]
pub(super) struct Authority {
    pub(super) client: Client,
    pub(super) folder: Folder,
    pub(super) directory: String,
    pub(super) contact: Option<String>,
}

impl Authority {
    /// Key and chain for one name, as PEM.
    pub(super) async fn obtain(&self, name: &str, challenges: &Challenges) -> Result<Vec<u8>, NotIssued> {
        let account = self.account().await.context("no account at the authority")?;
        let obtained = issue(&account, name, challenges).await;
        challenges.remove(name);
        Ok(obtained.inspect_err(|error| self.forget_if_gone(error))?)
    }

    /// The account of before, or a new one. Both ask the directory first, so that a wrong address is told as one.
    async fn account(&self) -> Result<Account, anyhow::Error> {
        let builder = Account::builder_with_http(Box::new(Http(self.client.clone())));
        let unreachable = || format!("the directory {} cannot be used", self.directory);
        let contact = self.contact.as_ref().map(|mail| format!("mailto:{mail}"));
        let contacts: Vec<&str> = contact.iter().map(String::as_str).collect();
        let Some(StoredAccount { contact: before, credentials, .. }) = self.folder.read_account(&self.directory)?
        else {
            let new = NewAccount { contact: &contacts, terms_of_service_agreed: true, only_return_existing: false };
            let made = builder.create(&new, self.directory.clone(), None).await;
            let (account, credentials) = made.with_context(unreachable)?;
            self.write_account(credentials)?;
            return Ok(account);
        };
        let again = serde_json::to_value(&credentials).and_then(serde_json::from_value);
        let account = builder.from_credentials(credentials).await.with_context(unreachable)?;
        if before != self.contact {
            let updated = account.update_contacts(&contacts).await;
            updated.inspect_err(|error| self.forget_if(error)).context("the contact cannot be changed")?;
            self.write_account(again?)?;
        }
        Ok(account)
    }

    fn write_account(&self, credentials: instant_acme::AccountCredentials) -> Result<(), anyhow::Error> {
        let (directory, contact) = (self.directory.clone(), self.contact.clone());
        self.folder.write_account(&StoredAccount { directory, contact, credentials })
    }

    fn forget_if_gone(&self, error: &anyhow::Error) {
        if let Some(error) = error.chain().find_map(|cause| cause.downcast_ref()) {
            self.forget_if(error);
        }
    }

    /// An authority that lost its accounts gets a new one at the next try.
    fn forget_if(&self, error: &Error) {
        if let Error::Api(problem) = error
            && problem.r#type.as_deref() == Some(ACCOUNT_IS_GONE)
            && let Err(error) = self.folder.forget_account()
        {
            tracing::warn!(%error, "the account that the authority does not know cannot be forgotten");
        }
    }
}

async fn issue(account: &Account, name: &str, challenges: &Challenges) -> Result<Vec<u8>, anyhow::Error> {
    let identifiers = [Identifier::Dns(name.to_owned())];
    let mut order = account.new_order(&NewOrder::new(&identifiers)).await.context("the order was not taken")?;
    prove(&mut order, name, challenges).await?;
    let ready = order.poll_ready(&PATIENCE).await.context("the authority did not look at the name")?;
    if ready != OrderStatus::Ready {
        anyhow::bail!(Refused(reason(&mut order).await));
    }
    let key = KeyPair::generate().context("no key could be made")?;
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key).context("the request cannot be signed")?;
    order.finalize_csr(request.der()).await.context("the request was not taken")?;
    let chain = order.poll_certificate(&PATIENCE).await.context("no certificate came")?;
    Ok([key.serialize_pem().as_bytes(), chain.as_bytes()].concat())
}

/// Answers for every name of the order that the authority has not looked at before.
async fn prove(order: &mut Order, name: &str, challenges: &Challenges) -> Result<(), anyhow::Error> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.context("the authority does not say what it wants to see")?;
        match authorization.status {
            AuthorizationStatus::Pending => {}
            AuthorizationStatus::Valid => continue,
            status => anyhow::bail!(Refused(format!("its state is {status:?}"))),
        }
        let mut challenge = authorization
            .challenge(ChallengeType::TlsAlpn01)
            .ok_or_else(|| Refused("it offers no validation over TLS (TLS-ALPN-01)".to_owned()))?;
        challenges.insert(name, proof(name, challenge.key_authorization().digest().as_ref())?);
        challenge.set_ready().await.context("the authority does not want to look")?;
    }
    Ok(())
}

/// The certificate that the authority finds at the name.
fn proof(name: &str, digest: &[u8]) -> Result<CertifiedKey, anyhow::Error> {
    let key = KeyPair::generate().context("no key could be made")?;
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let certificate = params.self_signed(&key).context("no proof could be made")?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key = ring::default_provider().key_provider.load_private_key(key).context("no proof")?;
    // Not looked at any further: its critical extension is one that nothing but this protocol knows.
    Ok(CertifiedKey::new(vec![certificate.der().clone()], key))
}

/// What the authority says about a name that it refused.
async fn reason(order: &mut Order) -> String {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let Ok(state) = authorization.refresh().await else { continue };
        if let Some(problem) = state.challenges.iter().find_map(|challenge| challenge.error.as_ref()) {
            return problem.to_string();
        }
    }
    "it does not say why".to_owned()
}
