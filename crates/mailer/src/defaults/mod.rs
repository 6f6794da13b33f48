//! The mails of projects that have no templates of their own. Each has the link and the code, so that either way of an
//! application works.

/// Subject and template of a kind of mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Default {
    pub subject: &'static str,
    pub content: &'static str,
}

/// The kinds of mails, by the names that Supabase's settings have for them.
pub const KINDS: [&str; 6] = ["confirmation", "invite", "magic_link", "recovery", "email_change", "reauthentication"];

/// What a kind of mail is without settings; none for an unknown kind.
pub fn of(kind: &str) -> Option<Default> {
    let (subject, content) = match kind {
        "confirmation" => ("Confirm your email address", include_str!("confirmation.html")),
        "invite" => ("You have been invited", include_str!("invite.html")),
        "magic_link" => ("Your sign-in link", include_str!("magic_link.html")),
        "recovery" => ("Reset your password", include_str!("recovery.html")),
        "email_change" => ("Confirm your new email address", include_str!("email_change.html")),
        "reauthentication" => ("Confirm it is you", include_str!("reauthentication.html")),
        _ => return None,
    };
    Some(Default { subject, content })
}
