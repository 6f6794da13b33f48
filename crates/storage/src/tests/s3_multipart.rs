//! Uploads in parts over S3.

use base::random::to_hex;
use md5::Digest as _;

use super::s3::{ask, element, elements, outcome, service, user, world};
use super::{USER_A, USER_B, Who, World};
use crate::reconcile::Scope;
use crate::s3::sigv4::tests::Signer;

const MIB: usize = 1024 * 1024;

async fn begin(world: &World, signer: &Signer, key: &str) -> String {
    let headers = [("content-type", "text/x"), ("x-amz-meta-a", "b")];
    let answer = ask(world, signer, &format!("POST /s3/private/{key}?uploads"), &headers, "").await;
    assert_eq!(outcome(&answer), "200", "{}", answer.text());
    element(&answer.text(), "UploadId").to_owned()
}

fn list(parts: &[(u32, &str)]) -> String {
    let parts =
        parts.iter().map(|(number, etag)| format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"));
    format!("<CompleteMultipartUpload>{}</CompleteMultipartUpload>", parts.collect::<String>())
}

/// The owner of a project writes what its rows say: none of it becomes a path.
#[tokio::test]
async fn rows_name_no_files() {
    let world = world().await;
    let s3 = service(&world);
    let outside = world.root.path().join("secrets.env");
    std::fs::write(&outside, "a secret").unwrap();
    let begun = ask(&world, &s3, "POST /s3/private/stolen?uploads", &[], "").await;
    let id = element(&begun.text(), "UploadId").to_owned();
    let part = format!("/s3/private/stolen?partNumber=1&uploadId={id}");
    assert_eq!(outcome(&ask(&world, &s3, &format!("PUT {part}"), &[], "part").await), "200");
    for version in
        [outside.display().to_string(), "../../../secrets.env".to_owned(), "../..".to_owned(), ".".to_owned()]
    {
        world.sql(&format!("update storage.s3_multipart_uploads_parts set version = '{version}', size = 8")).await;
        let etag = world.value("select etag from storage.s3_multipart_uploads_parts").await;
        let list = format!(
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
        );
        let done = ask(&world, &s3, &format!("POST /s3/private/stolen?uploadId={id}"), &[], list).await;
        assert_eq!(outcome(&done), "400 InvalidPart", "{version}: {}", done.text());
        // The part that is replaced is not removed where the row says.
        assert_eq!(outcome(&ask(&world, &s3, &format!("PUT {part}"), &[], "part").await), "200", "{version}");
        assert_eq!(std::fs::read_to_string(&outside).unwrap(), "a secret", "{version}");
    }
    world.sql("update storage.s3_multipart_uploads_parts set size = 9223372036854775807").await;
    let etag = world.value("select etag from storage.s3_multipart_uploads_parts").await;
    let list = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
    );
    let done = ask(&world, &s3, &format!("POST /s3/private/stolen?uploadId={id}"), &[], list).await;
    assert_eq!(outcome(&done), "413 EntityTooLarge");
    // Not even the upload's own name is taken from its row.
    let victim = world.root.path().join("proj_victim");
    std::fs::create_dir(&victim).unwrap();
    world
        .sql(
            "create collation blind (provider = icu, locale = 'und-u-ka-shifted', deterministic = false);
             alter table storage.s3_multipart_uploads_parts drop constraint s3_multipart_uploads_parts_upload_id_fkey;
             alter table storage.s3_multipart_uploads alter column id type text collate blind;
             update storage.s3_multipart_uploads set id = '../../proj_victim'",
        )
        .await;
    let aborted = ask(&world, &s3, "DELETE /s3/private/stolen?uploadId=projvictim", &[], "").await;
    assert_eq!(outcome(&aborted), "204");
    assert!(victim.exists());
    assert_eq!(world.get(Who::Service, "/object/private/stolen").await.outcome(), "400 404 not_found");
}

