//! Chooses the media type of the answer and what makes its body.

use crate::api_request::ApiRequest;
use crate::api_request::preferences::PreferRepresentation;
use crate::api_request::types::{Action, InvokeMethod};
use crate::config::Config;
use crate::error::Error;
use crate::identifier::QualifiedIdentifier;
use crate::media_type::MediaType;
use crate::schema_cache::{HandlerTarget, MediaHandler, ResolvedHandler, SchemaCache};

/// The first of the accepted media types that can be made of `target`. Handlers that a relation or a function has of
/// its own are only for its whole rows.
pub(super) fn negotiate(
    config: &Config,
    request: &ApiRequest,
    target: &QualifiedIdentifier,
    cache: &SchemaCache,
    selects_all: bool,
) -> Result<ResolvedHandler, Error> {
    let accepted = &request.accept;
    let lookup = |media_type: &MediaType| -> Option<ResolvedHandler> {
        let find = |target: HandlerTarget, media_type: &MediaType| {
            cache.media_handlers.get(&(target, media_type.clone())).cloned()
        };
        let own = |media_type: &MediaType| {
            // Without custom handlers there is nothing but the built-in ones.
            let custom = selects_all && cache.has_custom_media_handlers();
            custom.then(|| find(HandlerTarget::Relation(target.clone()), media_type)).flatten()
        };
        own(&MediaType::Any).or_else(|| own(media_type)).or_else(|| find(HandlerTarget::AnyElement, media_type))
    };
    let make = |media_type: &MediaType| -> Option<ResolvedHandler> {
        match media_type {
            MediaType::VndSingularJson { nulls_stripped } => {
                Some((MediaHandler::SingleJson { nulls_stripped: *nulls_stripped }, media_type.clone()))
            }
            MediaType::VndArrayJsonStrip => Some((MediaHandler::ArrayJsonStrip, media_type.clone())),
            MediaType::VndPlan { media_type: planned, .. } if config.db_plan_enabled => {
                let handler = match &**planned {
                    MediaType::VndSingularJson { nulls_stripped } => {
                        MediaHandler::SingleJson { nulls_stripped: *nulls_stripped }
                    }
                    MediaType::VndArrayJsonStrip => MediaHandler::ArrayJsonStrip,
                    planned => lookup(planned)?.0,
                };
                Some((handler, media_type.clone()))
            }
            MediaType::VndPlan { .. } => None,
            media_type => lookup(media_type),
        }
    };
    let (handler, media_type) = accepted
        .iter()
        .find_map(make)
        .ok_or_else(|| Error::MediaType(accepted.iter().map(|m| m.mime().into_owned()).collect()))?;
    let has_body = match &request.action {
        Action::RelationMutate { .. } => request.preferences.representation == Some(PreferRepresentation::Full),
        Action::RelationRead { headers_only, .. }
        | Action::Routine { method: InvokeMethod::Read { headers_only }, .. } => !headers_only,
        _ => true,
    };
    Ok((if has_body { handler } else { MediaHandler::None }, media_type))
}
