//! Mails of projects' users: templates, the queue in each project's database, and the worker that sends.
//!
//! A request writes a row into the queue in its own transaction and notifies the [`Mailer`]. The worker takes rows with
//! `FOR UPDATE SKIP LOCKED`, renders and sends them, and tries again later what failed. A crash loses nothing: a row is
//! marked as sent after the server took the mail, so that at worst one mail is sent twice, with the same Message-ID. A
//! project without mails costs nothing; nobody looks at its queue.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod defaults;
mod kept;
mod limited_stream;
mod mailer;
mod message;
mod plain_text;
mod schedule;
mod smtp;
mod store;
pub mod template;
mod variables;
mod worker;

pub use mailer::{Mailer, MailerConfig, SendHook};
pub use message::{MessageError, Rendered, Sender, Template, is_address, render};
pub use smtp::{SendError, Server};
pub use store::Mail;

#[cfg(test)]
mod tests;
