//! What an authenticator says of itself (section 6.1).

use ciborium::Value;

const USER_PRESENT: u8 = 1;
const USER_VERIFIED: u8 = 1 << 2;
const BACKUP_ELIGIBLE: u8 = 1 << 3;
const BACKED_UP: u8 = 1 << 4;
const HAS_CREDENTIAL: u8 = 1 << 6;

pub(super) struct AuthenticatorData {
    pub(super) relying_party_hash: [u8; 32],
    pub(super) user_present: bool,
    pub(super) user_verified: bool,
    pub(super) backup_eligible: bool,
    pub(super) backed_up: bool,
    pub(super) sign_count: u32,
    pub(super) credential: Option<AttestedCredential>,
}

/// A fresh credential (section 6.5.2).
pub(super) struct AttestedCredential {
    pub(super) aaguid: [u8; 16],
    pub(super) id: Vec<u8>,
    /// In COSE's form.
    pub(super) public_key: Vec<u8>,
}

impl AuthenticatorData {
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (hash, rest) = bytes.split_first_chunk::<32>()?;
        let (flags, rest) = rest.split_first()?;
        let (count, rest) = rest.split_first_chunk::<4>()?;
        let credential = match flags & HAS_CREDENTIAL {
            0 => None,
            _ => {
                let (aaguid, rest) = rest.split_first_chunk::<16>()?;
                let (length, rest) = rest.split_first_chunk::<2>()?;
                let (id, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
                // Extensions may follow the key.
                let mut behind = rest;
                ciborium::from_reader::<Value, _>(&mut behind).ok()?;
                let public_key = rest.get(..rest.len() - behind.len())?.to_vec();
                Some(AttestedCredential { aaguid: *aaguid, id: id.to_vec(), public_key })
            }
        };
        Some(Self {
            relying_party_hash: *hash,
            user_present: flags & USER_PRESENT != 0,
            user_verified: flags & USER_VERIFIED != 0,
            backup_eligible: flags & BACKUP_ELIGIBLE != 0,
            backed_up: flags & BACKED_UP != 0,
            sign_count: u32::from_be_bytes(*count),
            credential,
        })
    }
}

/// The authenticator's data inside of an attestation object; whatever the attestation says is left alone.
pub(super) fn of_attestation(bytes: &[u8]) -> Option<Vec<u8>> {
    let value: Value = ciborium::from_reader(bytes).ok()?;
    let entries = value.into_map().ok()?;
    let (_, data) = entries.into_iter().find(|(name, _)| name.as_text() == Some("authData"))?;
    data.into_bytes().ok()
}
