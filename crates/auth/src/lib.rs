//! The auth service of all projects in one process, compatible with Supabase's (GoTrue) on the wire.
//!
//! A request comes with its project's snapshot and its caller in its extensions, goes through [`router`] to one function
//! per operation, and works in the project's own database as `supabase_auth_admin`. All SQL is in [`store`].

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::print_stdout))]

mod account;
mod admin;
mod audit;
mod authenticate;
mod authorize;
mod callback;
mod captcha;
mod config;
mod contact;
mod cx;
mod error;
mod even_time;
mod hook;
mod identities;
mod identity;
mod invite;
mod logout;
mod magic_link;
mod mail;
mod mfa;
mod one_time_token;
mod otp;
mod passkeys;
mod password;
mod password_strength;
mod phone;
mod pkce;
mod provider;
mod rate_limit;
mod reauthenticate;
mod recover;
mod redirect;
mod request;
mod resend;
mod response;
mod router;
mod session;
mod settings;
mod signup;
mod sms;
mod store;
mod sweep;
#[cfg(test)]
mod tests;
mod timestamp;
mod token;
mod user;
mod verify;
mod webauthn;
mod well_known;

pub use config::{Auth, AuthConfig};
pub use error::{Error, ErrorCode};
pub use hook::send_email_hook;
