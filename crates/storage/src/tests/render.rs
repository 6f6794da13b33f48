//! Transformed images at the wire.

use std::io::Cursor;

use axum::body::Body;
use image::{DynamicImage, ImageFormat};
use serde_json::json;

use super::{Answer, USER_A, USER_B, Who, World};

fn png(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    DynamicImage::new_rgba8(width, height).write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

async fn world() -> World {
    let world = World::with_buckets().await;
    for bucket in ["open", "private"] {
        let line = format!("POST /object/{bucket}/a.png");
        let put = world.ask(Who::User(USER_A), &line, &[("content-type", "image/png")], png(40, 20)).await;
        assert_eq!(put.outcome(), "200", "{}", put.text());
    }
    world
}

fn size(answer: &Answer) -> (u32, u32) {
    let picture = image::load_from_memory(&answer.body).unwrap_or_else(|_| panic!("no image: {}", answer.text()));
    (picture.width(), picture.height())
}

#[tokio::test]
async fn who_may_read_an_image_may_see_it_smaller() {
    let world = world().await;
    let public = world.get(Who::Nobody, "/render/image/public/open/a.png?width=20").await;
    assert_eq!((size(&public), public.header("content-type")), ((20, 10), "image/png"));
    assert_eq!(public.header("content-length"), public.body.len().to_string());
    assert_eq!(public.header("vary"), "Accept");
    let own = world.get(Who::User(USER_A), "/render/image/authenticated/private/a.png?width=10&height=10").await;
    assert_eq!(size(&own), (10, 10));
    for (who, path) in [
        (Who::Nobody, "/render/image/public/private/a.png"),
        (Who::User(USER_B), "/render/image/authenticated/private/a.png"),
        (Who::Nobody, "/render/image/authenticated/private/a.png"),
    ] {
        assert!(world.get(who, path).await.outcome().starts_with("400 404"), "{path}");
    }
    let accept = [("accept", "image/avif,image/webp,*/*")];
    let webp = world.ask(Who::Nobody, "GET /render/image/public/open/a.png", &accept, Body::empty()).await;
    assert_eq!((size(&webp), webp.header("content-type")), ((40, 20), "image/webp"));
    let again = [("if-none-match", public.header("etag"))];
    let again = world.ask(Who::Nobody, "GET /render/image/public/open/a.png?width=20", &again, Body::empty()).await;
    assert_eq!(again.status.as_u16(), 304);
    let head = world.ask(Who::Nobody, "HEAD /render/image/public/open/a.png?width=20", &[], Body::empty()).await;
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
    // What replaced it is what is seen.
    let upsert = [("content-type", "image/png"), ("x-upsert", "true")];
    world.ask(Who::User(USER_A), "POST /object/open/a.png", &upsert, png(10, 10)).await;
    let replaced = world.get(Who::Nobody, "/render/image/public/open/a.png?width=20").await;
    assert_eq!(size(&replaced), (10, 10));
    assert_ne!(replaced.header("etag"), public.header("etag"));
}

#[tokio::test]
async fn bad_requests_and_originals() {
    let world = world().await;
    for bad in ["width=0", "width=x", "quality=1", "resize=crop", "format=tiff"] {
        let answer = world.get(Who::Nobody, &format!("/render/image/public/open/a.png?{bad}")).await;
        assert_eq!(answer.outcome(), "400 400 InvalidRequest", "{bad}");
    }
    let avif = world.get(Who::Nobody, "/render/image/public/open/a.png?format=avif").await;
    assert_eq!(avif.outcome(), "501 501 NotSupported");
    world.put(Who::User(USER_A), "open/text", "no image").await;
    let text = world.get(Who::Nobody, "/render/image/public/open/text?width=1").await;
    assert_eq!(text.outcome(), "400 422 InvalidImage");
    let none = world.get(Who::Nobody, "/render/image/public/open/none.png?width=1").await;
    assert_eq!(none.outcome(), "400 404 not_found");
}

#[tokio::test]
async fn a_signed_link_shows_what_was_signed_and_nothing_else() {
    let world = world().await;
    let user = Who::User(USER_A);
    let signed = world
        .post(user, "/object/sign/private/a.png", json!({"expiresIn": 60, "transform": {"width": 20, "quality": 50}}))
        .await;
    let link = signed.json()["signedURL"].as_str().unwrap_or_else(|| panic!("{}", signed.text())).to_owned();
    assert!(link.starts_with("/render/image/sign/private/a.png?token="), "{link}");
    let seen = world.get(Who::Nobody, &link).await;
    assert_eq!(size(&seen), (20, 10));
    assert_eq!(size(&world.get(Who::Nobody, &format!("{link}&width=40")).await), (20, 10), "the token decides");
    let original = world.get(Who::Nobody, &link.replace("/render/image/sign/", "/object/sign/")).await;
    assert_eq!(original.outcome(), "400 400 InvalidSignature");
    world.clock.advance(61);
    assert_eq!(world.get(Who::Nobody, &link).await.outcome(), "400 400 InvalidJWT");
    let bad =
        world.post(user, "/object/sign/private/a.png", json!({"expiresIn": 60, "transform": {"width": -1}})).await;
    assert_eq!(bad.outcome(), "400 400 InvalidRequest");
}

#[tokio::test]
async fn limits_and_the_switch() {
    let small = crate::RenderLimits { original_bytes: 10, ..Default::default() };
    let few = crate::RenderLimits { original_pixels: 100, ..Default::default() };
    let none = crate::RenderLimits { at_once: 1, waiting: 0, ..Default::default() };
    for (limits, enabled, expected) in [
        (none, true, "200"),
        (small, true, "400 422 InvalidImage"),
        (few, true, "400 422 InvalidImage"),
        (none, false, "400 403 FeatureNotEnabled"),
    ] {
        let world = World::start_with(|project, config| {
            config.render = limits;
            project.storage.features.image_transformation = Some(base::settings::StorageFeature { enabled });
        })
        .await;
        world.add_buckets().await;
        let headers = [("content-type", "image/png")];
        world.ask(Who::User(USER_A), "POST /object/open/a.png", &headers, png(40, 20)).await;
        let answer = world.get(Who::Nobody, "/render/image/public/open/a.png?width=10").await;
        assert_eq!(answer.outcome(), expected, "{limits:?}");
    }
}
