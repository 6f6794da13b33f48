//! Tests of the service over its requests, each with a database of its own.
//!
//! Attacks, and the tests that try them:
//!
//! | attack | tests |
//! |---|---|
//! | `alg` none | `token_attacks::a_token_without_a_signature_opens_nothing` |
//! | `alg` confusion | `token_attacks::a_public_key_is_no_secret`, `token_attacks::an_algorithm_that_is_not_the_keys_opens_nothing` |
//! | `kid`, `jku` and the like | `token_attacks::a_header_does_not_choose_the_key` |
//! | tokens of other projects, issuers, times | `token_attacks::a_token_of_another_project_opens_nothing`, `token_attacks::a_token_out_of_its_time_opens_nothing`, `token_attacks::a_token_about_somebody_or_something_else_opens_nothing`, `token_attacks::a_session_of_somebody_else_is_none`, `provider_attacks::id_tokens_of_others_are_refused` |
//! | open redirects | `attacks::redirects_stay_where_the_project_wants_them`, `provider_attacks::redirects_lead_to_allowed_places_only`, and those of `redirect` |
//! | who has an account, by text and status | `attacks::answers_do_not_tell_who_has_an_account`, `account_attacks::asking_again_tells_nothing_of_an_address`, `account_attacks::numbers_do_not_tell_who_has_an_account`, `account_attacks::mails_that_are_not_sent_count_as_mails` |
//! | who has an account, by time | `attacks::the_time_of_a_sign_in_does_not_tell_who_has_an_account`, `attacks::the_time_of_a_mail_does_not_tell_who_has_an_account`, `sms_services::the_time_of_a_message_does_not_tell_whose_number_is_known` |
//! | OAuth state replay, login CSRF | `provider_attacks::a_state_is_good_for_one_callback_in_one_browser_for_a_while` |
//! | code replay | `attacks::a_code_of_a_flow_is_exchanged_once`, `concurrency::one_code_exchanged_by_twenty_is_one_session`, `concurrency::one_code_verified_by_fifty_succeeds_once`, `mfa::a_code_is_good_once_whatever_the_challenge` |
//! | refresh token replay | `attacks::a_stolen_refresh_token_ends_the_session_of_both`, `concurrency::one_refresh_token_used_by_fifty_is_one_rotation` |
//! | identity pre-hijack | `attacks::nobody_lays_out_a_password_for_somebody_elses_address`, `attacks::a_password_laid_out_does_not_survive_recovery_or_a_code`, `provider_attacks::what_an_attacker_laid_out_for_an_address_is_gone_when_its_owner_comes`, `provider_attacks::no_account_is_reached_through_an_address_that_nobody_verified`, `provider_attacks::an_identity_of_an_attacker_with_the_victims_address_links_nothing`, `identity_attacks::nothing_of_an_attacker_stays_when_the_owner_of_an_address_comes`, `identity_attacks::an_identity_is_linked_only_where_it_was_asked_for`, `phone::nothing_stays_of_what_an_attacker_chose_for_a_number` |
//! | taking accounts over | `account_attacks::a_sign_up_takes_no_account_that_somebody_is_in`, `account_attacks::a_password_that_was_changed_meanwhile_lets_nobody_in`, `account_attacks::a_session_that_ended_meanwhile_changes_nothing`, `identity_attacks::a_new_issuer_opens_no_account_of_the_old_one`, `plain_providers::another_server_of_a_provider_opens_no_account_of_the_one_before` |
//! | PKCE downgrade | `attacks::a_link_with_a_verifier_is_not_downgraded`, `provider_attacks::a_flow_with_a_verifier_cannot_be_turned_into_one_without` |
//! | admin routes with users' tokens | `admin::no_token_of_a_user_opens_the_admin_routes` |
//! | editing one's own `app_metadata` | `attacks::users_do_not_edit_their_app_metadata` |
//! | SQL and header injection | `attacks::what_is_sent_becomes_no_sql_and_no_header`, and `mailer`'s of messages |
//! | guessing | `account_attacks::guessing_a_code_ends_soon_and_its_link_goes_on_working`, `account_attacks::guessing_a_password_ends_soon_whoever_guesses`, `account_attacks::nobody_keeps_the_owner_of_an_account_out_by_guessing`, `account_attacks::the_spelling_of_a_factor_gives_no_more_tries` |
//! | second factors passed by | `account_attacks::a_session_without_a_second_factor_finishes_no_other`, `identity_attacks::an_id_token_links_nothing_without_the_second_factor`, `passkeys::a_second_factor_guards_passkeys_and_their_number_is_bounded` |
//! | requests to the server's own network | `provider_attacks::providers_at_private_addresses_are_not_spoken_to`, `https_hooks::a_hook_without_a_secret_or_at_a_private_address_is_not_called`, and those of `outbound` |
//! | owners against the server | `account_attacks::a_stored_hash_does_not_decide_what_it_costs`, `account_attacks::one_client_makes_no_accounts_without_end`, `hooks::a_hook_refuses_or_fails_and_nothing_is_half_made` |

mod account_attacks;
mod admin;
mod attacks;
mod bad_input;
mod captcha;
mod concurrency;
mod email_change;
mod flows;
mod hooks;
mod https_hooks;
mod identity_attacks;
mod mails;
mod mfa;
mod one_time_tokens;
mod passkeys;
mod phone;
mod plain_providers;
mod provider_attacks;
mod providers;
mod server;
mod sessions;
mod sms_services;
mod sweep;
mod token_attacks;
mod tokens;

use serde_json::{Value, json};

use server::{Answer, Key, Server};

/// Requests one after the other, each with the status and the error code that it has to get; "" is none.
async fn check(server: &Server, cases: &[(&str, &str, Value, u16, &str)]) {
    for (method, path, body, status, code) in cases {
        let answer = server.call(method, path, Key::Anon, body.clone()).await;
        assert_eq!((answer.status, answer.code()), (*status, *code), "{method} {path} {body}: {}", answer.body);
    }
}

/// An address that no other test has; each has a database of its own, so any would do.
const ANN: &str = "ann@example.org";
const PASSWORD: &str = "correct horse battery";

fn credentials() -> Value {
    json!({ "email": ANN, "password": PASSWORD })
}

/// The table above names tests that are there.
#[test]
fn every_attack_has_the_tests_that_it_says() {
    let here = include_str!("mod.rs");
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tests");
    let rows = here.lines().take_while(|line| line.starts_with("//!"));
    let names = rows.flat_map(|row| row.split('`').skip(1).step_by(2)).filter_map(|name| name.split_once("::"));
    let mut found = 0;
    for (file, test) in names {
        let text = std::fs::read_to_string(folder.join(format!("{file}.rs"))).unwrap_or_default();
        assert!(text.contains(&format!("fn {test}()")), "there is no test {file}::{test}");
        found += 1;
    }
    assert!(found > 30, "{found}");
}
