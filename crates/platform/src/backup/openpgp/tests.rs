use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use base::Secret;

use super::*;

fn key() -> Secret<String> {
    Secret::new("a passphrase of many words".to_owned())
}

/// Text that is long enough for several parts at each level, and does not compress to nothing.
fn text() -> Vec<u8> {
    (0..40_000u32).flat_map(|n| format!("{n}\t{}\n", base::digest::sha256_hex(&n.to_be_bytes())).into_bytes()).collect()
}

fn encrypt(plain: &[u8]) -> Vec<u8> {
    let mut encryptor = Encryptor::new(Vec::new(), &key()).unwrap();
    encryptor.write_all(plain).unwrap();
    encryptor.finish().unwrap()
}

fn decrypt(message: &[u8], key: &Secret<String>) -> Result<Vec<u8>, String> {
    let mut decryptor = Decryptor::new(message, key).map_err(|e| e.to_string())?;
    let mut plain = Vec::new();
    decryptor.read_to_end(&mut plain).map_err(|e| e.to_string())?;
    Ok(plain)
}

fn gpg(args: &[&str], input: &[u8]) -> Vec<u8> {
    let home = tempfile::tempdir().unwrap();
    let mut child = Command::new("gpg")
        .args(["--homedir", home.path().to_str().unwrap(), "--batch", "--quiet", "--pinentry-mode", "loopback"])
        .args(["--passphrase", key().expose()])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("gpg is installed");
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    let _ = writer.join().unwrap();
    // The agent that gpg started holds the folder.
    let agent = ["--homedir", home.path().to_str().unwrap(), "--kill", "gpg-agent"];
    let _ = Command::new("gpgconf").args(agent).output();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn what_was_encrypted_is_read_again() {
    for plain in [Vec::new(), b"short".to_vec(), text()] {
        let message = encrypt(&plain);
        assert_eq!(decrypt(&message, &key()).unwrap(), plain);
        assert!(!plain.is_empty() || message.len() < 200);
    }
}

#[test]
fn gpg_reads_ours_and_we_read_gpgs() {
    let plain = text();
    assert_eq!(gpg(&["--decrypt"], &encrypt(&plain)), plain);
    for options in [&[][..], &["--compress-algo", "none"], &["--compress-algo", "zlib", "--s2k-digest-algo", "SHA512"]]
    {
        let args = [options, &["--symmetric", "--cipher-algo", "AES256"]].concat();
        assert_eq!(decrypt(&gpg(&args, &plain), &key()).unwrap(), plain, "{options:?}");
    }
}

#[test]
fn a_wrong_key_and_every_damage_is_seen() {
    let message = encrypt(&text());
    let wrong = Secret::new("another passphrase".to_owned());
    assert!(decrypt(&message, &wrong).is_err());
    for length in [0, 1, 10, 40, 1000, message.len() / 2, message.len() - 1] {
        assert!(decrypt(&message[..length], &key()).is_err(), "cut off at {length}");
    }
    for at in [0, 20, 60, 3000, message.len() / 2, message.len() - 30, message.len() - 1] {
        let mut altered = message.clone();
        altered[at] ^= 1;
        assert!(decrypt(&altered, &key()).is_err(), "altered at {at}");
    }
    let longer = [message.as_slice(), b"\xcb\x01x"].concat();
    assert!(decrypt(&longer, &key()).is_ok(), "what is behind the message is not part of it");
}
