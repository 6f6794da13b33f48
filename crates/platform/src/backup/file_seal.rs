//! Many files under one passphrase: encrypted as backups are, without the cost of a new key for each.

use std::io::{Read, Write};
use std::sync::{Mutex, PoisonError};

use base::Secret;

use super::openpgp::{Decryptor, DerivedKey, Encryptor, NotReadable};

/// Encrypts files so that plain `gpg --decrypt` opens each.
pub struct FileSealer(DerivedKey);

impl FileSealer {
    /// Takes a tenth of a second; blocks.
    pub fn new(passphrase: &Secret<String>) -> Self {
        Self(DerivedKey::fresh(passphrase))
    }

    /// Begins a file; its contents are not compressed.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn seal<W: Write>(&self, out: W) -> std::io::Result<Encryptor<W>> {
        Encryptor::stored(out, &self.0)
    }
}

/// Opens files.
pub struct FileOpener {
    passphrase: Secret<String>,
    known: Mutex<Vec<DerivedKey>>,
}

impl FileOpener {
    pub fn new(passphrase: Secret<String>) -> Self {
        Self { passphrase, known: Mutex::default() }
    }

    /// Begins to read a file; what was read may be believed once its end was reached without an error.
    ///
    /// # Errors
    /// When the passphrase is another one, or the file no such message.
    pub fn open<R: Read>(&self, file: R) -> Result<Decryptor<R>, NotReadable> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        Decryptor::with_known(file, &self.passphrase, &mut known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_one_key_are_different_messages() {
        let passphrase = Secret::new("a passphrase of the test".to_owned());
        let sealer = FileSealer::new(&passphrase);
        let sealed = || {
            let mut file = sealer.seal(Vec::new()).unwrap();
            file.write_all(b"content").unwrap();
            file.finish().unwrap()
        };
        let (first, second) = (sealed(), sealed());
        assert_ne!(first, second);
        let opener = FileOpener::new(passphrase);
        for file in [&first, &second] {
            let mut plain = String::new();
            opener.open(file.as_slice()).unwrap().read_to_string(&mut plain).unwrap();
            assert_eq!(plain, "content");
        }
        let other = FileOpener::new(Secret::new("another".to_owned()));
        assert!(matches!(other.open(first.as_slice()), Err(NotReadable::WrongKey)));
        // It is so short that its end is met when it is opened.
        assert!(matches!(opener.open(&first[..first.len() - 1]), Err(NotReadable::NoMessage(_))));
    }
}
