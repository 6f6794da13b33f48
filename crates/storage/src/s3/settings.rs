//! Settings of buckets and objects that S3 has and this server has not. Clients read them all the same, to show them or to
//! see whether there is something to do: they are told what S3 tells of a bucket on which nobody set anything.

use axum::response::Response;
use serde::Serialize;

use super::bucket::{Owner, check_visible};
use super::error::S3Error;
use super::object::find;
use super::{S3Cx, xml};
use crate::key::BucketId;
use crate::route::ObjectPath;

/// What S3 tells of a setting that nobody set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    /// The owner may do everything; row level security says who else may do what.
    AccessControlList,
    /// An error with this code and text.
    Missing(&'static str, &'static str),
    /// A document with this root and nothing in it.
    Empty(&'static str),
    /// Who asks pays nothing.
    RequestPayment,
}

/// The setting of a bucket that a word in the query names.
pub(super) fn of_bucket(name: &str) -> Option<Setting> {
    use Setting::{Empty, Missing};
    Some(match name {
        "acl" => Setting::AccessControlList,
        "policy" | "policyStatus" => Missing("NoSuchBucketPolicy", "The bucket policy does not exist"),
        "cors" => Missing("NoSuchCORSConfiguration", "The CORS configuration does not exist"),
        "lifecycle" => Missing("NoSuchLifecycleConfiguration", "The lifecycle configuration does not exist"),
        "website" => {
            Missing("NoSuchWebsiteConfiguration", "The specified bucket does not have a website configuration")
        }
        "tagging" => Missing("NoSuchTagSet", "The TagSet does not exist"),
        "encryption" => Missing(
            "ServerSideEncryptionConfigurationNotFoundError",
            "The server side encryption configuration was not found",
        ),
        "replication" => {
            Missing("ReplicationConfigurationNotFoundError", "The replication configuration was not found")
        }
        "object-lock" => {
            Missing("ObjectLockConfigurationNotFoundError", "Object Lock configuration does not exist for this bucket")
        }
        "publicAccessBlock" => {
            Missing("NoSuchPublicAccessBlockConfiguration", "The public access block configuration was not found")
        }
        "ownershipControls" => {
            Missing("OwnershipControlsNotFoundError", "The bucket ownership controls were not found")
        }
        "logging" => Empty("BucketLoggingStatus"),
        "notification" => Empty("NotificationConfiguration"),
        "accelerate" => Empty("AccelerateConfiguration"),
        "requestPayment" => Setting::RequestPayment,
        _ => return None,
    })
}

/// The same of an object.
pub(super) fn of_object(name: &str) -> Option<Setting> {
    match name {
        "acl" => Some(Setting::AccessControlList),
        "retention" | "legal-hold" => Some(Setting::Missing(
            "NoSuchObjectLockConfiguration",
            "The specified object does not have an ObjectLock configuration",
        )),
        _ => None,
    }
}

#[derive(Serialize)]
struct Grantee {
    #[serde(rename = "@xmlns:xsi")]
    namespace: &'static str,
    #[serde(rename = "@xsi:type")]
    kind: &'static str,
    #[serde(flatten)]
    owner: Owner,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Grant {
    grantee: Grantee,
    permission: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Grants {
    grant: Grant,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct AccessControlPolicy {
    owner: Owner,
    access_control_list: Grants,
}

#[derive(Serialize)]
struct Nothing {}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct RequestPayment {
    payer: &'static str,
}

impl Setting {
    fn tell(self, s3: &S3Cx) -> Result<Response, S3Error> {
        match self {
            Self::Missing(code, message) => Err(S3Error::NoSuchSetting { code, message }),
            Self::Empty(root) => xml::answer(root, &Nothing {}),
            Self::RequestPayment => {
                xml::answer("RequestPaymentConfiguration", &RequestPayment { payer: "BucketOwner" })
            }
            Self::AccessControlList => {
                let grantee = Grantee {
                    namespace: "http://www.w3.org/2001/XMLSchema-instance",
                    kind: "CanonicalUser",
                    owner: Owner::of(s3),
                };
                let grant = Grant { grantee, permission: "FULL_CONTROL" };
                let policy = AccessControlPolicy { owner: Owner::of(s3), access_control_list: Grants { grant } };
                xml::answer("AccessControlPolicy", &policy)
            }
        }
    }
}

pub(super) async fn get_bucket_setting(s3: &S3Cx, bucket: &BucketId, setting: Setting) -> Result<Response, S3Error> {
    check_visible(s3, bucket).await?;
    setting.tell(s3)
}

pub(super) async fn get_object_setting(s3: &S3Cx, at: &ObjectPath, setting: Setting) -> Result<Response, S3Error> {
    find(s3, at).await?;
    setting.tell(s3)
}
