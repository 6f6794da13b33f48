//! `NOTIFY` as a way to ask for reloads (PostgREST docs, "Listener").

use std::sync::atomic::Ordering;
use std::time::Duration;

use pg::Listener;

use super::reload::{self, FIRST_DELAY, LONGEST_DELAY};
use super::{Reload, Server, StartError};

/// Listens for good; ends only when the server may not go on without its database.
pub(super) async fn listen(server: &Server) -> StartError {
    let mut delay = FIRST_DELAY;
    // Notifications may have been missed.
    let mut missed = false;
    loop {
        let settings = &server.current().drop_in;
        if !settings.db_channel_enabled {
            server.state.config_changed.notified().await;
            continue;
        }
        let channel = &settings.db_channel;
        let connect = server.current().instance.connect_config().clone();
        match Listener::connect(&connect, channel, &server.shared.tasks).await {
            Ok(listener) => {
                tracing::info!("listening for notifications on the channel \"{channel}\"");
                server.state.listening.store(true, Ordering::Relaxed);
                if missed {
                    server.state.wanted.notify_one();
                }
                delay = FIRST_DELAY;
                if heed(server, listener, channel).await {
                    server.state.listening.store(false, Ordering::Relaxed);
                    missed = false;
                    continue;
                }
                tracing::error!("the connection that listens on \"{channel}\" was lost");
            }
            Err(error) => tracing::error!("cannot listen on the channel \"{channel}\": {error}"),
        }
        server.state.listening.store(false, Ordering::Relaxed);
        missed = true;
        if !server.current().drop_in.db_pool_automatic_recovery {
            return StartError::NoRecovery;
        }
        tracing::info!("listening is tried again in {} s", delay.as_secs());
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = server.state.back.notified() => {}
        }
        delay = (delay * 2).min(LONGEST_DELAY);
    }
}

/// Does what notifications ask for. True when another channel is to be listened on, false when the connection is gone.
async fn heed(server: &Server, mut listener: Listener, channel: &str) -> bool {
    loop {
        let payload = tokio::select! {
            payload = listener.next() => payload,
            () = server.state.config_changed.notified() => {
                let settings = &server.current().drop_in;
                if settings.db_channel_enabled && settings.db_channel == channel {
                    continue;
                }
                return true;
            }
        };
        match payload.as_deref() {
            Some("" | "reload schema") => {
                tracing::info!("\"{channel}\" asks for a new schema cache");
                server.state.wanted.notify_one();
            }
            Some("reload config") => {
                tracing::info!("\"{channel}\" asks for the configuration to be read again");
                reload::on_demand(server, Reload::Config).await;
            }
            // Of no concern to us.
            Some(_) => {}
            None => return false,
        }
        // What a burst of notifications asks for is done once.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