#[tokio::test]
async fn parts_become_one_object() {
    let world = world().await;
    let a = user(&world, USER_A);
    let id = begin(&world, &a, "big").await;
    let put = async |number: u32, body: Vec<u8>| {
        let line = format!("PUT /s3/private/big?partNumber={number}&uploadId={id}");
        let answer = ask(&world, &a, &line, &[], body).await;
        assert_eq!(outcome(&answer), "200", "{}", answer.text());
        answer.header("etag").to_owned()
    };
    let (first, last) = (vec![1; 5 * MIB], vec![2; 10]);
    put(1, vec![9; 100]).await;
    let etags = [put(1, first.clone()).await, put(7, last.clone()).await];
    assert_eq!(
        world.value("select in_progress_size from storage.s3_multipart_uploads").await,
        (5 * MIB + 10).to_string()
    );
    let parts = ask(&world, &a, &format!("GET /s3/private/big?uploadId={id}"), &[], "").await.text();
    assert_eq!(elements(&parts, "PartNumber"), ["1", "7"], "{parts}");
    let page = ask(&world, &a, &format!("GET /s3/private/big?uploadId={id}&max-parts=1"), &[], "").await.text();
    assert_eq!((element(&page, "IsTruncated"), element(&page, "NextPartNumberMarker")), ("true", "1"));
    let uploads = ask(&world, &a, "GET /s3/private?uploads", &[], "").await.text();
    assert_eq!(elements(&uploads, "UploadId"), [&id], "{uploads}");
    assert_eq!(world.value("select count(*) from storage.objects").await, "0", "nothing is there before the end");

    let complete =
        async |body: String| ask(&world, &a, &format!("POST /s3/private/big?uploadId={id}"), &[], body).await;
    for (parts, expected) in [
        (&[(1, &*etags[0]), (7, "\"0\"")][..], "400 InvalidPart"),
        (&[(1, &etags[0]), (2, &etags[1])], "400 InvalidPart"),
        (&[(7, &etags[1]), (1, &etags[0])], "400 InvalidPartOrder"),
        (&[], "400 MalformedXML"),
    ] {
        assert_eq!(outcome(&complete(list(parts)).await), expected, "{parts:?}");
    }
    let done = complete(list(&[(1, &etags[0]), (7, &etags[1])])).await;
    assert_eq!(outcome(&done), "200", "{}", done.text());
    let mut md5 = md5::Md5::new();
    md5.update(md5::Md5::digest(&first));
    md5.update(md5::Md5::digest(&last));
    let expected = format!("\"{}-2\"", to_hex(&md5.finalize()));
    let got = ask(&world, &a, "GET /s3/private/big", &[], "").await;
    assert_eq!(got.body, [first, last].concat());
    assert_eq!((got.header("etag"), got.header("content-type")), (&*expected, "text/x"));
    assert_eq!(got.header("x-amz-meta-a"), "b");
    assert_eq!(outcome(&complete(list(&[(1, &etags[0])])).await), "404 NoSuchUpload");
    assert_eq!(world.files().len(), 1, "no part is left: {:?}", world.files());
    let scope = Scope { checksums: true, repair: false, grace: 0, uploads_grace: 0 };
    let report = world.storage.reconcile(&world.project, scope).await.unwrap();
    assert!(report.is_clean() && report.bytes_read == 5 * MIB as u64 + 10, "{report:?}");
}

