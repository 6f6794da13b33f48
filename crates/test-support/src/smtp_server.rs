//! A mail server on loopback that takes every mail, as far as tests of a client need one (RFC 5321, STARTTLS, AUTH).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::wait::eventually_within;

/// How a server wants to be spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SmtpTls {
    #[default]
    None,
    StartTls,
    FromTheStart,
}

/// What a server does beside taking mails.
#[derive(Clone, Debug, Default)]
pub struct SmtpOptions {
    pub tls: SmtpTls,
    /// User and password that it wants; none offers no sign-in.
    pub credentials: Option<(String, String)>,
    /// Name in its certificate.
    pub host: Option<String>,
}

/// A mail as it arrived.
#[derive(Clone, Debug)]
pub struct ReceivedMail {
    pub from: String,
    pub to: Vec<String>,
    /// Header and body, with dots unstuffed and CRLF.
    pub data: String,
    pub over_tls: bool,
    pub user: Option<String>,
}

impl ReceivedMail {
    /// The value of a header, unfolded.
    pub fn header(&self, name: &str) -> Option<String> {
        let (head, _) = self.data.split_once("\r\n\r\n")?;
        let unfolded = head.replace("\r\n ", " ").replace("\r\n\t", " ");
        unfolded.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    }

    /// The data with quoted-printable soft line breaks and `=XX` undone: good enough to look for words and links.
    pub fn readable(&self) -> String {
        let joined = self.data.replace("=\r\n", "");
        let mut out = Vec::with_capacity(joined.len());
        let bytes = joined.as_bytes();
        let mut i = 0;
        while i < bytes.len() {
            let hex = joined.get(i + 1..i + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
            match (bytes[i], hex) {
                (b'=', Some(byte)) => {
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
}

#[derive(Default)]
struct State {
    mails: Vec<ReceivedMail>,
    /// Answers to the next RCPT commands in place of 250; `None` closes the connection.
    next_replies: VecDeque<Option<String>>,
    connections: usize,
    /// Close the connection after a mail was taken, before it is said.
    drops_after_data: bool,
}

/// The server; it ends with the runtime of the test.
#[derive(Clone)]
pub struct SmtpServer {
    port: u16,
    root_der: Vec<u8>,
    state: Arc<Mutex<State>>,
}

impl SmtpServer {
    /// Listens on a free port.
    ///
    /// # Panics
    /// When there is none.
    pub async fn start(options: SmtpOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let host = options.host.clone().unwrap_or_else(|| "localhost".to_owned());
        let key = rcgen::generate_simple_self_signed(vec![host]).unwrap();
        let root_der = key.cert.der().to_vec();
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![key.cert.der().clone()], private)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let state = Arc::new(Mutex::new(State::default()));
        let server = Self { port, root_der, state: state.clone() };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                state.lock().unwrap().connections += 1;
                let session = Session { options: options.clone(), state: state.clone(), user: None };
                tokio::spawn(session.run(stream, acceptor.clone()));
            }
        });
        server
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's own certificate, for clients that are to trust it.
    pub fn root_der(&self) -> Vec<u8> {
        self.root_der.clone()
    }

    /// Every mail so far.
    pub fn mails(&self) -> Vec<ReceivedMail> {
        self.state.lock().unwrap().mails.clone()
    }

    /// How often somebody connected.
    pub fn connections(&self) -> usize {
        self.state.lock().unwrap().connections
    }

    /// The next recipients are answered with these lines (`450 later`); an empty one closes the connection.
    pub fn answer_next(&self, replies: &[&str]) {
        let replies = replies.iter().map(|reply| Some((*reply).to_owned()).filter(|reply| !reply.is_empty()));
        self.state.lock().unwrap().next_replies.extend(replies);
    }

    /// Whether connections break after a mail was taken and before the client hears of it.
    pub fn drop_after_data(&self, drops: bool) {
        self.state.lock().unwrap().drops_after_data = drops;
    }

    /// Waits for mails to `recipient` until there are `count`.
    ///
    /// # Panics
    /// When they do not arrive within ten seconds.
    pub async fn mails_to(&self, recipient: &str, count: usize) -> Vec<ReceivedMail> {
        let what = format!("{count} mails to {recipient}");
        eventually_within(Duration::from_secs(10), &what, async || {
            let mut mails = self.mails();
            mails.retain(|mail| mail.to.iter().any(|to| to == recipient));
            (mails.len() >= count).then_some(mails)
        })
        .await
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

struct Session {
    options: SmtpOptions,
    state: Arc<Mutex<State>>,
    user: Option<String>,
}

impl Session {
    /// Speaks with a client; one that breaks off is nothing to the server.
    async fn run(mut self, stream: TcpStream, acceptor: TlsAcceptor) {
        let mut stream: Box<dyn Stream> = Box::new(stream);
        let mut over_tls = false;
        if self.options.tls == SmtpTls::FromTheStart {
            let Ok(secured) = acceptor.accept(stream).await else { return };
            (stream, over_tls) = (Box::new(secured), true);
        }
        let mut stream = BufStream::new(stream);
        if say(&mut stream, "220 localhost ESMTP").await.is_err() {
            return;
        }
        while let Ok(Then::StartTls) = self.speak(&mut stream, over_tls).await {
            let Ok(secured) = acceptor.accept(stream.into_inner()).await else { return };
            let secured: Box<dyn Stream> = Box::new(secured);
            (stream, over_tls) = (BufStream::new(secured), true);
        }
    }

    async fn speak(&mut self, stream: &mut BufStream<Box<dyn Stream>>, over_tls: bool) -> std::io::Result<Then> {
        let (mut from, mut to) = (String::new(), Vec::new());
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(Then::End);
            }
            let line = line.trim_end();
            let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
            match verb.as_str() {
                "EHLO" | "HELO" => self.greet(stream, over_tls).await?,
                "STARTTLS" => {
                    say(stream, "220 go ahead").await?;
                    return Ok(Then::StartTls);
                }
                "AUTH" => self.sign_in(stream, line).await?,
                "MAIL" if self.options.credentials.is_some() && self.user.is_none() => {
                    say(stream, "530 sign in first").await?;
                }
                "MAIL" => {
                    (from, to) = (address(line), Vec::new());
                    say(stream, "250 ok").await?;
                }
                "RCPT" => {
                    let reply = self.state.lock().unwrap().next_replies.pop_front();
                    match reply {
                        Some(None) => return Ok(Then::End),
                        Some(Some(reply)) => say(stream, &reply).await?,
                        None => {
                            to.push(address(line));
                            say(stream, "250 ok").await?;
                        }
                    }
                }
                "DATA" if to.is_empty() => say(stream, "503 no recipients").await?,
                "DATA" => {
                    say(stream, "354 go ahead").await?;
                    let data = read_data(stream).await?;
                    let mail = ReceivedMail {
                        from: from.clone(),
                        to: std::mem::take(&mut to),
                        data,
                        over_tls,
                        user: self.user.clone(),
                    };
                    let drops = {
                        let mut state = self.state.lock().unwrap();
                        state.mails.push(mail);
                        state.drops_after_data
                    };
                    if drops {
                        return Ok(Then::End);
                    }
                    say(stream, "250 taken").await?;
                }
                "RSET" | "NOOP" => say(stream, "250 ok").await?,
                "QUIT" => {
                    say(stream, "221 bye").await?;
                    return Ok(Then::End);
                }
                _ => say(stream, "500 what?").await?,
            }
        }
    }

    async fn greet(&self, stream: &mut BufStream<Box<dyn Stream>>, over_tls: bool) -> std::io::Result<()> {
        let mut lines = vec!["localhost"];
        if self.options.tls == SmtpTls::StartTls && !over_tls {
            lines.push("STARTTLS");
        }
        if self.options.credentials.is_some() {
            lines.push("AUTH PLAIN LOGIN");
        }
        lines.push("8BITMIME");
        for (i, line) in lines.iter().enumerate() {
            let separator = if i + 1 == lines.len() { ' ' } else { '-' };
            say(stream, &format!("250{separator}{line}")).await?;
        }
        Ok(())
    }

    /// `AUTH PLAIN <base64 of NUL user NUL password>`.
    async fn sign_in(&mut self, stream: &mut BufStream<Box<dyn Stream>>, line: &str) -> std::io::Result<()> {
        let given = line.split(' ').nth(2).and_then(|text| BASE64.decode(text).ok()).unwrap_or_default();
        let parts: Vec<String> =
            given.split(|byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into_owned()).collect();
        let known = matches!((&self.options.credentials, &parts[..]),
            (Some((user, password)), [_, given_user, given_password]) if user == given_user && password == given_password);
        if known {
            self.user = parts.get(1).cloned();
            say(stream, "235 welcome").await
        } else {
            say(stream, "535 wrong user or password").await
        }
    }
}

/// What follows a conversation.
enum Then {
    StartTls,
    End,
}

async fn say(stream: &mut BufStream<Box<dyn Stream>>, line: &str) -> std::io::Result<()> {
    stream.write_all(format!("{line}\r\n").as_bytes()).await?;
    stream.flush().await
}

async fn read_data(stream: &mut BufStream<Box<dyn Stream>>) -> std::io::Result<String> {
    let mut data = Vec::new();
    loop {
        let mut line = Vec::new();
        if stream.read_until(b'\n', &mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if line == b".\r\n" {
            return Ok(String::from_utf8_lossy(&data).into_owned());
        }
        data.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
    }
}

/// What stands between `<` and `>`.
fn address(line: &str) -> String {
    line.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or("", |(address, _)| address).to_owned()
}
