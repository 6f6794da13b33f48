//! The database that projects are copied from.

use base::digest;
use tokio_postgres::Client;

use super::cluster::Cluster;
use super::store;
use super::{ProvisionError, Provisioner};
use crate::baseline;

const PREFIX: &str = "launchdb_template_";
/// Subject of a template's marker.
const SUBJECT: &str = "template";

impl Provisioner {
    /// The template's name carries what it was made of, so a grown baseline has another one: it is made beside the old,
    /// which is dropped afterwards. Nothing that is copied right now ever changes.
    pub(super) async fn prepare_template(&self, admin: &Client, cluster: &Cluster) -> Result<String, ProvisionError> {
        let name = self.template_name(cluster);
        if store::database::database_get(admin, &name).await?.is_none() {
            self.make_template(admin, cluster, &name).await?;
        }
        for old in store::database::databases_marked(admin, &cluster.marker_prefix()).await? {
            if old.name != name && cluster.is_ours(old.comment.as_deref(), SUBJECT) {
                store::database::template_drop(admin, &old.name).await?;
            }
        }
        Ok(name)
    }

    pub(super) fn template_name(&self, cluster: &Cluster) -> String {
        let fingerprint = baseline::fingerprint(self.0.files);
        let content = [&fingerprint, &cluster.owner_role, &cluster.instance].map(String::as_str);
        format!("{PREFIX}{}", &digest::sha256_hex(content.join("\n").as_bytes())[..16])
    }

    async fn make_template(&self, admin: &Client, cluster: &Cluster, name: &str) -> Result<(), ProvisionError> {
        // A crash leaves a database of this name, which the next start drops; the final name means complete.
        let unfinished = format!("{name}_new");
        store::database::database_drop(admin, &unfinished).await?;
        store::database::template_begin(admin, &unfinished).await?;
        let options = baseline::session_options(&cluster.owner_role);
        let mut client = self.connect(&self.admin_target(&unfinished), &options).await?;
        baseline::apply(&mut client, None, true, self.0.files).await.map_err(ProvisionError::database)?;
        store::database::template_freeze(&client).await?;
        drop(client);
        store::database::sessions_end_and_wait(admin, &unfinished).await?;
        let comment = cluster.marker(SUBJECT, "ready").text();
        store::database::template_finish_in_tx(admin, &unfinished, name, &comment).await?;
        Ok(())
    }
}