#[tokio::test]
async fn an_upload_is_its_owners() {
    let world = world().await;
    let (a, b, service) = (user(&world, USER_A), user(&world, USER_B), service(&world));
    let id = begin(&world, &a, "mine").await;
    let check = async |signer: &Signer, line: &str, expected: &str| {
        let answer = ask(&world, signer, &line.replace("ID", &id), &[], "x").await;
        assert_eq!(outcome(&answer), expected, "{line}: {}", answer.text());
    };
    check(&b, "PUT /s3/private/mine?partNumber=1&uploadId=ID", "404 NoSuchUpload").await;
    check(&b, "GET /s3/private/mine?uploadId=ID", "404 NoSuchUpload").await;
    check(&b, "DELETE /s3/private/mine?uploadId=ID", "404 NoSuchUpload").await;
    check(&a, "PUT /s3/private/other?partNumber=1&uploadId=ID", "404 NoSuchUpload").await;
    let of_b = ask(&world, &b, "GET /s3/private?uploads", &[], "").await;
    assert_eq!(elements(&of_b.text(), "UploadId"), [""; 0]);
    check(&service, "PUT /s3/private/mine?partNumber=1&uploadId=ID", "200").await;
    assert_eq!(world.files().len(), 1);
    // Whose policies are gone may still clear up.
    world.sql("drop policy own on storage.objects").await;
    check(&a, "PUT /s3/private/mine?partNumber=2&uploadId=ID", "403 AccessDenied").await;
    check(&a, "DELETE /s3/private/mine?uploadId=ID", "204").await;
    check(&a, "DELETE /s3/private/mine?uploadId=ID", "404 NoSuchUpload").await;
    assert_eq!(world.files(), [""; 0]);
    let refused = ask(&world, &a, "POST /s3/private/new?uploads", &[], "").await;
    assert_eq!(outcome(&refused), "403 AccessDenied");
}

#[tokio::test]
async fn parts_of_other_objects() {
    let world = world().await;
    let (a, b) = (user(&world, USER_A), user(&world, USER_B));
    ask(&world, &a, "PUT /s3/private/source", &[], "0123456789").await;
    let id = begin(&world, &a, "copy").await;
    let copy = async |signer: &Signer, number: u32, range: Option<&str>| {
        let mut headers = vec![("x-amz-copy-source", "private/source")];
        headers.extend(range.map(|range| ("x-amz-copy-source-range", range)));
        ask(&world, signer, &format!("PUT /s3/private/copy?partNumber={number}&uploadId={id}"), &headers, "").await
    };
    let part = copy(&a, 1, Some("bytes=2-4")).await;
    assert_eq!(outcome(&part), "200", "{}", part.text());
    assert_eq!(outcome(&copy(&a, 1, Some("bytes=2-10")).await), "416 InvalidRange");
    assert_eq!(outcome(&copy(&a, 1, Some("bytes=2-")).await), "400 InvalidArgument");
    assert_eq!(outcome(&copy(&b, 1, None).await), "404 NoSuchUpload");
    let etag = element(&part.text(), "ETag").to_owned();
    let done = ask(&world, &a, &format!("POST /s3/private/copy?uploadId={id}"), &[], list(&[(1, &etag)])).await;
    assert_eq!(outcome(&done), "200", "{}", done.text());
    assert_eq!(ask(&world, &a, "GET /s3/private/copy", &[], "").await.text(), "234");
}

#[tokio::test]
async fn what_nobody_completes_goes_after_a_week() {
    let world = world().await;
    let a = user(&world, USER_A);
    let (old, new) = (begin(&world, &a, "old").await, begin(&world, &a, "new").await);
    for (key, id) in [("old", &old), ("new", &new)] {
        ask(&world, &a, &format!("PUT /s3/private/{key}?partNumber=1&uploadId={id}"), &[], "x").await;
    }
    world.sql("update storage.s3_multipart_uploads set created_at = now() - interval '8 days' where key = 'old'").await;
    let scope = Scope { checksums: false, repair: true, grace: 0, uploads_grace: 0 };
    let report = world.storage.reconcile(&world.project, scope).await.unwrap();
    assert_eq!(report.expired_uploads, 1, "{report:?}");
    assert_eq!(world.value("select string_agg(key, ',') from storage.s3_multipart_uploads").await, "new");
    assert_eq!(world.files().len(), 1, "{:?}", world.files());
}
